/**
 * What settings must be together. Each check names its variables and runs only when all of them are well-formed.
 * Also the table of what this release cannot do yet: such a setting is said in a warning, never ignored in silence.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { FIRST_EMAIL } from '../identity/first-start.ts';
import { passwordProblem } from '../identity/password-rules.ts';
import { isPublicAddress } from '../notify/webhook/addresses.ts';
import { overlap, topicMistake } from '../transports/mqtt/topic.ts';
import type { Settings } from './settings-shape.ts';

/** A rule over several settings; answers what is wrong. */
interface Check {
  readonly about: readonly (keyof Settings)[];
  readonly mistake: (settings: Settings) => string | null;
}

function together(one: keyof Settings, oneName: string, other: keyof Settings, otherName: string): Check {
  return {
    about: [one, other],
    mistake: (settings) => {
      if ((settings[one] === null) === (settings[other] === null)) return null;
      const [given, missing] = settings[one] === null ? [otherName, oneName] : [oneName, otherName];
      return `${missing} must be given with ${given}`;
    },
  };
}

function needs(one: keyof Settings, oneName: string, other: keyof Settings, otherName: string): Check {
  return {
    about: [one, other],
    mistake: (settings) =>
      settings[one] !== null && settings[other] === null ? `${otherName} must be given with ${oneName}` : null,
  };
}

const CHECKS: readonly Check[] = [
  together('tlsCertFile', 'TLS_CERT', 'tlsKeyFile', 'TLS_KEY'),
  needs('tlsClientCaFile', 'TLS_CLIENT_CA', 'tlsCertFile', 'TLS_CERT'),
  needs('databaseUrl', 'DATABASE_URL', 'clusterSecret', 'CLUSTER_SECRET'),
  together('redisSentinels', 'REDIS_SENTINELS', 'redisSentinelName', 'REDIS_SENTINEL_NAME'),
  {
    about: ['adminEmail', 'adminPassword'],
    mistake: ({ adminEmail, adminPassword }) => {
      if (adminPassword === null) return null;
      const problem = passwordProblem(adminPassword, adminEmail ?? FIRST_EMAIL);
      return problem === null ? null : `ADMIN_PASSWORD ${problem}`;
    },
  },
  together('mqttClientCertFile', 'CLIENT_CERT', 'mqttClientKeyFile', 'CLIENT_KEY'),
  needs('mqttPassword', 'MQTT_PASSWORD', 'mqttUsername', 'MQTT_USERNAME'),
  {
    about: ['tlsCertFile', 'tlsKeyFile'],
    mistake: ({ tlsCertFile, tlsKeyFile }) => keyMistake('TLS_CERT', tlsCertFile, 'TLS_KEY', tlsKeyFile),
  },
  {
    about: ['mqttClientCertFile', 'mqttClientKeyFile'],
    mistake: (settings) =>
      keyMistake('CLIENT_CERT', settings.mqttClientCertFile, 'CLIENT_KEY', settings.mqttClientKeyFile),
  },
  { about: ['mqttTopic'], mistake: ({ mqttTopic }) => wrongTopic('MQTT_TOPIC', mqttTopic) },
  {
    about: ['mqttReadingsTopic'],
    mistake: ({ mqttReadingsTopic }) => wrongTopic('MQTT_READINGS_TOPIC', mqttReadingsTopic),
  },
  {
    about: ['mqttTopic', 'mqttReadingsTopic'],
    mistake: ({ mqttTopic, mqttReadingsTopic }) =>
      overlap(mqttTopic, mqttReadingsTopic)
        ? `MQTT_TOPIC and MQTT_READINGS_TOPIC must not fit the same topic; ${mqttTopic} and ${mqttReadingsTopic} do`
        : null,
  },
  {
    about: ['mqttBackoffMinSeconds', 'mqttBackoffMaxSeconds'],
    mistake: ({ mqttBackoffMinSeconds: least, mqttBackoffMaxSeconds: most }) =>
      least > most ? `MQTT_BACKOFF_MIN must be at most MQTT_BACKOFF_MAX (${most}), not ${least}` : null,
  },
  {
    about: ['redisUrl', 'redisClusterNodes', 'redisSentinels'],
    mistake: ({ redisUrl, redisClusterNodes, redisSentinels }) =>
      [redisUrl, redisClusterNodes, redisSentinels].filter((given) => given !== null).length > 1
        ? 'REDIS_URL, REDIS_CLUSTER_NODES and REDIS_SENTINELS exclude one another'
        : null,
  },
  {
    about: ['logBackend', 'redisUrl', 'redisClusterNodes', 'redisSentinels'],
    mistake: ({ logBackend, redisUrl, redisClusterNodes, redisSentinels }) =>
      logBackend === 'redis' && redisUrl === null && redisClusterNodes === null && redisSentinels === null
        ? 'REDIS_URL, REDIS_CLUSTER_NODES or REDIS_SENTINELS must be given with LOG_BACKEND=redis'
        : null,
  },
  {
    about: ['production', 'grpcPort', 'tlsClientCaFile'],
    mistake: ({ production, grpcPort, tlsClientCaFile }) =>
      production && grpcPort !== null && tlsClientCaFile === null
        ? 'GRPC_PORT must be off, or TLS_CLIENT_CA be given, with NODE_ENV=production'
        : null,
  },
  {
    about: ['host', 'wsPort', 'wsAuthToken'],
    mistake: ({ host, wsPort, wsAuthToken }) =>
      wsPort !== null && wsAuthToken === null && !isLoopback(host)
        ? 'WS_AUTH_TOKEN must be given with WS_PORT, or HOST be a loopback address'
        : null,
  },
  { about: ['port', 'wsPort', 'grpcPort', 'mqttEmbeddedPort', 'mqttBroker'], mistake: portClash },
  needs('webhookUrls', 'WEBHOOK_URLS', 'webhookSecrets', 'WEBHOOK_SECRETS'),
  { about: ['webhookUrls', 'webhookAllowPrivate'], mistake: webhookMistake },
  needs('smtpUrl', 'SMTP_URL', 'emailFrom', 'EMAIL_FROM'),
  needs('smtpUrl', 'SMTP_URL', 'emailTo', 'EMAIL_TO'),
  needs('emailTo', 'EMAIL_TO', 'smtpUrl', 'SMTP_URL'),
  {
    about: ['emailTo'],
    mistake: ({ emailTo }) =>
      (emailTo?.length ?? 0) > MOST_RECIPIENTS ? `EMAIL_TO must have at most ${MOST_RECIPIENTS} addresses` : null,
  },
];

