/**
 * One open connection: what it says, how it is answered, when it ends. Its life is the table in `connection-state.ts`.
 *
 * Guarantees: whoever closes first names the code; after a close frame nothing is sent; the line in the log and the metrics
 * follow at the end of the socket, once. Errors in a message never repeat the message.
 * A class with few fields, and listeners that all connections share: thousands of them are held for hours.
 */
import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { WebSocket } from 'ws';
import { refusalOf } from '../http/problem.ts';
import { isUncounted, type MessageProblem, readClientMessage } from './client-message.ts';
import { Conduct } from './conduct.ts';
import { type ConnectionEvent, type ConnectionState, dueNow, isOpen, leadsTo } from './connection-state.ts';
import { reauthenticationDeadline, sameHolder } from './credential.ts';
import { codeOfBroken, endReason, GONE } from './end-reason.ts';
import type { HubViewer, WebSocketOptions, WebSocketPrincipal } from './options.ts';

const BINARY: MessageProblem = { type: 'problem', code: 'schema', detail: 'Messages are JSON text' };

/** Tokens that may wait while the store is slow to check them; no client needs more than the newest. */
export const TOKENS_WAITING_MOST = 16;

/** Who a connection is. */
export interface ConnectionIdentity {
  readonly id: string;
  readonly path: string;
  /** The peer's address, for the log, and what limits count it by. */
  readonly address: string;
  readonly addressKey: string;
  /** Whom the limits of users count; null for anybody. */
  readonly holder: string | null;
  /** Null: anybody (`WS_PUBLIC_ALERTS`). */
  readonly principal: WebSocketPrincipal | null;
  /** What it says counts for the limits only. */
  readonly raw: boolean;
  /** How its viewer begins: `fresh`, `resume`, `unrecovered`. */
  readonly plan: string;
  /** The socket below, for what went over it. */
  readonly socket: Traffic;
}

/** Bytes of a socket since it opened, the handshake included. */
export interface Traffic {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** What all connections of a process share. */
export interface ConnectionHome {
  readonly options: Pick<WebSocketOptions, 'settings' | 'clock' | 'verifyAccessToken' | 'metrics' | 'log'>;
  /** The connection was told to connect anew, elsewhere. */
  moving(connection: Connection): void;
  /** The server begins to close the connection with this code, without having told it before. */
  closing(connection: Connection, code: number): void;
  /** Called once, when the socket has ended. */
  ended(connection: Connection): void;
}

/** A socket that knows its connection, so that its listeners can be shared. */
export class ViewerSocket extends WebSocket {
  connection: Connection | null = null;
}

/** An open connection. */
export class Connection {
  readonly id: string;
  readonly path: string;
  readonly address: string;
  readonly addressKey: string;
  readonly holder: string | null;
  readonly plan: string;
  principal: WebSocketPrincipal | null;
  /** Unix ms by which the client must have authenticated again. */
  reauthenticateBy: number;
  /** Resolves once the limits of users know it. */
  entered: Promise<void> | null = null;
  readonly #raw: boolean;
  readonly #home: ConnectionHome;
  readonly #ws: ViewerSocket;
  readonly #socket: Traffic;
  readonly #conduct: Conduct;
  readonly #startedAt: number;
  #state: ConnectionState = OPENING;
  #viewer: HubViewer | null = null;
  /** Tokens that wait to be checked, the one that is being checked first. */
  #tokens: string[] | null = null;
  #received = 0;

