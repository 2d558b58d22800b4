/** A server with hub and transport on a free port, and what tests need to move and watch it. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { connectViewer, HandshakeRefused, type ScriptedViewer, type ViewerOptions } from '@tocsin/testkit/viewer';
import { refuse } from '@tocsin/protocol/refusal-error';
import { afterEach, beforeEach, expect } from 'vitest';
import { createMemoryBus } from '../../bus/memory/bus.ts';
import { createMemoryLimiter } from '../../bus/memory/limiter.ts';
import type { Bus } from '../../bus/ports/bus.ts';
import type { Clock } from '../../lib/clock.ts';
import { createChannelPublisher } from '../../realtime/channel.ts';
import { createHub, type Hub } from '../../realtime/hub.ts';
import { createScriptedStore, type ScriptedStore } from '../../realtime/scripted-sink.suite.ts';
import { attachWebSocket, type WebSocketTransport } from './attach.ts';
import type { ViewerHub, WebSocketChannel, WebSocketPrincipal, WebSocketSettings } from './options.ts';

const DEFAULTS: WebSocketSettings = {
  publicUrl: 'http://t.example',
  allowedOrigins: ['http://t.example'],
  allowQueryToken: false,
  trustedProxies: [],
  maxConnectionsPerUser: 1,
  maxConnectionsPerAddress: 100,
  reconnectsPerMinute: 5,
  maxMessageBytes: 1000,
  messagesPer10Seconds: 5,
  heartbeatSeconds: 30,
  reauthenticateSeconds: 900,
};

/** Moves ahead of the machine's clock by what tests add. */
let ahead = 0;
export const pass = (ms: number): void => {
  ahead += ms;
};
export const clock: Clock = { now: () => Date.now() + ahead, monotonic: () => performance.now() + ahead };

export interface System {
  readonly server: Server;
  readonly url: string;
  readonly port: number;
  readonly transport: WebSocketTransport;
  readonly hub: Hub;
  readonly store: ScriptedStore;
  readonly bus: Bus;
  readonly ended: Set<string>;
  readonly tellEnded: (ids: string[]) => void;
  /** Offsets of receipts as the hub is told them. */
  readonly receipts: number[];
  readonly lines: object[];
  /** What was measured of handshakes, in order: `joined fresh`, `opened`, `refused <code>`, `abandoned`. */
  readonly handshakes: string[];
  readonly tokens: Map<string, WebSocketPrincipal>;
  verifyDelay: Promise<void> | null;
  /** False: the bus is away, and takes no place of a connection. */
  busHealthy: boolean;
  /** How often the transport asked whether the bus is healthy. */
  busLooks: number;
  commit(body?: string): Promise<number>;
  viewer(options?: ViewerOptions & { path?: string }): Promise<ScriptedViewer>;
}

const closers: (() => Promise<void>)[] = [];
const viewers: ScriptedViewer[] = [];
beforeEach(() => {
  ahead = 0;
});
afterEach(async () => {
  for (const viewer of viewers.splice(0)) viewer.cut();
  for (const close of closers.splice(0)) await close();
});

export const person = (subject: string, more: Partial<WebSocketPrincipal> = {}): WebSocketPrincipal => ({
  subject,
  deviceId: null,
  role: 'viewer',
  sessionId: `s-${subject}`,
  expiresAt: clock.now() + 3_600_000,
  ...more,
});

/** PEM texts; with them the server speaks TLS only. */
export interface TlsPair {
  readonly cert: string;
  readonly key: string;
}

/** The channel of alerts, for people unless `more` says otherwise. */
const alertsChannel = (hub: ViewerHub, more: Partial<WebSocketChannel>): WebSocketChannel => ({
  ...{ hub, access: 'people', filters: true, raw: false },
  ...more,
});

