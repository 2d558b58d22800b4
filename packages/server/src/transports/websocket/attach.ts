/**
 * WebSocket on one or more HTTP servers: handshakes in `upgrade`, then connections. Limits count them all together.
 *
 * Guarantees: whatever is wrong before the upgrade is answered as an HTTP problem within 5 s and the socket is gone soon
 * after; an open socket always belongs to a registered connection; `welcome` is its first message.
 * Order: `attachWebSocket` before `listen`, `start`, …, `drain`, `stop`. While draining, handshakes get 503 and alerts flow
 * until the last connection is closed.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import { Server as TlsServer } from 'node:tls';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { CLOSE_CODES } from '@tocsin/protocol/close-codes';
import type { Refusal } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { type Server as SocketServer, WebSocketServer } from 'ws';
import { throttled } from '../../ops/throttled-log.ts';
import { type Admission, createAdmission } from './admission.ts';
import { answerProtocol } from './carrier.ts';
import { Connection, type ConnectionHome, ViewerSocket } from './connection.ts';
import { isOpen } from './connection-state.ts';
import { type Connections, createConnections } from './connections.ts';
import { type Admitted, createHandshakes, type Handshakes, isRefusal, pathLabel } from './handshake.ts';
import type { WebSocketListener, WebSocketOptions } from './options.ts';
import { refuseUpgrade } from './refuse-upgrade.ts';
import { SocketSink } from './socket-sink.ts';

/** Handshakes that may be decided at the same time in this process: all viewers of a site that come back at once. */
const HANDSHAKES_MOST = 5000;
/** Fragments of one message, and chunks of the socket that may wait to be parsed. */
const FRAGMENTS_MOST = 64;
const CHUNKS_MOST = 1024;
/** Failures of one kind are told once in this time, in ms. */
const FAILURE_MS = 1000;
/** How often the bus is looked at, and how long the other processes have to take their places on it again, in ms. */
const LOOK_MS = 1000;
const SETTLE_MS = 3000;
/** Every connection takes its place anew once in so many looks: a minute. */
const LOOKS_OF_ROUND = 60;

const TIMED_OUT: Refusal = { code: 'request-timeout', detail: 'The handshake took too long' };
const CROWDED: Refusal = { code: 'overloaded', detail: 'Too many handshakes at once', retryAfterMs: 1000 };

/** The transport, attached to its servers. */
export interface WebSocketTransport {
  /** Open connections. */
  connections(): number;
  /** Handshakes that are being decided. */
  handshakes(): number;
  start(): Promise<void>;
  /** Ends all connections in an orderly way within `deadlineMs`; new handshakes get 503 from now on. */
  drain(deadlineMs: number): Promise<void>;
  /** Cuts what is left, ends the timer and lets go of the servers. */
  stop(): Promise<void>;
}

interface Parts {
  readonly options: WebSocketOptions;
  readonly admission: Admission;
  readonly connections: Connections;
  readonly handshakes: Handshakes;
  readonly home: ConnectionHome;
  readonly wss: SocketServer<typeof ViewerSocket>;
}

/** Makes the open socket a connection with a viewer. */
function openConnection(parts: Parts, ws: ViewerSocket, socket: Duplex, id: string, admitted: Admitted): void {
  const { options, admission, connections } = parts;
  const { path, channel, holder, principal, address, addressKey } = admitted;
  const { kind: plan } = admitted.plan;
  options.metrics?.joined?.(path, plan);
  // A server of Node hands over the socket of its connection.
  const identity = {
    id,
    path,
    address,
    addressKey,
    holder,
    principal,
    raw: channel.raw,
    plan,
    socket: socket as Socket,
  };
  const connection = new Connection(identity, ws, parts.home);
  connections.add(connection);
  const { heartbeatSeconds } = options.settings;
  const welcome = { connection: id, heartbeatSeconds, reauthenticateBy: connection.reauthenticateBy };
  const sink = new SocketSink(ws, socket, connection);
  connection.begin(channel.hub.attach(sink, admitted.plan, admitted.filter, welcome));
  if (holder !== null) connection.entered = admission.enterUser(path, holder, id);
}