/** Each webhook is a delivery of its own, with connections and statements of its own. */
const MOST_WEBHOOKS = 20;
/** A server refuses a message for many more (RFC 5321 section 4.5.3.1.8 asks for 100). */
const MOST_RECIPIENTS = 50;

function webhookMistake({ webhookUrls, webhookAllowPrivate }: Settings): string | null {
  if (webhookUrls === null) return null;
  if (webhookUrls.length > MOST_WEBHOOKS) return `WEBHOOK_URLS must have at most ${MOST_WEBHOOKS} entries`;
  if (webhookAllowPrivate) return null;
  const parsed = webhookUrls.map((text) => new URL(text));
  if (parsed.some(({ protocol }) => protocol !== 'https:')) {
    return 'WEBHOOK_URLS must begin with https:// (WEBHOOK_ALLOW_PRIVATE=true allows http)';
  }
  const literals = parsed
    .map(({ hostname }) => hostname.replace(/^\[(.*)\]$/, '$1'))
    .filter((name) => isIP(name) !== 0);
  return literals.every(isPublicAddress)
    ? null
    : 'WEBHOOK_URLS must name public addresses (WEBHOOK_ALLOW_PRIVATE=true allows others)';
}

function wrongTopic(name: string, filter: string): string | null {
  const mistake = topicMistake(filter);
  return mistake === null ? null : `${name} ${mistake}`;
}

/** True for a host that only this machine reaches. */
function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.');
  return host === '::1' || host.toLowerCase() === 'localhost';
}