  constructor(identity: ConnectionIdentity, ws: ViewerSocket, home: ConnectionHome) {
    this.id = identity.id;
    this.path = identity.path;
    this.address = identity.address;
    this.addressKey = identity.addressKey;
    this.holder = identity.holder;
    this.plan = identity.plan;
    this.principal = identity.principal;
    this.#raw = identity.raw;
    this.#home = home;
    this.#ws = ws;
    this.#socket = identity.socket;
    const { clock, settings, metrics } = home.options;
    this.#conduct = new Conduct(settings.messagesPer10Seconds);
    this.#startedAt = clock.monotonic();
    this.reauthenticateBy = reauthenticationDeadline(this.principal, clock.now(), settings.reauthenticateSeconds);
    metrics?.connections?.(this.path, 1);
    ws.connection = this;
    ws.on('message', onMessage).on('ping', onPing).on('pong', onPong).on('error', onError).on('close', onClose);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Joins it to its viewer; messages are read from then on. */
  begin(viewer: HubViewer): void {
    this.#viewer = viewer;
    const { clock, settings } = this.#home.options;
    // The first ping comes early by a different share for each: those who came at once are not all pinged at once.
    const first = settings.heartbeatSeconds * 1000 * (1 - Math.random() / 2);
    this.#step('joined', { kind: 'live', pingAt: clock.monotonic() + first });
  }

  /** The server began to close with this code. */
  noteClose(code: number): void {
    const closing = { kind: 'closing', code, since: this.#home.options.clock.monotonic() } as const;
    const told = this.#state.kind === 'moving';
    if (this.#step('close', closing) && !told) this.#home.closing(this, code);
  }

  send(message: object): void {
    if (isOpen(this.#state)) this.#viewer?.send(message);
  }

  close(name: CloseName): void {
    const { code, meaning } = CLOSE_CODES[name];
    // Through the hub, so that nothing is written after the close frame.
    if (this.#viewer !== null) this.#viewer.close(name);
    else this.#ws.close(code, meaning);
    this.noteClose(code);
  }

  /** Tells it to connect anew in `retryAfterMs`; it is closed with 1001 at `closeAt` (monotonic ms), and hears all until then. */
  move(retryAfterMs: number, closeAt: number): void {
    if (!this.#step('told-to-move', { kind: 'moving', closeAt })) return;
    this.#viewer?.send({ type: 'moving', retryAfterMs });
    this.#home.moving(this);
  }

  /** Cuts the socket. */
  terminate(): void {
    this.noteClose(GONE);
    this.#ws.terminate();
  }

  /** Heartbeat, deadlines and waiting receipts, at this time (Unix ms, monotonic ms). */
  upkeep(now: number, monotonic: number): void {
    if (isOpen(this.#state)) this.#passOn(this.#conduct.dueReceipt(monotonic));
    const expired = this.principal !== null && now >= this.reauthenticateBy;
    switch (dueNow(this.#state, expired, monotonic, LIMITS.pongMs.value)) {
      case 'nothing':
        return;
      case 'expired':
        return this.close('expired');
      case 'move-on':
        return this.close('end');
      case 'cut':
        return this.terminate();
      case 'ping':
        return this.#ping(monotonic);
    }
  }

  /** A message of the client. */
  take(data: Buffer, isBinary: boolean): void {
    const viewer = this.#viewer;
    if (!this.#heeds() || viewer === null) return;
    const { settings, clock, metrics } = this.#home.options;
    this.#received++;
    metrics?.received?.(1);
    if (this.#raw) {
      if (this.#conduct.message(false, clock.monotonic()) === 'close') this.close('rate');
      return;
    }
    const message = isBinary ? BINARY : readClientMessage(data.toString());
    const verdict = this.#conduct.message(isUncounted(message), clock.monotonic());
    if (verdict === 'close') return this.close('rate');
    if (verdict === 'warn')
      return this.#sendError('rate-limited', `At most ${settings.messagesPer10Seconds} messages in 10 s`);
    switch (message.type) {
      case 'problem':
        return this.#refuse(message.code, message.detail);
      case 'ping':
        return viewer.send({ type: 'pong' });
      case 'authenticate':
        return void this.#authenticate(message.token);
      case 'received':
        if (message.offset > viewer.offset()) return this.#refuse('schema', 'Nothing was sent up to that offset');
        return this.#passOn(this.#conduct.receipt(message.offset, clock.monotonic()));
      case 'command-acknowledged':
        return this.#refuse('schema', 'There are no commands on this path');
    }
  }

  /** A ping of the client, as RFC 6455 section 5.5.2 has it. */
  answerPing(data: Buffer): void {
    // Who does not read gets none; section 5.5.3 asks for an answer to the newest ping only.
    if (this.#heeds() && this.#ws.bufferedAmount < LIMITS.socketBufferBytes.value) this.#ws.pong(data);
  }

  /** A pong of the client. */
  noteAnswer(): void {
    if (this.#heeds() && this.#state.kind === 'probing')
      this.#step('answered', { kind: 'live', pingAt: this.#state.pingAt });
  }

  /** The socket has ended, with `code` if the client was first. */
  finish(code: number): void {
    const { clock, metrics, log } = this.#home.options;
    const finalCode = this.#state.kind === 'closing' ? this.#state.code : code;
    const by = this.#state.kind === 'closing' ? 'server' : 'client';
    if (!this.#step('ended', { kind: 'closed', code: finalCode })) return;
    this.#passOn(this.#conduct.lastReceipt());
    this.#viewer?.close();
    const lived = clock.monotonic() - this.#startedAt;
    const reason = endReason(finalCode, by);
    metrics?.closed?.(this.path, finalCode, reason);
    metrics?.duration?.(this.path, lived / 1000);
    metrics?.connections?.(this.path, -1);
    const { bytesRead, bytesWritten } = this.#socket;
    log.info(
      {
        ...{ connection: this.id, path: this.path, address: this.address },
        ...{ subject: this.principal?.subject, deviceId: this.principal?.deviceId ?? undefined },
        ...{ code: finalCode, by, reason, seconds: Math.round(lived) / 1000, plan: this.plan },
        ...{ received: this.#received, bytesRead, bytesWritten, offset: this.#viewer?.offset() },
      },
      'connection closed',
    );
    this.#home.ended(this);
  }

  #step(event: ConnectionEvent, next: ConnectionState): boolean {
    if (!leadsTo(this.#state, event, next.kind)) return false;
    this.#state = next;
    return true;
  }

  /** A frame came; answers whether it counts. A flood is closed, and cut when it goes on after that. */
  #heeds(): boolean {
    if (this.#conduct.flood(this.#home.options.clock.monotonic())) {
      if (isOpen(this.#state)) this.close('rate');
      else this.terminate();
    }
    return isOpen(this.#state);
  }

  #ping(monotonic: number): void {
    const { settings } = this.#home.options;
    // The wait counts from the first ping without an answer, however many follow it.
    const since = this.#state.kind === 'probing' ? this.#state.since : monotonic;
    const pingAt = monotonic + settings.heartbeatSeconds * 1000;
    if (this.#step('pinged', { kind: 'probing', since, pingAt })) this.#ws.ping();
  }

  #sendError(code: ErrorCode, detail: string): void {
    this.send({ type: 'error', code, detail });
  }

  #refuse(code: ErrorCode, detail: string): void {
    if (this.#conduct.error(this.#home.options.clock.monotonic()) === 'close') this.close('policy');
    else this.#sendError(code, detail);
  }

  /** One at a time, in their order; of those that come meanwhile each is answered. */
  async #authenticate(token: string): Promise<void> {
    if (this.principal === null) return this.#refuse('schema', 'This connection has no holder to authenticate');
    if (this.#tokens !== null) {
      if (this.#tokens.length < TOKENS_WAITING_MOST) return void this.#tokens.push(token);
      return this.#sendError('rate-limited', 'Too many tokens wait to be checked');
    }
    const tokens = [token];
    this.#tokens = tokens;
    for (let next = tokens[0]; next !== undefined && isOpen(this.#state); next = tokens[0]) {
      await this.#check(next, this.principal);
      tokens.shift();
    }
    this.#tokens = null;
  }

  async #check(token: string, holder: WebSocketPrincipal): Promise<void> {
    const { options } = this.#home;
    try {
      const next = await options.verifyAccessToken(token);
      if (!isOpen(this.#state)) return;
      if (!sameHolder(holder, next)) return this.close('policy');
      this.principal = next;
      this.reauthenticateBy = reauthenticationDeadline(
        next,
        options.clock.now(),
        options.settings.reauthenticateSeconds,
      );
      this.send({ type: 'authenticated', reauthenticateBy: this.reauthenticateBy });
    } catch (error) {
      this.#refuseToken(error);
    }
  }

  #refuseToken(error: unknown): void {
    const refusal: Refusal | null = refusalOf(error);
    if (refusal === null) this.#home.options.log.error({ err: error, connection: this.id }, 'authentication failed');
    if (refusal === null || refusal.code === 'store-unavailable') {
      this.#sendError(refusal?.code ?? 'internal', 'The token could not be checked; try again');
    } else {
      this.#refuse(refusal.code, 'The token was not accepted');
    }
  }

  #passOn(offset: number | null): void {
    if (offset !== null) this.#viewer?.received(offset);
  }
}

const OPENING: ConnectionState = { kind: 'opening' };

// Listeners get the socket as `this`; Buffers, as `binaryType` is 'nodebuffer' unless somebody changes it.
function onMessage(this: WebSocket, data: unknown, isBinary: boolean): void {
  (this as ViewerSocket).connection?.take(data as Buffer, isBinary);
}
function onPing(this: WebSocket, data: Buffer): void {
  (this as ViewerSocket).connection?.answerPing(data);
}
function onPong(this: WebSocket): void {
  (this as ViewerSocket).connection?.noteAnswer();
}
function onClose(this: WebSocket, code: number): void {
  (this as ViewerSocket).connection?.finish(code);
}
/** ws has closed by itself for a broken frame; the event 'close' follows, with whatever code the client answers. */
function onError(this: WebSocket, error: Error): void {
  (this as ViewerSocket).connection?.noteClose(codeOfBroken(error));
}
