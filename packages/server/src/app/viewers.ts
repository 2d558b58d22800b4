/**
 * The WebSocket transport on the listener, with its settings and neighbours; what it does is counted for metrics, the log, and
 * the detector of connection spikes.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Server } from 'node:http';
import { createMemoryLimiter } from '../bus/memory/limiter.ts';
import { CONNECTIONS_KEY, SPIKE } from '../detectors/connection-spike.ts';
import type { Principal } from '../identity/principal.ts';
import type { ClientCertificates } from '../transports/http/client-certificate.ts';
import { attachWebSocket, type WebSocketTransport } from '../transports/websocket/attach.ts';
import type {
  WebSocketChannel,
  WebSocketChannels,
  WebSocketListener,
  WebSocketMetrics,
  WebSocketPrincipal,
  WebSocketSettings,
} from '../transports/websocket/options.ts';
import { partitionOf } from '../lib/partition.ts';
import { throttled } from '../ops/throttled-log.ts';
import type { Ground } from './ground.ts';
import { createHandshakeCounts, type HandshakeCounts } from './handshake-counts.ts';
import { hintWorkers, type Pipeline } from './pipeline.ts';
import type { Settings } from './settings.ts';
import { ALERTS_PATH, DEVICES_PATH, RAW_PATH } from '../transports/websocket/request.ts';

/** What the app holds of it. */
export type Viewers = WebSocketTransport;

/** Addresses whose handshakes are counted at once; above that the longest unused one is forgotten. */
const ADDRESSES_MOST = 100_000;

/** What an end of the process waits for its counts, ms: they are worth a moment, not more. */
const COUNTS_MOST_MS = 500;
/** Ends after which clients come back because we told them to. Not 1013 and 4008: clients can bring these about. */
const RELEASED: ReadonlySet<string> = new Set(['end', 'restart']);

/** The servers that viewers come to. */
export interface ViewerServers {
  readonly main: Server;
  /** That of `WS_PORT`. */
  readonly extra: Server | null;
}

/** What is at which path of the main listener, and of that of `WS_PORT`. */
function channelsOf(
  settings: Settings,
  { hub, live }: Pick<Pipeline, 'hub' | 'live'>,
): { readonly main: WebSocketChannels; readonly extra: WebSocketChannels } {
  const { wsAuthToken: token, wsPublicAlerts } = settings;
  const opens = token === null ? {} : { opens: tokenCheck(token) };
  const alerts: WebSocketChannel = { hub, access: wsPublicAlerts ? 'anyone' : 'people', filters: true, raw: false };
  const devices: WebSocketChannel = {
    ...{ hub: live.hub.door('tocsin'), access: 'people', filters: false, raw: false },
    ...opens,
  };
  const raw: WebSocketChannel = {
    ...{ hub: live.hub.door('raw'), access: 'token', filters: false, raw: true },
    ...opens,
  };
  const main: readonly (readonly [string, WebSocketChannel])[] = [
    [ALERTS_PATH, alerts],
    [DEVICES_PATH, devices],
  ];
  return { main: new Map(main), extra: new Map([...main, [RAW_PATH, raw]]) };
}

/** Compares with the token in a time that says nothing of it. */
function tokenCheck(token: string): (given: string) => boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const expected = digest(token);
  return (given) => timingSafeEqual(digest(given), expected);
}