function keyMistake(certName: string, certFile: string | null, keyName: string, keyFile: string | null): string | null {
  if (certFile === null || keyFile === null) return null;
  try {
    const key = createPrivateKey(readFileSync(keyFile));
    if (new X509Certificate(readFileSync(certFile)).checkPrivateKey(key)) return null;
    return `${keyName} must be the private key of ${certName}; it belongs to another certificate`;
  } catch {
    return `${certName} must hold a certificate and ${keyName} its private key, without a passphrase`;
  }
}

function portClash(settings: Settings): string | null {
  const ports = new Map<number, string>();
  const used: readonly (readonly [string, number | null])[] = [
    ['PORT', settings.port],
    ['WS_PORT', settings.wsPort],
    ['GRPC_PORT', settings.grpcPort],
    ['MQTT_EMBEDDED_PORT', settings.mqttBroker === null ? (settings.mqttEmbeddedPort?.port ?? null) : null],
  ];
  for (const [name, port] of used) {
    if (port === null || port === 0) continue;
    const before = ports.get(port);
    if (before !== undefined) return `${before} and ${name} must differ; both are ${port}`;
    ports.set(port, name);
  }
  return null;
}

/** What is wrong with well-formed settings, one line each. `bad`: fields whose own text was a mistake. */
export function checkTogether(settings: Settings, bad: ReadonlySet<keyof Settings>): string[] {
  return CHECKS.filter((check) => !check.about.some((field) => bad.has(field))).flatMap(
    (check) => check.mistake(settings) ?? [],
  );
}

/** Settings whose part of the program is not in this release: said once, when they were given. */
const WITHOUT_EFFECT_YET: readonly (readonly [keyof Settings, string])[] = [
  ['grpcPort', 'GRPC_PORT has no effect: gRPC is not in this release'],
  ['billingWebhookSecrets', 'BILLING_WEBHOOK_SECRET has no effect: billing is not in this release'],
  ['otlpEndpoint', 'OTEL_EXPORTER_OTLP_ENDPOINT has no effect: export of traces is not in this release'],
];

/** What an operator should hear of good settings, one line each. `given`: fields that were set. */
export function warningsOf(settings: Settings, given: ReadonlySet<keyof Settings>): string[] {
  const idle = WITHOUT_EFFECT_YET.filter(([field]) => given.has(field) && settings[field] !== null);
  const two = given.has('mqttEmbeddedPort') && settings.mqttEmbeddedPort !== null && settings.mqttBroker !== null;
  return [
    ...idle.map(([, line]) => line),
    ...(two ? [OUTSIDE] : []),
    ...(raisesNothing(settings) ? [RAISES_NOTHING] : []),
  ];
}

const OUTSIDE = 'MQTT_EMBEDDED_PORT has no effect: with MQTT_BROKER there is no embedded broker';

const RAISES_NOTHING =
  'ROLES has no worker, and without Redis no other process may be one: readings are accepted, but nothing is made of them';

function raisesNothing({ roles, redisUrl, redisClusterNodes, redisSentinels }: Settings): boolean {
  const alone = redisUrl === null && redisClusterNodes === null && redisSentinels === null;
  return alone && roles.includes('gateway') && !roles.includes('worker');
}

/** How the outside calls us once the listener has its port. */
export interface OutsideAddress {
  /** An origin, without a slash at the end. */
  readonly publicUrl: string;
  readonly jwtIssuer: string;
  readonly wsAllowedOrigins: readonly string[];
}

/** Fills in the settings that derive from `PUBLIC_URL`. `port` is the one that the listener got. */
export function outsideAddress(settings: Settings, port: number): OutsideAddress {
  const scheme = settings.tlsCertFile === null ? 'http' : 'https';
  const host = isIP(settings.host) === 6 ? `[${settings.host}]` : settings.host;
  const publicUrl = settings.publicUrl ?? new URL(`${scheme}://${host}:${port}`).origin;
  return {
    publicUrl,
    jwtIssuer: settings.jwtIssuer ?? publicUrl,
    wsAllowedOrigins: settings.wsAllowedOrigins ?? [publicUrl],
  };
}
