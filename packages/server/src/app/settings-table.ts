/**
 * The table of settings: every environment variable with its type, default and prose. `docs/settings.md` shows exactly
 * these rows (a test compares them). Order: as in the document.
 */
import { SEVERITIES } from '@tocsin/protocol/alert';
import { LIMITS } from '@tocsin/protocol/limits';
import { CLUSTER_SECRET_LEAST_CHARACTERS } from '../identity/secrets.ts';
import {
  type SettingType,
  addressOrRange,
  anyText,
  decimal,
  eMail,
  folder,
  host,
  httpOrigin,
  listOf,
  oneOf,
  orOff,
  pemFile,
  postgresUrl,
  redisNode,
  redisUrl,
  secret,
  smtpUrl,
  token,
  topicFilter,
  trueOrFalse,
  url,
  webhookSecret,
  wholeNumber,
} from './setting-types.ts';
import type { EmbeddedPort, Settings } from './settings-shape.ts';

/** One row. `fallback` is read like a given text; null: the value is null, `shown` says what that means. */
export interface SettingRow<Value> {
  readonly name: string;
  readonly type: SettingType<Value>;
  readonly fallback: string | null;
  /** The default as people read it. */
  readonly shown: string;
  readonly prose: string;
}

/** A row for each field of {@link Settings}. */
export type SettingsTable = { readonly [Field in keyof Settings]: SettingRow<Settings[Field]> };

function row<Value>(name: string, type: SettingType<Value>, fallback: string, prose: string): SettingRow<Value> {
  return { name, type, fallback, shown: `\`${fallback}\``, prose };
}

function optional<Value>(
  name: string,
  type: SettingType<Value>,
  shown: string,
  prose: string,
): SettingRow<Value | null> {
  return { name, type, fallback: null, shown, prose };
}

const port = wholeNumber(1, 65_535);
const anyPort = wholeNumber(0, 65_535);
/** An empty text is never a given one. */
const embeddedPort: SettingType<EmbeddedPort | null> = orOff({
  expects: anyPort.expects,
  parse: (text, cwd) => {
    if (text === '') return { port: 1883, given: false };
    const given = anyPort.parse(text, cwd);
    return given === undefined ? undefined : { port: given, given: true };
  },
});
const seconds = decimal(0.001, 86_400);
const bytes = wholeNumber(256, 1_048_576);
const perSecond = decimal(0.001, 1_000_000);
const count = wholeNumber(1, 1_000_000);
const severity = oneOf(SEVERITIES);
const production: SettingType<boolean> = {
  expects: anyText.expects,
  parse: (text, cwd) => (anyText.parse(text, cwd) === undefined ? undefined : text === 'production'),
};
const noAddresses: SettingType<readonly string[]> = {
  ...listOf(addressOrRange),
  parse: (text, cwd) => (text === 'none' ? [] : listOf(addressOrRange).parse(text, cwd)),
};