/** `shared`: the bus of another system, as processes of one installation have. */
export async function start(
  settings: Partial<WebSocketSettings> = {},
  shared?: Bus,
  tls?: TlsPair,
  channel: Partial<WebSocketChannel> = {},
): Promise<System> {
  const handler: RequestListener = (_request, response) => void response.writeHead(404).end();
  const server = tls === undefined ? createServer(handler) : createSecureServer(tls, handler);
  const bus = shared ?? createMemoryBus({ clock });
  const store = createScriptedStore();
  const hub = createHub({ channel: 'alerts', store, pubsub: bus.pubsub, clock, watermarkSeconds: 10 });
  await hub.start();
  const publisher = createChannelPublisher({ pubsub: bus.pubsub });
  const ended = new Set<string>();
  const receipts: number[] = [];
  const lines: object[] = [];
  const handshakes: string[] = [];
  const tokens = new Map(['ann', 'bob'].map((name) => [name, person(name)]));
  const tickets = new Map([['t1', person('ann')]]);
  let tellEnded: (ids: readonly string[]) => void = () => undefined;
  const alerts: ViewerHub = {
    plan: (resume) => hub.plan(resume),
    attach(...parts: Parameters<Hub['attach']>) {
      const viewer = hub.attach(...parts);
      return {
        offset: () => viewer.offset(),
        send: (message) => viewer.send(message),
        close: (name) => viewer.close(name),
        received(offset) {
          receipts.push(offset);
          viewer.received(offset);
        },
      };
    },
  };
  const channels = new Map([['/ws/alerts', alertsChannel(alerts, channel)]]);
  const transport = attachWebSocket([{ server, channels }], {
    settings: { ...DEFAULTS, ...settings },
    clock,
    bus: {
      ...bus,
      presence: {
        ...bus.presence,
        join: async (key, id, most) => {
          if (!system.busHealthy) throw new Error('away');
          return bus.presence.join(key, id, most);
        },
      },
      healthy() {
        system.busLooks += 1;
        return system.busHealthy;
      },
    },
    door: createMemoryLimiter(clock),
    async verifyAccessToken(token) {
      await system.verifyDelay;
      const principal = tokens.get(token);
      if (principal === undefined) throw refuse('token-invalid');
      return principal;
    },
    async redeemTicket(ticket) {
      const principal = tickets.get(ticket);
      tickets.delete(ticket);
      if (principal === undefined) throw refuse('token-invalid');
      return principal;
    },
    sessions: {
      dead: async (ids) => ids.filter((id) => ended.has(id)),
      onEnded(listener) {
        tellEnded = listener;
        return () => undefined;
      },
    },
    metrics: {
      joined: (_path, plan) => handshakes.push(`joined ${plan}`),
      handshake: () => handshakes.push('opened'),
      refused: (_path, code) => handshakes.push(`refused ${code}`),
      abandoned: () => handshakes.push('abandoned'),
    },
    log: { info: (fields) => lines.push(fields), error: (fields) => lines.push(fields) },
    sweepMs: 10,
  });
  await transport.start();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  closers.push(async () => {
    await transport.stop();
    await hub.stop();
    if (shared === undefined) await bus.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const system: System = {
    server,
    port,
    url: `${tls === undefined ? 'ws' : 'wss'}://127.0.0.1:${port}/ws/alerts`,
    transport,
    hub,
    store,
    bus,
    ended,
    tellEnded: (ids) => tellEnded(ids),
    receipts,
    lines,
    handshakes,
    tokens,
    verifyDelay: null,
    busHealthy: true,
    busLooks: 0,
    async commit(body) {
      const row = store.append(body === undefined ? {} : { body });
      await publisher.publish([row]);
      return row.offset;
    },
    async viewer({ path = '', ...options } = {}) {
      const viewer = await connectViewer(system.url + path, options);
      viewers.push(viewer);
      return viewer;
    },
  };
  return system;
}

export async function refusal(
  attempt: Promise<unknown>,
): Promise<{ status: number; code: unknown; retryAfter: unknown }> {
  const error: unknown = await attempt.then(
    () => new Error('it was let in'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof HandshakeRefused)) throw error;
  expect(error.headers['content-type']).toBe('application/problem+json');
  const { code, status } = JSON.parse(error.body) as { code: string; status: number };
  expect(status).toBe(error.status);
  return { status, code, retryAfter: error.headers['retry-after'] };
}

/** A raw connection and everything it is answered. */
export async function raw(
  port: number,
  text: string,
): Promise<{ socket: Socket; answer: () => string; ended: Promise<void> }> {
  const socket = connect(port, '127.0.0.1');
  let answer = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    answer += part;
  });
  socket.on('error', () => undefined);
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await once(socket, 'connect');
  socket.write(text);
  closers.push(async () => void socket.destroy());
  return { socket, answer: () => answer, ended };
}

export const HANDSHAKE =
  'GET /ws/alerts HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
