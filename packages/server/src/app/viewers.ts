/**
 * The WebSocket transport on the listener, with its settings and neighbours; what it does is counted for metrics, the log, and
 * the detector of connection spikes.
 */
import type { Server } from 'node:http';
import { createMemoryLimiter } from '../bus/memory/limiter.ts';
import { CONNECTIONS_KEY, SPIKE } from '../detectors/connection-spike.ts';
import type { Principal } from '../identity/principal.ts';
import type { ClientCertificates } from '../transports/http/client-certificate.ts';
import { attachWebSocket, type WebSocketTransport } from '../transports/websocket/attach.ts';
import type { WebSocketMetrics, WebSocketPrincipal, WebSocketSettings } from '../transports/websocket/options.ts';
import { partitionOf } from '../lib/partition.ts';
import { throttled } from '../ops/throttled-log.ts';
import type { Ground } from './ground.ts';
import { createHandshakeCounts, type HandshakeCounts } from './handshake-counts.ts';
import { hintWorkers, type Pipeline } from './pipeline.ts';
import type { Settings } from './settings.ts';
import { ALERTS_PATH } from '../transports/websocket/request.ts';

/** What the app holds of it. */
export type Viewers = WebSocketTransport;

/** Addresses whose handshakes are counted at once; above that the longest unused one is forgotten. */
const ADDRESSES_MOST = 100_000;

/** The path of the one channel so far. */
/** What an end of the process waits for its counts, ms: they are worth a moment, not more. */
const COUNTS_MOST_MS = 500;
/** Ends after which clients come back because we told them to. Not 1013 and 4008: clients can bring these about. */
const RELEASED: ReadonlySet<string> = new Set(['end', 'restart']);

/** Attaches it; call before the server listens, `start` after. */
export function createViewers(
  server: Server,
  settings: Settings,
  ground: Ground,
  pipeline: Pipeline,
  { publicUrl, clients }: { readonly publicUrl: string; readonly clients: ClientCertificates },
): Viewers {
  const { identity, bus, clock, log, metrics } = ground;
  const counts = countHandshakes(ground);
  let draining = false;
  const transport = attachWebSocket(server, {
    settings: webSocketSettings(settings, publicUrl),
    clock,
    bus,
    door: createMemoryLimiter(clock, ADDRESSES_MOST),
    alerts: pipeline.hub,
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
    publicAlerts: settings.wsPublicAlerts,
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
    handshake(seconds) {
      metrics.handshake.observe({ path: ALERTS_PATH }, seconds);
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