/** What connections tell of their ends. */
function createHome(options: WebSocketOptions, admission: Admission, connections: Connections): ConnectionHome {
  return {
    options,
    moving({ path, holder }) {
      // It comes back before the old connection is closed: the way is free from now on.
      if (holder !== null) admission.noteClose(path, holder, CLOSE_CODES.end.code);
    },
    closing({ path, holder }, code) {
      if (holder !== null) admission.noteClose(path, holder, code);
    },
    ended(connection) {
      const { id, path, holder, addressKey, entered } = connection;
      connections.remove(connection);
      admission.leaveAddress(addressKey, id);
      // After the join, however long that takes, or the place would stay taken.
      if (holder !== null) void (entered ?? Promise.resolve()).then(() => admission.leaveUser(path, holder, id));
    },
  };
}

/** Upgrades an admitted handshake; a socket that ended meanwhile leaves nothing behind. */
function upgrade(
  parts: Parts,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  id: string,
  admitted: Admitted,
): boolean {
  let opened = false;
  // The answer to the handshake, `welcome` and what was missed leave in one write, not in three.
  socket.cork();
  parts.wss.handleUpgrade(request, socket, head, (ws) => {
    opened = true;
    openConnection(parts, ws, socket, id, admitted);
  });
  socket.uncork();
  if (!opened) {
    parts.admission.leaveAddress(admitted.addressKey, id);
    socket.destroy();
  }
  return opened;
}

/** When each socket opened, until its first request: what is left of its handshake's time. */
function watchSockets(server: Server): { readonly startedAt: WeakMap<Duplex, number>; stop(): void } {
  const startedAt = new WeakMap<Duplex, number>();
  const event = server instanceof TlsServer ? 'secureConnection' : 'connection';
  const onSocket = (socket: Duplex): void => void startedAt.set(socket, performance.now());
  const onRequest = (request: IncomingMessage): void => void startedAt.delete(request.socket);
  server.on(event, onSocket);
  server.on('request', onRequest);
  return {
    startedAt,
    stop() {
      server.off(event, onSocket);
      server.off('request', onRequest);
    },
  };
}

/**
 * While the bus is away each process knows its own connections only, and a person may have one in each. Once it carries again
 * everybody takes their place anew, a few at a time, and the newest wins. Everybody does so once a minute anyway: what was
 * lost while it was away for a moment only (a place not counted, a word to another process not heard) would stay else.
 */
function watchBus(parts: Parts): { stop(): void } {
  const { options, connections, admission } = parts;
  let healthySince: number | null = Number.NEGATIVE_INFINITY;
  let settled = true;
  let stopped = false;
  let round: readonly string[] = [];
  let look = 0;

  async function enterAnew(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      const connection = connections.get(id);
      if (stopped) return;
      if (connection === undefined || connection.holder === null || !isOpen(connection.state)) continue;
      await admission.enterUser(connection.path, connection.holder, id);
    }
  }
  const share = (part: number): number => Math.floor((round.length * part) / LOOKS_OF_ROUND);
  function enterShare(): void {
    if (look === 0) round = connections.ids();
    void enterAnew(round.slice(share(look), share(look + 1)));
    look = (look + 1) % LOOKS_OF_ROUND;
  }
  const timer = setInterval(() => {
    const now = options.clock.monotonic();
    if (!options.bus.healthy()) {
      healthySince = null;
      settled = false;
      return;
    }
    healthySince ??= now;
    if (settled) return enterShare();
    if (now - healthySince < SETTLE_MS) return;
    settled = true;
    void enterAnew(connections.ids());
  }, options.sweepMs ?? LOOK_MS);
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };
}

/** What takes a handshake of a server. */
type TakeHandshake = (request: IncomingMessage, socket: Duplex, head: Buffer) => Promise<void>;

/** Handshakes of all servers: how many are being decided, and whether any more are taken. */
interface Intake {
  inFlight: number;
  draining: boolean;
}