/** Attaches it; call before the servers listen, `start` after. */
export function createViewers(
  servers: ViewerServers,
  settings: Settings,
  ground: Ground,
  pipeline: Pipeline,
  { publicUrl, clients }: { readonly publicUrl: string; readonly clients: ClientCertificates },
): Viewers {
  const { identity, bus, clock, log, metrics } = ground;
  const counts = countHandshakes(ground);
  let draining = false;
  const channels = channelsOf(settings, pipeline);
  const listeners: WebSocketListener[] = [{ server: servers.main, channels: channels.main }];
  if (servers.extra !== null) listeners.push({ server: servers.extra, channels: channels.extra });
  const transport = attachWebSocket(listeners, {
    settings: webSocketSettings(settings, publicUrl),
    clock,
    bus,
    door: createMemoryLimiter(clock, ADDRESSES_MOST),
    verifyAccessToken: async (jwt) => toPrincipal(await identity.verifyAccessToken(jwt)),
    redeemTicket: async (ticket) => toPrincipal(await identity.tickets.redeem(ticket)),
    certificates: {
      of: (socket, at) => clients.of(socket, at),
      verify: async (certificate) => toPrincipal(await identity.certificates.verify(certificate)),
    },
    sessions: identity.sessionState,
    metrics: observe(ground, counts, () => draining),
    log,
  });
  metrics.beforeText(() => metrics.websocketHandshakes.set({}, transport.handshakes()));
  return {
    ...transport,
    async drain(deadlineMs) {
      const until = clock.monotonic() + deadlineMs;
      draining = true;
      // Known before any of them is told, so before any of them comes back anywhere.
      counts.released(transport.connections());
      await counts.flush(Math.min(COUNTS_MOST_MS, deadlineMs / 4));
      await transport.drain(Math.max(0, until - clock.monotonic()));
    },
    async stop() {
      await transport.stop();
      await counts.stop(COUNTS_MOST_MS);
    },
  };
}

/** Counts on their way to the detector. One for each process: their sequence numbers go with the name of its start. */
function countHandshakes(ground: Ground): HandshakeCounts {
  const { instance, clock, log, records, store } = ground;
  const failures = throttled(log, 60_000, clock);
  const partition = partitionOf(CONNECTIONS_KEY, records.partitions);
  return createHandshakeCounts({
    instance,
    windowMs: SPIKE.windowMs,
    now: () => clock.now(),
    append: async (count) => {
      const record = { partition, kind: 'finding', key: CONNECTIONS_KEY, traceparent: null } as const;
      await records.appendKeyed(store.db, [{ ...record, receivedAt: clock.now(), body: JSON.stringify([count]) }]);
      hintWorkers(ground, [partition]);
    },
    failed: (err) => void failures.warn('handshake-counts', { err }, 'counts of handshakes will be appended later'),
  });
}

function toPrincipal({ subject, deviceId, role, sessionId, expiresAt }: Principal): WebSocketPrincipal {
  return { subject, deviceId, role, sessionId, expiresAt };
}

function webSocketSettings(settings: Settings, publicUrl: string): WebSocketSettings {
  return {
    publicUrl,
    allowedOrigins: settings.wsAllowedOrigins ?? [publicUrl],
    allowQueryToken: settings.wsAllowQueryToken,
    trustedProxies: settings.trustedProxies,
    maxConnectionsPerUser: settings.wsMaxConnectionsPerUser,
    maxConnectionsPerAddress: settings.wsMaxConnectionsPerIp,
    reconnectsPerMinute: settings.wsReconnectsPerMinute,
    maxMessageBytes: settings.wsMaxMessageBytes,
    messagesPer10Seconds: settings.wsMessagesPer10Seconds,
    heartbeatSeconds: settings.wsHeartbeatSeconds,
    reauthenticateSeconds: settings.wsReauthenticateSeconds,
  };
}

function observe({ metrics, log, clock }: Ground, counts: HandshakeCounts, draining: () => boolean): WebSocketMetrics {
  const refusals = throttled(log, 1000, clock);
  return {
    connections: (path, change) => metrics.websocketConnections.add({ path }, change),
    closed(path, code, reason) {
      metrics.websocketClosed.add({ path, code: String(code) });
      metrics.websocketEnds.add({ path, reason });
      // Those of a drain were counted at its beginning.
      if (!draining() && RELEASED.has(reason)) counts.released(1);
    },
    duration: (path, seconds) => metrics.websocketConnectionDuration.observe({ path }, seconds),
    received: (messages) => metrics.websocketMessages.add({ direction: 'in' }, messages),
    handshake(path, seconds) {
      metrics.handshake.observe({ path }, seconds);
      counts.opened();
    },
    joined: (path, plan) => metrics.websocketJoined.add({ path, plan }),
    refused(path, code) {
      metrics.rejected.add({ transport: 'websocket', reason: code });
      refusals.warn(code, { path }, 'handshake refused');
      // That we end is no news about those who ask.
      if (code !== 'draining') counts.refused();
    },
    abandoned(path) {
      metrics.websocketAbandoned.add({ path });
      // Else who hangs up at once would flood us unseen.
      counts.refused();
    },
  };
}