/** Every setting there is. */
export const SETTINGS: SettingsTable = {
  host: row('HOST', host, '127.0.0.1', 'The address that the HTTP and WebSocket listener binds.'),
  port: row('PORT', anyPort, '8080', 'Its port. `0` takes any free one.'),
  publicUrl: optional(
    'PUBLIC_URL',
    httpOrigin,
    '`http://HOST:PORT`',
    'What the outside calls us: origin check, issuer of tokens, sender of CAP messages. With `TLS_CERT` the default is https.',
  ),
  trustedProxies: row(
    'TRUSTED_PROXIES',
    noAddresses,
    'none',
    'Addresses or CIDRs, separated by commas, whose `X-Forwarded-For` counts.',
  ),
  tlsCertFile: optional(
    'TLS_CERT',
    pemFile,
    'absent',
    'Certificate (chain) of the listener: https and wss. Needs `TLS_KEY`. Read anew when its file changes, and on SIGHUP.',
  ),
  tlsKeyFile: optional('TLS_KEY', pemFile, 'absent', 'Its private key.'),
  tlsClientCaFile: optional(
    'TLS_CLIENT_CA',
    pemFile,
    'absent',
    'The CA of client certificates: welcome on HTTP (a credential of WebSocket handshakes), required on gRPC. Needs `TLS_CERT`. Read anew like it.',
  ),
  dataDir: row(
    'DATA_DIR',
    folder,
    './data',
    'The private database and the first-start secrets. Relative to the working directory.',
  ),
  databaseUrl: optional(
    'DATABASE_URL',
    postgresUrl,
    'absent',
    'PostgreSQL 15 or later with PostGIS. Absent: a private PostgreSQL in `DATA_DIR`.',
  ),
  clusterSecret: optional(
    'CLUSTER_SECRET',
    secret(CLUSTER_SECRET_LEAST_CHARACTERS, 1024),
    'generated into `DATA_DIR`',
    'From it (HKDF) come the key that encrypts signing keys in the store and the key that authenticates bus messages. The same for every process of an installation; required with `DATABASE_URL`.',
  ),
  redisUrl: optional(
    'REDIS_URL',
    redisUrl,
    'absent',
    'A Redis as the bus of several processes. Absent: the bus lives in this process.',
  ),
  redisClusterNodes: optional(
    'REDIS_CLUSTER_NODES',
    listOf(redisNode),
    'absent',
    'Instead of `REDIS_URL`: nodes of a Redis Cluster. User, password and TLS of one hold for all.',
  ),
  redisSentinels: optional(
    'REDIS_SENTINELS',
    listOf(redisNode),
    'absent',
    'Instead of `REDIS_URL`: Sentinels. Needs `REDIS_SENTINEL_NAME`. User, password and TLS of one hold for all, and for the servers behind them.',
  ),
  redisSentinelName: optional(
    'REDIS_SENTINEL_NAME',
    anyText,
    'absent',
    'The name by which the Sentinels know the master.',
  ),
  logBackend: row(
    'LOG_BACKEND',
    oneOf(['store', 'redis']),
    'store',
    'Where accepted envelopes become durable: the store, or Redis Streams (refused at start unless that Redis has `appendonly yes` and `noeviction`).',
  ),
  roles: row(
    'ROLES',
    listOf(oneOf(['gateway', 'worker', 'bridge'])),
    'gateway,worker,bridge',
    'Which parts this process runs.',
  ),
  drainSeconds: row('DRAIN_SECONDS', decimal(0, 3600), '20', 'Longest graceful end.'),
  adminEmail: optional(
    'ADMIN_EMAIL',
    eMail,
    'generated on first start',
    'The first operator (role `admin`). Given later it adds, it never overwrites.',
  ),
  adminPassword: optional(
    'ADMIN_PASSWORD',
    secret(LIMITS.passwordLeastCharacters.value, LIMITS.passwordCharacters.value),
    'generated on first start',
    'The password of the first operator. Stored hashed.',
  ),
  apiKey: optional(
    'API_KEY',
    token(LIMITS.apiKeyLeastCharacters.value, LIMITS.apiKeyCharacters.value),
    'generated on first start',
    'The first API key (all scopes). Given later it adds. Stored hashed.',
  ),
  rateLimitPerKey: row('RATE_LIMIT_PER_KEY', perSecond, '50', 'HTTP ingest: requests a second for each API key.'),
  rateLimitBurst: optional(
    'RATE_LIMIT_BURST',
    count,
    '`max(2 x rate, devices registered)`',
    'How many requests a key may send at once, so that a whole network can speak when the ground shakes.',
  ),
  rateLimitPerDevice: row('RATE_LIMIT_PER_DEVICE', perSecond, '20', 'Requests a second for each device.'),
  rateLimitGlobal: row('RATE_LIMIT_GLOBAL', orOff(perSecond), 'off', 'Requests a second altogether, or `off`.'),
  timestampToleranceSeconds: row(
    'TIMESTAMP_TOLERANCE_SECONDS',
    seconds,
    '30',
    'How far the `at` of an envelope may lie from now, past and future.',
  ),
  swarmSensors: row('SWARM_SENSORS', count, '50', 'Distinct devices of a zone that make a seismic swarm.'),
  swarmWindowSeconds: row(
    'SWARM_WINDOW_SECONDS',
    seconds,
    '10',
    'The window in which they must trigger, by the time of their readings.',
  ),
  swarmCooldownSeconds: row(
    'SWARM_COOLDOWN_SECONDS',
    decimal(0, 86_400),
    '60',
    'Quiet after a swarm, unless a much stronger event breaks through.',
  ),
  readingsRetentionDays: row('READINGS_RETENTION_DAYS', wholeNumber(1, 36_500), '30', 'How long readings are kept.'),
  liveReadingSeconds: row(
    'LIVE_READING_SECONDS',
    decimal(0.001, 604_800),
    '60',
    'A reading older than this is stored but raises no live alert.',
  ),
  mqttBroker: optional('MQTT_BROKER', host, 'absent', 'An outside MQTT broker. Absent: the embedded one.'),
  mqttPort: row('MQTT_PORT', port, '8883', 'Port of the outside broker; TLS unless it is 1883.'),
  mqttUsername: optional('MQTT_USERNAME', secret(1, 1024), 'absent', 'Our user name at the outside broker.'),
  mqttPassword: optional(
    'MQTT_PASSWORD',
    secret(1, 1024),
    'absent',
    'Its password; comes with `MQTT_USERNAME`, which may stand alone. On port 1883 it travels as plain text.',
  ),
  mqttEmbeddedPort: {
    name: 'MQTT_EMBEDDED_PORT',
    type: embeddedPort,
    fallback: '',
    shown: '`1883`',
    prose:
      'Port of the embedded broker, or `off`; `0` takes any free one. Loopback only; with `TLS_CERT` it speaks TLS and binds `HOST`. A port that was given must be free; without one a taken 1883 is said in a warning, and `ready` says `degraded`.',
  },
  mqttTopic: row('MQTT_TOPIC', topicFilter, 'devices/+/metrics', 'Topic filter of host metrics.'),
  mqttReadingsTopic: row('MQTT_READINGS_TOPIC', topicFilter, 'devices/+/readings', 'Topic filter of signed envelopes.'),
  mqttCaCertFile: optional('CA_CERT', pemFile, 'absent', 'CA of the outside broker.'),
  mqttClientCertFile: optional(
    'CLIENT_CERT',
    pemFile,
    'absent',
    'Our certificate for the outside broker. Comes with `CLIENT_KEY`.',
  ),
  mqttClientKeyFile: optional('CLIENT_KEY', pemFile, 'absent', 'Its private key.'),
  mqttSharedSubscriptions: row(
    'MQTT_SHARED_SUBSCRIPTIONS',
    trueOrFalse,
    'true',
    'Several processes share the messages of an outside broker that can do so, and keeps that when it restarts (mosquitto from 2.0.12 on). `false`: one takes them all.',
  ),
  mqttBackoffMinSeconds: row(
    'MQTT_BACKOFF_MIN',
    seconds,
    '1',
    'First wait before a new connection to the broker, in seconds; it doubles.',
  ),
  mqttBackoffMaxSeconds: row('MQTT_BACKOFF_MAX', seconds, '60', 'Longest wait, in seconds.'),
  grpcPort: row(
    'GRPC_PORT',
    orOff(port),
    '50051',
    'gRPC listener, or `off`. With `NODE_ENV=production` it needs `TLS_CLIENT_CA`.',
  ),
  jwtAlgorithm: row('JWT_ALGORITHM', oneOf(['ES256', 'RS256']), 'ES256', 'Signatures of access tokens.'),
  jwtIssuer: optional('JWT_ISSUER', anyText, '`PUBLIC_URL`', 'The `iss` of tokens.'),
  jwtAudience: row('JWT_AUDIENCE', anyText, 'tocsin', 'The `aud` of tokens.'),
  jwtClockSkewSeconds: row(
    'JWT_CLOCK_SKEW_SECONDS',
    wholeNumber(0, 30),
    '30',
    'How wrong another clock may be when a token is checked.',
  ),
  jwksUrl: optional(
    'JWKS_URL',
    url('http', 'https'),
    'absent',
    'The keys of an outside identity provider whose tokens are accepted too.',
  ),
  accessTokenMinutes: row('ACCESS_TOKEN_MINUTES', decimal(0.001, 1440), '15', 'Life of an access token.'),
  wsPort: optional(
    'WS_PORT',
    anyPort,
    'absent',
    'An additional WebSocket-only listener, whose path `/` speaks the raw form of the original bridge. Where `HOST` is no loopback address it needs `WS_AUTH_TOKEN`.',
  ),
  wsMaxConnectionsPerUser: row(
    'WS_MAX_CONNECTIONS_PER_USER',
    count,
    '1',
    'Connections for each path and user; the newest wins.',
  ),
  wsMaxConnectionsPerIp: row('WS_MAX_CONNECTIONS_PER_IP', count, '100', 'Connections for each address (IPv6 by /64).'),
  wsReconnectsPerMinute: row('WS_RECONNECTS_PER_MINUTE', count, '5', 'Connections a minute for each user and path.'),
  wsMaxMessageBytes: row('WS_MAX_MESSAGE_BYTES', bytes, '10240', 'Largest message from a viewer.'),
  wsMessagesPer10Seconds: row(
    'WS_MESSAGES_PER_10_SECONDS',
    count,
    '5',
    'Messages that a viewer may send in 10 seconds.',
  ),
  wsHeartbeatSeconds: row('WS_HEARTBEAT_SECONDS', decimal(0.1, 3600), '30', 'Interval of protocol pings.'),
  wsWatermarkSeconds: row('WS_WATERMARK_SECONDS', decimal(0.1, 3600), '10', 'Interval of `watermark` messages.'),
  wsReauthenticateSeconds: row(
    'WS_REAUTHENTICATE_SECONDS',
    decimal(1, 86_400),
    '900',
    'How long a connection lives on one proof of identity.',
  ),
  wsAllowedOrigins: optional(
    'WS_ALLOWED_ORIGINS',
    listOf(httpOrigin),
    'the origin of `PUBLIC_URL`',
    'Origins whose pages may open a WebSocket and, with a bearer, call `/v1` (CORS).',
  ),
  wsAllowQueryToken: row('WS_ALLOW_QUERY_TOKEN', trueOrFalse, 'false', 'Whether `?token=` on the URL is accepted.'),
  wsPublicAlerts: row(
    'WS_PUBLIC_ALERTS',
    trueOrFalse,
    'false',
    'Whether anyone may read `/ws/alerts` (public displays).',
  ),
  wsAuthToken: optional(
    'WS_AUTH_TOKEN',
    token(8, 512),
    'absent',
    'Opens `/ws/devices` (`?token=` or bearer), read-only, and the raw form on `WS_PORT` (`?token=`).',
  ),
  pruneSeconds: row(
    'PRUNE_SECONDS',
    seconds,
    '30',
    'Host metrics: a device that has been silent this long leaves the picture; also the least silence that is an alert.',
  ),
  cpuAlertPercent: row(
    'CPU_ALERT_TH',
    decimal(0, 100),
    '90',
    'Host metrics: processor load in percent that is an alert.',
  ),
  memoryAlertPercent: row(
    'MEMORY_ALERT_TH',
    orOff(decimal(0, 100)),
    '95',
    'Host metrics: memory in use, percent, that is an alert, or `off`.',
  ),
  diskAlertPercent: row(
    'DISK_ALERT_TH',
    orOff(decimal(0, 100)),
    '95',
    'Host metrics: disk in use, percent, that is an alert, or `off`.',
  ),
  gpuAlertPercent: row(
    'GPU_ALERT_TH',
    orOff(decimal(0, 100)),
    'off',
    'Host metrics: load of the graphics processor, percent, that is an alert, or `off`.',
  ),
  alertCooldownSeconds: row(
    'ALERT_COOLDOWN',
    decimal(0, 86_400),
    '60',
    'Host metrics: seconds between two alerts of a device and rule.',
  ),
  maxPayloadBytes: row('MAX_PAYLOAD_BYTES', bytes, '16384', 'Largest MQTT frame.'),
  maxDevices: row('MAX_DEVICES', count, '1000', 'Host metrics: devices within the pruning window.'),
  summaryIntervalSeconds: row('SUMMARY_INTERVAL', seconds, '60', 'Seconds between two summaries to Slack.'),
  slackWebhookUrl: optional(
    'SLACK_WEBHOOK_URL',
    url('http', 'https'),
    'absent',
    'Incoming webhook of Slack: alerts, and summaries of hosts ([notifications.md](notifications.md)).',
  ),
  slackMinSeverity: row('SLACK_MIN_SEVERITY', severity, 'moderate', 'The least severity that Slack is told of.'),
  webhookUrls: optional(
    'WEBHOOK_URLS',
    listOf(url('http', 'https')),
    'absent',
    'Webhooks that get alerts as CloudEvents, at most 20. https only, to public addresses, unless `WEBHOOK_ALLOW_PRIVATE=true`. Needs `WEBHOOK_SECRETS`.',
  ),
  webhookSecrets: optional(
    'WEBHOOK_SECRETS',
    listOf(webhookSecret),
    'absent',
    'Secrets that webhooks are signed with (Standard Webhooks); several, separated by commas, while rotating: one signature for each.',
  ),
  webhookMinSeverity: row('WEBHOOK_MIN_SEVERITY', severity, 'unknown', 'The least severity that webhooks are told of.'),
  webhookAllowPrivate: row(
    'WEBHOOK_ALLOW_PRIVATE',
    trueOrFalse,
    'false',
    'Webhooks may be http, and may reach this host, private networks and metadata services.',
  ),
  smtpUrl: optional(
    'SMTP_URL',
    smtpUrl,
    'absent',
    'Mail server that takes alerts as e-mail. With smtp TLS is required (STARTTLS), but not by this machine itself or with `?tls=off`. Needs `EMAIL_FROM` and `EMAIL_TO`.',
  ),
  emailFrom: optional('EMAIL_FROM', eMail, 'absent', 'Who e-mails are from.'),
  emailTo: optional('EMAIL_TO', listOf(eMail), 'absent', 'Who e-mails go to, at most 50, separated by commas.'),
  emailMinSeverity: row('EMAIL_MIN_SEVERITY', severity, 'severe', 'The least severity that is told by e-mail.'),
  billingWebhookSecrets: optional(
    'BILLING_WEBHOOK_SECRET',
    listOf(token(8, 512)),
    'absent: the webhook answers 503',
    'Secrets of the billing webhook; several, separated by commas, while rotating.',
  ),
  billingIpAllowlist: optional(
    'BILLING_IP_ALLOWLIST',
    listOf(addressOrRange),
    'absent',
    'Addresses or CIDRs that may call the billing webhook.',
  ),
  trialDays: row('TRIAL_DAYS', wholeNumber(0, 3650), '14', 'Length of a trial, from registration.'),
  logLevel: row(
    'LOG_LEVEL',
    oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { warning: 'warn', critical: 'fatal' }),
    'info',
    'Least level that is logged, in any case. JSON lines on stdout, pretty on a terminal.',
  ),
  otlpEndpoint: optional(
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    url('http', 'https'),
    'absent',
    'Where traces are sent (OTLP).',
  ),
  production: row(
    'NODE_ENV',
    production,
    'development',
    '`production`: gRPC refuses to start without `TLS_CLIENT_CA`.',
  ),
};
