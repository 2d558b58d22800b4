/**
 * MQTT of this process (role `bridge`): the link to an outside broker when `MQTT_BROKER` names one, else the embedded broker unless
 * `MQTT_EMBEDDED_PORT` is `off`.
 *
 * Failure: rejects with `EADDRINUSE` (naming the setting) when a port that was given is taken. When 1883 was not asked for and is
 * taken, the server runs without it: one warning, and `ready` says `degraded`. So it does while the link is not connected.
 */
import type { Health } from '../ops/health.ts';
import { createMqttSlots } from '../store/postgres/mqtt-slots.ts';
import { createEmbeddedBroker } from '../transports/mqtt/embedded.ts';
import type { EmbeddedIdentity, EmbeddedMetrics } from '../transports/mqtt/embedded-options.ts';
import { createBrokerLink } from '../transports/mqtt/link.ts';
import type { RefusedUnread, TakeMqttMessage } from '../transports/mqtt/message.ts';
import type { ListenerCertificates } from './certificates.ts';
import type { Ground } from './ground.ts';
import type { EmbeddedPort, Settings } from './settings-shape.ts';
import { isTakenPort, nameTakenPort } from './taken-port.ts';

/** What the app holds of it. */
export interface Bridge {
  /** Where the embedded broker listens, as a URL; null: nowhere. */
  readonly address: string | null;
  /** Takes nothing new, lets what is on its way end; resolves at the latest after `deadlineMs`. */
  drain(deadlineMs: number): Promise<void>;
  stop(): Promise<void>;
}

/** What it needs beside the ground. */
export interface BridgeParts {
  readonly take: TakeMqttMessage;
  readonly refused: RefusedUnread;
  readonly health: Pick<Health, 'register'>;
  readonly certificates: ListenerCertificates | null;
}

const LOOPBACK = '127.0.0.1';
/** Without TLS there. */
const PLAIN_PORT = 1883;
const CHECK_TIMEOUT_MS = 1000;

/** Starts it; null: this process has no MQTT. */
export async function startBridge(settings: Settings, ground: Ground, parts: BridgeParts): Promise<Bridge | null> {
  if (!settings.roles.includes('bridge')) return null;
  if (settings.mqttBroker !== null) return startLink(settings, settings.mqttBroker, ground, parts);
  return settings.mqttEmbeddedPort === null ? null : startEmbedded(settings, settings.mqttEmbeddedPort, ground, parts);
}

function startLink(settings: Settings, host: string, ground: Ground, { take, refused, health }: BridgeParts): Bridge {
  const { clock, log, metrics, instance, store } = ground;
  const link = createBrokerLink({
    settings: {
      host,
      port: settings.mqttPort,
      tls: settings.mqttPort !== PLAIN_PORT,
      caFile: settings.mqttCaCertFile,
      certFile: settings.mqttClientCertFile,
      keyFile: settings.mqttClientKeyFile,
      username: settings.mqttUsername,
      password: settings.mqttPassword,
      filters: [settings.mqttTopic, settings.mqttReadingsTopic],
      sharing: settings.mqttSharedSubscriptions,
      backoffMinMs: settings.mqttBackoffMinSeconds * 1000,
      backoffMaxMs: settings.mqttBackoffMaxSeconds * 1000,
      instance,
    },
    take,
    refused,
    slots: createMqttSlots(store.db),
    clock,
    log,
    metrics,
  });
  link.start();
  health.register({
    name: 'mqtt',
    required: false,
    timeoutMs: CHECK_TIMEOUT_MS,
    check: () => link.state().kind !== 'waiting',
  });
  let stopped: Promise<void> | undefined;
  const stop = (withinMs: number): Promise<void> => {
    stopped ??= link.stop(withinMs);
    return stopped;
  };
  return { address: null, drain: stop, stop: () => stop(0) };
}

async function startEmbedded(
  settings: Settings,
  { port, given }: EmbeddedPort,
  ground: Ground,
  { take, refused, health, certificates }: BridgeParts,
): Promise<Bridge> {
  const { bus, clock, log } = ground;
  const host = certificates === null ? LOOPBACK : settings.host;
  const broker = createEmbeddedBroker({
    settings: {
      host,
      port,
      filters: [settings.mqttTopic, settings.mqttReadingsTopic],
      trustedProxies: settings.trustedProxies,
    },
    ...(certificates === null ? {} : { tls: certificates.tls }),
    take,
    identity: identityOf(ground),
    bus,
    clock,
    metrics: observe(ground, refused),
    log,
  });
  health.register({ name: 'mqtt', required: false, timeoutMs: CHECK_TIMEOUT_MS, check: () => broker.listening() });
  let address: string | null = null;
  try {
    const got = await broker.start().catch(nameTakenPort('MQTT_EMBEDDED_PORT', host, port));
    const name = host.includes(':') ? `[${host}]` : host;
    address = `${certificates === null ? 'mqtt' : 'mqtts'}://${name}:${got}`;
    certificates?.share((tls) => broker.replaceCertificates(tls));
    log.info({ mqttAddress: address }, 'the embedded MQTT broker listens');
  } catch (error) {
    await broker.stop();
    if (given || !isTakenPort(error)) throw error;
    log.warn({ host, port }, `port ${port} is in use: the embedded MQTT broker does not run (MQTT_EMBEDDED_PORT)`);
  }
  return { address, drain: (deadlineMs) => broker.drain(deadlineMs), stop: () => broker.stop() };
}

function identityOf({ identity, registry }: Ground): EmbeddedIdentity {
  return {
    apiKey: async (text) => identity.apiKeys.check(text),
    accessToken: (jwt) => identity.verifyAccessToken(jwt),
    deviceActive: async (id) => (await registry.directory.lookup(id))?.standing === 'active',
    sessions: identity.sessionState,
  };
}

function observe({ metrics }: Ground, rejected: RefusedUnread): EmbeddedMetrics {
  return {
    connections: (change) => metrics.mqttConnections.add({}, change),
    refused: (reason) => metrics.mqttRefused.add({ reason }),
    ended: (reason) => metrics.mqttEnds.add({ reason }),
    banned: (by) => metrics.mqttBans.add({ by }),
    rejected,
  };
}
