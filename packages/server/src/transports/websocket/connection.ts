/**
 * One open connection: what it says, how it is answered, when it ends.
 *
 * Its life: open -> (authenticate, ping, received …) -> closing -> closed. Whoever closes first names the code; the line in
 * the log and the metrics follow at the end of the socket. Errors in a message never repeat the message.
 */
import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import type { WebSocket } from 'ws';
import { refusalOf } from '../http/problem.ts';
import { isUncounted, type MessageProblem, readClientMessage } from './client-message.ts';
import { createConduct } from './conduct.ts';
import type { HubViewer, WebSocketOptions, WebSocketPrincipal } from './options.ts';

/** How long a connection without a credential lives by its `welcome`, in ms; nothing happens then. */
const ANONYMOUS_MS = 86_400_000;
/** What RFC 6455 section 7.4.1 calls a connection that ended without a close frame. */
const GONE = 1006;

/** What a connection is made of. */
export interface ConnectionParts {
  readonly id: string;
  readonly path: string;
  readonly ws: WebSocket;
  /** The peer's address, for the log. */
  readonly address: string;
  /** Null: anybody (`WS_PUBLIC_ALERTS`). */
  readonly principal: WebSocketPrincipal | null;
  readonly options: Pick<WebSocketOptions, 'settings' | 'clock' | 'verifyAccessToken' | 'metrics' | 'log'>;
  /** Called once, when the socket has ended. */
  readonly onEnd: (connection: Connection) => void;
}

/** An open connection. */
export interface Connection {
  readonly id: string;
  readonly path: string;
  readonly principal: WebSocketPrincipal | null;
  /** Unix ms by which the client must have authenticated again. */
  readonly reauthenticateBy: number;
  /** Joins it to its viewer; messages are read from then on. */
  begin(viewer: HubViewer): void;
  /** The server began to close with this code. */
  noteClose(code: number): void;
  send(message: object): void;
  close(name: CloseName): void;
  /** Cuts the socket. */
  terminate(): void;
  /** Heartbeat, deadlines and waiting receipts, at this time (Unix ms, monotonic ms). */
  upkeep(now: number, monotonic: number): void;
}

/** The end of a credential's time on a connection. Pure. */
export function reauthenticationDeadline(principal: WebSocketPrincipal | null, now: number, seconds: number): number {
  return principal === null ? now + ANONYMOUS_MS : Math.min(now + seconds * 1000, principal.expiresAt);
}

/** True when a new credential may take the place of the old one. Pure. */
export function sameHolder(before: WebSocketPrincipal, after: WebSocketPrincipal): boolean {
  return (
    before.subject === after.subject &&
    before.deviceId === after.deviceId &&
    (after.role === null) === (before.role === null)
  );
}

