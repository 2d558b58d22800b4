/**
 * Keep-alive connections to one server, one request at a time on each, first come first served; made for load: about
 * 30 µs of processor for a request and its answer, where a general client takes several times that.
 *
 * Guarantees: every request ends exactly once, with an answer or with the name of what went wrong; never sent twice.
 * Connections are made when they are needed, and again after a pause (50 ms doubling to 2 s) when that failed. What waits
 * is bounded by the caller (see {@link HttpPool.outstanding}).
 */
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectSecure } from 'node:tls';
import { createResponseReader, type HttpResponse, type ResponseReader } from './http-response.ts';

/** How a request ended: `unanswered` was sent, and no answer came in time or the connection broke; `unsent` never was. */
export type HttpOutcome =
  | { readonly kind: 'answer'; readonly response: HttpResponse }
  | { readonly kind: 'unanswered'; readonly why: 'timeout' | 'connection' }
  | { readonly kind: 'unsent' };

/** Where to and how. */
export interface HttpPoolOptions {
  /** `http://host:port` or `https://host:port`. */
  readonly origin: string;
  readonly connections: number;
  /** From the first byte sent to the last one received, ms. */
  readonly timeoutMs: number;
}

/** The pool. */
export interface HttpPool {
  /** Sends the text of a whole request (latin1), which is made once a connection is free: now or later. */
  send(make: () => string, done: (outcome: HttpOutcome) => void): void;
  /** Requests that have not ended. */
  outstanding(): number;
  /** Since when every try to connect has failed, ms of `performance.now()`; null while the last one did not. */
  downSince(): number | null;
  /** What was the matter with the last connection that failed. */
  lastError(): string;
  /** Ends what waits for a connection, as unsent. */
  giveUpWaiting(): void;
  /** Ends what is waiting or under way, and all connections. */
  close(): void;
}

interface Waiting {
  readonly make: () => string;
  readonly done: (outcome: HttpOutcome) => void;
}

interface Connection {
  readonly socket: Socket;
  readonly reader: ResponseReader;
  current: Waiting | null;
  sentAt: number;
  open: boolean;
}

const SWEEP_MS = 100;
const CONNECT_TIMEOUT_MS = 5000;
const BACK_OFF_LEAST_MS = 50;
const BACK_OFF_MOST_MS = 2000;

/** Builds it; nothing is connected yet. */
export function createHttpPool(options: HttpPoolOptions): HttpPool {
  const pool = new Pool(options);
  return {
    send: (make, done) => pool.send(make, done),
    outstanding: () => pool.outstanding,
    downSince: () => pool.downSince,
    lastError: () => pool.lastError,
    giveUpWaiting: () => pool.giveUpWaiting(),
    close: () => pool.close(),
  };
}

class Pool {
  outstanding = 0;
  downSince: number | null = null;
  lastError = '';
  readonly #options: HttpPoolOptions;
  readonly #target: { readonly host: string; readonly port: number; readonly secure: boolean };
  readonly #all = new Set<Connection>();
  /** Those that are free, the last used last: the others may grow old and be closed. */
  readonly #idle: Connection[] = [];
  readonly #line = new Line();
  readonly #sweep: NodeJS.Timeout;
  #backOffMs = BACK_OFF_LEAST_MS;
  #mayConnectAt = 0;
  #closed = false;

  constructor(options: HttpPoolOptions) {
    this.#options = options;
    const { hostname, port, protocol } = new URL(options.origin);
    const secure = protocol === 'https:';
    const host = hostname.replace(/^\[|\]$/g, '');
    this.#target = { host, port: port === '' ? (secure ? 443 : 80) : Number(port), secure };
    this.#sweep = setInterval(() => this.#lookAround(), SWEEP_MS);
    this.#sweep.unref();
  }

