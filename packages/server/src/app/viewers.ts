/** The WebSocket transport on the listener, with its settings and neighbours. */
import type { Server } from 'node:http';
import { createMemoryLimiter } from '../bus/memory/limiter.ts';
import type { Principal } from '../identity/principal.ts';
import { attachWebSocket, type WebSocketTransport } from '../transports/websocket/attach.ts';
import type { WebSocketMetrics, WebSocketPrincipal, WebSocketSettings } from '../transports/websocket/options.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { Ground } from './ground.ts';
import type { Pipeline } from './pipeline.ts';
import type { Settings } from './settings.ts';

/** What the app holds of it. */
export type Viewers = WebSocketTransport;

/** Addresses whose handshakes are counted at once; above that the longest unused one is forgotten. */
const ADDRESSES_MOST = 100_000;

/** Attaches it; call before the server listens, `start` after. */
export function createViewers(
  server: Server,
  settings: Settings,
  ground: Ground,
  pipeline: Pipeline,
  publicUrl: string,
): Viewers {
  const { identity, bus, clock, log, metrics } = ground;
  return attachWebSocket(server, {
    settings: webSocketSettings(settings, publicUrl),
    clock,
    bus,
    door: createMemoryLimiter(clock, ADDRESSES_MOST),
    alerts: pipeline.hub,
    verifyAccessToken: async (jwt) => toPrincipal(await identity.verifyAccessToken(jwt)),
    redeemTicket: async (ticket) => toPrincipal(await identity.tickets.redeem(ticket)),
    sessions: identity.sessionState,
    metrics: webSocketMetrics(metrics),
    log,
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

function webSocketMetrics(metrics: Metrics): WebSocketMetrics {
  return {
    connections: (path, change) => metrics.websocketConnections.add({ path }, change),
    closed: (path, code) => metrics.websocketClosed.add({ path, code: String(code) }),
    duration: (path, seconds) => metrics.websocketConnectionDuration.observe({ path }, seconds),
    received: (messages) => metrics.websocketMessages.add({ direction: 'in' }, messages),
    handshake: (seconds) => metrics.handshake.observe({ path: '/ws/alerts' }, seconds),
    refused: (_path, code) => metrics.rejected.add({ transport: 'websocket', reason: code }),
  };
}