/** Creates a connection around an open socket. */
export function createConnection(parts: ConnectionParts): Connection {
  const { ws, options } = parts;
  const { clock, settings } = options;
  const conduct = createConduct(settings.messagesPer10Seconds);
  const startedAt = clock.monotonic();
  let principal = parts.principal;
  let reauthenticateBy = reauthenticationDeadline(principal, clock.now(), settings.reauthenticateSeconds);
  let viewer: HubViewer | null = null;
  let closeCode: number | null = null;
  const tokens: string[] = [];
  let received = 0;
  let pingDueAt = startedAt + settings.heartbeatSeconds * 1000;
  let pingedAt: number | null = null;

  function close(name: CloseName): void {
    // Through the hub, so that nothing is written after the close frame.
    if (viewer !== null) viewer.close(name);
    else ws.close(CLOSE_CODES[name].code, CLOSE_CODES[name].meaning);
  }
  function sendError(code: ErrorCode, detail: string): void {
    viewer?.send({ type: 'error', code, detail });
  }
  function refuse(code: ErrorCode, detail: string): void {
    if (conduct.error(clock.monotonic()) === 'close') close('policy');
    else sendError(code, detail);
  }

  /** One at a time, in their order; of those that come meanwhile each is answered. */
  async function authenticate(token: string): Promise<void> {
    if (principal === null) return refuse('schema', 'This connection has no holder to authenticate');
    tokens.push(token);
    if (tokens.length > 1) return;
    for (let next = tokens[0]; next !== undefined && closeCode === null; next = tokens[0]) {
      await check(next, principal);
      tokens.shift();
    }
  }
  async function check(token: string, holder: WebSocketPrincipal): Promise<void> {
    try {
      const next = await options.verifyAccessToken(token);
      if (!sameHolder(holder, next)) return close('policy');
      principal = next;
      reauthenticateBy = reauthenticationDeadline(next, clock.now(), settings.reauthenticateSeconds);
      viewer?.send({ type: 'authenticated', reauthenticateBy });
    } catch (error) {
      refuseToken(error);
    }
  }
  function refuseToken(error: unknown): void {
    const refusal: Refusal | null = refusalOf(error);
    if (refusal === null) options.log.error({ err: error, connection: parts.id }, 'authentication failed');
    if (refusal === null || refusal.code === 'store-unavailable') {
      sendError(refusal?.code ?? 'internal', 'The token could not be checked; try again');
    } else {
      refuse(refusal.code, 'The token was not accepted');
    }
  }

  function passOn(offset: number | null): void {
    if (offset !== null) viewer?.received(offset);
  }

  function onMessage(data: Buffer, isBinary: boolean): void {
    if (viewer === null || closeCode !== null) return;
    received++;
    options.metrics?.received?.(1);
    const message = isBinary ? BINARY : readClientMessage(data.toString());
    const verdict = conduct.message(isUncounted(message), clock.monotonic());
    if (verdict === 'close') return close('rate');
    if (verdict === 'warn')
      return sendError('rate-limited', `At most ${settings.messagesPer10Seconds} messages in 10 s`);
    switch (message.type) {
      case 'problem':
        return refuse(message.code, message.detail);
      case 'ping':
        return viewer.send({ type: 'pong' });
      case 'authenticate':
        return void authenticate(message.token);
      case 'received':
        if (message.offset > viewer.offset()) return refuse('schema', 'Nothing was sent up to that offset');
        return passOn(conduct.receipt(message.offset, clock.monotonic()));
      case 'command-acknowledged':
        return refuse('schema', 'There are no commands on this path');
    }
  }

  function onEnd(code: number): void {
    viewer?.close();
    const monotonic = clock.monotonic();
    const finalCode = closeCode ?? code;
    options.metrics?.closed?.(parts.path, finalCode);
    options.metrics?.duration?.(parts.path, (monotonic - startedAt) / 1000);
    options.metrics?.connections?.(parts.path, -1);
    const seconds = Math.round(monotonic - startedAt) / 1000;
    const { id, path, address } = parts;
    const fields = {
      connection: id,
      path,
      address,
      subject: principal?.subject,
      code: finalCode,
      seconds,
      received,
      offset: viewer?.offset(),
    };
    options.log.info(fields, 'connection closed');
    parts.onEnd(connection);
  }

  const connection: Connection = {
    id: parts.id,
    path: parts.path,
    get principal() {
      return principal;
    },
    get reauthenticateBy() {
      return reauthenticateBy;
    },
    begin(joined) {
      viewer = joined;
    },
    noteClose(code) {
      closeCode ??= code;
    },
    send: (message) => viewer?.send(message),
    close,
    terminate() {
      closeCode ??= GONE;
      ws.terminate();
    },
    upkeep(now, monotonic) {
      if (closeCode !== null) return;
      passOn(conduct.dueReceipt(monotonic));
      if (principal !== null && now >= reauthenticateBy) return close('expired');
      if (pingedAt !== null && monotonic - pingedAt >= LIMITS.pongMs.value) return connection.terminate();
      if (monotonic >= pingDueAt) {
        // The wait counts from the first ping without an answer, however many follow it.
        pingedAt ??= monotonic;
        pingDueAt = monotonic + settings.heartbeatSeconds * 1000;
        ws.ping();
      }
    },
  };

  options.metrics?.connections?.(parts.path, 1);
  // Buffers, as `binaryType` is 'nodebuffer' unless somebody changes it.
  ws.on('message', (data, isBinary) => onMessage(data as Buffer, isBinary));
  ws.on('ping', (data) => {
    // Who does not read gets none; RFC 6455 section 5.5.3 asks for an answer to the newest ping only.
    if (closeCode === null && ws.bufferedAmount < LIMITS.socketBufferBytes.value) ws.pong(data);
  });
  ws.on('pong', () => {
    pingedAt = null;
  });
  // ws closes by itself on broken frames (1002, 1007, 1009); the event 'close' follows.
  ws.on('error', () => undefined);
  ws.on('close', onEnd);
  return connection;
}

const BINARY: MessageProblem = { type: 'problem', code: 'schema', detail: 'Messages are JSON text' };