/** Decides each handshake of a listener, and upgrades or answers it. */
function createTaker(
  parts: Parts,
  intake: Intake,
  { channels, server }: WebSocketListener,
  startedAt: WeakMap<Duplex, number>,
): TakeHandshake {
  const { options, admission } = parts;
  const { metrics, settings } = options;
  const https = server instanceof TlsServer || settings.publicUrl.startsWith('https:');
  const handshakeMs = LIMITS.handshakeMs.value;
  const answer = (request: IncomingMessage, socket: Duplex, refusal: Refusal): void => {
    metrics?.refused?.(pathLabel(request.url, channels), refusal.code);
    refuseUpgrade(socket, refusal, https);
  };
  return async (request, socket, head) => {
    const begun = performance.now();
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    const left = handshakeMs - (begun - (startedAt.get(socket) ?? begun));
    startedAt.delete(socket);
    if (left <= 0) return answer(request, socket, TIMED_OUT);
    if (intake.inFlight >= HANDSHAKES_MOST) return answer(request, socket, CROWDED);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      answer(request, socket, { code: 'overloaded', detail: 'The handshake took too long', retryAfterMs: 1000 });
    }, left);
    const id = randomUUID();
    intake.inFlight++;
    // However that ends: a place that is not given back would, after enough of them, keep everybody out.
    const decided = await parts.handshakes.decide(request, channels, id, intake.draining).finally(() => {
      intake.inFlight--;
      clearTimeout(timer);
    });
    if (late || (intake.draining && !isRefusal(decided))) {
      if (!isRefusal(decided)) admission.leaveAddress(decided.addressKey, id);
      if (!late) answer(request, socket, { code: 'draining', detail: 'The server is ending' });
      return;
    }
    if (isRefusal(decided)) return answer(request, socket, decided);
    socket.off('error', onError);
    const opened = upgrade(parts, request, socket, head, id, decided);
    if (opened) metrics?.handshake?.(decided.path, (performance.now() - begun) / 1000);
    else metrics?.abandoned?.(decided.path);
  };
}

/** Takes the handshakes of one server from now on; answers how to let go of it. */
function takeFrom(parts: Parts, intake: Intake, listener: WebSocketListener): () => void {
  const { server } = listener;
  const sockets = watchSockets(server);
  const handshakeMs = LIMITS.handshakeMs.value;
  server.headersTimeout = Math.min(server.headersTimeout || handshakeMs, handshakeMs);
  const take = createTaker(parts, intake, listener, sockets.startedAt);
  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    take(request, socket, head).catch((error: unknown) => {
      parts.options.log.error({ err: error }, 'handshake failed');
      socket.destroy();
    });
  };
  server.on('upgrade', onUpgrade);
  return () => {
    server.off('upgrade', onUpgrade);
    sockets.stop();
  };
}

/** Attaches the transport to servers. Lowers their `headersTimeout` to 5 s, so that slow headers end too. */
export function attachWebSocket(
  listeners: readonly WebSocketListener[],
  options: WebSocketOptions,
): WebSocketTransport {
  const { settings, log } = options;
  const connections = createConnections(options);
  const tell = (fields: object, message: string): void => log.error(fields, message);
  // One line for all the connects of a second: with the bus away there is a failure for each.
  const failures = throttled({ warn: tell, error: tell }, FAILURE_MS, options.clock);
  const admission = createAdmission({
    ...options.bus,
    maxConnectionsPerUser: settings.maxConnectionsPerUser,
    maxConnectionsPerAddress: settings.maxConnectionsPerAddress,
    reconnectsPerMinute: settings.reconnectsPerMinute,
    replace: (id) => connections.get(id)?.close('replaced'),
    onFailure: (error) => void failures.error('limits', { err: error }, 'connection limits are not reachable'),
  });
  const wss = new WebSocketServer<typeof ViewerSocket>({
    WebSocket: ViewerSocket,
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    // Connections answer pings themselves, so that a peer that does not read cannot make answers pile up.
    autoPong: false,
    maxPayload: settings.maxMessageBytes,
    maxFragments: FRAGMENTS_MOST,
    maxBufferedChunks: CHUNKS_MOST,
    handleProtocols: answerProtocol,
  });
  const handshakes = createHandshakes(options, admission);
  const home = createHome(options, admission, connections);
  const parts: Parts = { options, admission, connections, handshakes, home, wss };
  const intake: Intake = { inFlight: 0, draining: false };
  const letGo = listeners.map((listener) => takeFrom(parts, intake, listener));
  let bus: { stop(): void } | null = null;

  return {
    connections: () => connections.size,
    handshakes: () => intake.inFlight,
    async start() {
      connections.start();
      bus = watchBus(parts);
      await admission.start();
    },
    drain(deadlineMs) {
      intake.draining = true;
      return connections.drain(deadlineMs);
    },
    async stop() {
      intake.draining = true;
      for (const end of letGo) end();
      bus?.stop();
      connections.stop();
      await admission.stop();
    },
  };
}