  send(make: () => string, done: (outcome: HttpOutcome) => void): void {
    this.outstanding += 1;
    const waiting = { make, done };
    if (this.#closed) return this.#finish(waiting, { kind: 'unsent' });
    const connection = this.#idle.pop();
    if (connection !== undefined) return write(connection, waiting);
    this.#line.push(waiting);
    this.#connectIfNeeded();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sweep);
    for (const connection of this.#all) this.#drop(connection, 'timeout');
    this.giveUpWaiting();
  }

  giveUpWaiting(): void {
    for (let one = this.#line.shift(); one !== undefined; one = this.#line.shift())
      this.#finish(one, { kind: 'unsent' });
  }

  #connectIfNeeded(): void {
    if (this.#closed || this.#line.length === 0 || this.#all.size >= this.#options.connections) return;
    if (performance.now() < this.#mayConnectAt) return;
    const opening = [...this.#all].filter(({ open }) => !open).length;
    if (opening < this.#line.length) this.#connect();
  }

  #connect(): void {
    const { host, port, secure } = this.#target;
    const socket = secure
      ? connectSecure({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}) })
      : connectPlain({ host, port });
    const connection: Connection = {
      socket,
      reader: createResponseReader(),
      current: null,
      sentAt: performance.now(),
      open: false,
    };
    this.#all.add(connection);
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on(secure ? 'secureConnect' : 'connect', () => {
      connection.open = true;
      this.downSince = null;
      this.#backOffMs = BACK_OFF_LEAST_MS;
      this.#free(connection);
      this.#connectIfNeeded();
    });
    socket.on('data', (piece: string) => this.#read(connection, piece));
    socket.on('error', (error: Error) => {
      this.lastError = error.message;
    });
    socket.on('close', () => this.#closedBy(connection));
  }

  #read(connection: Connection, piece: string): void {
    try {
      const response = connection.reader.push(piece);
      if (response !== null) this.#answer(connection, response);
    } catch (error) {
      this.lastError = error instanceof Error ? error.message : String(error);
      this.#drop(connection, 'connection');
    }
  }

  #answer(connection: Connection, response: HttpResponse): void {
    const { current } = connection;
    connection.current = null;
    if (current === null) return this.#drop(connection, 'connection');
    if (response.close) this.#drop(connection, 'connection');
    else this.#free(connection);
    this.#finish(current, { kind: 'answer', response });
  }

  /** A connection that is free takes the next request, or waits for one. */
  #free(connection: Connection): void {
    const next = this.#line.shift();
    if (next === undefined) this.#idle.push(connection);
    else write(connection, next);
  }

  #closedBy(connection: Connection): void {
    if (!this.#all.has(connection)) return;
    let response: HttpResponse | null = null;
    try {
      response = connection.reader.end();
    } catch (error) {
      this.lastError = error instanceof Error ? error.message : String(error);
    }
    if (response !== null) return this.#answer(connection, response);
    this.#drop(connection, 'connection');
  }

  /** Ends a connection, and with it the request that it carries. */
  #drop(connection: Connection, why: 'timeout' | 'connection'): void {
    if (!this.#all.delete(connection)) return;
    const place = this.#idle.indexOf(connection);
    if (place >= 0) this.#idle.splice(place, 1);
    connection.socket.destroy();
    if (!connection.open) {
      // Nobody listens there: the others that are on their way would fail alike, so the next tries wait.
      this.#mayConnectAt = performance.now() + this.#backOffMs;
      this.#backOffMs = Math.min(BACK_OFF_MOST_MS, this.#backOffMs * 2);
      if (![...this.#all].some(({ open }) => open)) this.downSince ??= performance.now();
    }
    const { current } = connection;
    connection.current = null;
    if (current !== null) this.#finish(current, { kind: 'unanswered', why });
    this.#connectIfNeeded();
  }

  #finish({ done }: Waiting, outcome: HttpOutcome): void {
    this.outstanding -= 1;
    done(outcome);
  }

  #lookAround(): void {
    const now = performance.now();
    for (const connection of this.#all) {
      const limit = connection.open ? this.#options.timeoutMs : CONNECT_TIMEOUT_MS;
      if ((connection.current !== null || !connection.open) && now - connection.sentAt > limit)
        this.#drop(connection, 'timeout');
    }
    this.#connectIfNeeded();
  }
}

function write(connection: Connection, waiting: Waiting): void {
  connection.current = waiting;
  connection.sentAt = performance.now();
  connection.socket.write(waiting.make(), 'latin1');
}

/** First in, first out, without moving what waits. */
class Line {
  #items: (Waiting | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: Waiting): void {
    this.#items.push(item);
  }

  shift(): Waiting | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
