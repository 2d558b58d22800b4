/**
 * A scripted viewer over WebSocket: records everything it is sent, checks that offsets rise, and resumes.
 *
 * Guarantee: a message that breaks the order (an offset that does not rise, something before `welcome`, a second `welcome`)
 * is kept in `faults`; tests expect that to be empty.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type ClientOptions, WebSocket } from 'ws';

/** A message as it came, parsed. */
export interface ViewerMessage {
  readonly type: string;
  readonly offset?: number;
  readonly data?: unknown;
  readonly [member: string]: unknown;
}

/** How a connection ended. */
export interface ViewerClose {
  readonly code: number;
  readonly reason: string;
}

/** Thrown by {@link connectViewer} when the server answers the handshake with an HTTP status. */
export class HandshakeRefused extends Error {
  override readonly name = 'HandshakeRefused';
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;

  constructor(status: number, headers: Readonly<Record<string, string | string[] | undefined>>, body: string) {
    super(`handshake refused with ${status}: ${body}`);
    this.status = status;
    this.headers = headers;
    this.body = body;
  }
}

/** What a viewer shows and asks for. */
export interface ViewerOptions {
  /** Sent as `Authorization: Bearer`. */
  readonly token?: string;
  readonly protocols?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  /** Go on after this point. */
  readonly resume?: { readonly epoch: string; readonly offset: number };
  readonly client?: ClientOptions;
}

/** A connected viewer. */
export interface ScriptedViewer {
  readonly socket: WebSocket;
  readonly messages: readonly ViewerMessage[];
  /** What broke the order, in words. */
  readonly faults: readonly string[];
  /** The first message. */
  readonly welcome: ViewerMessage;
  /** The offset up to which it has everything: of the last message with one. */
  offset(): number;
  /** Messages of the channel (`alert`, `alert-update`, `command`), in order. */
  channel(): ViewerMessage[];
  /** Waits for the first message (already here or to come) that `test` accepts. */
  until(test: (message: ViewerMessage) => boolean, timeoutMs?: number): Promise<ViewerMessage>;
  send(message: object | string): void;
  /** How it ended; resolves when it has. */
  readonly closed: Promise<ViewerClose>;
  /** Closes (1000) and waits for the end. */
  close(): Promise<ViewerClose>;
  /** Cuts the connection without a close frame. */
  cut(): void;
  /** Where a new connection goes on. */
  resumePoint(): { readonly epoch: string; readonly offset: number };
}

/** Longest wait of a viewer for anything, in ms. */
const PATIENCE_MS = 10_000;

function checkOrder(messages: readonly ViewerMessage[], message: ViewerMessage, last: number): string | null {
  if ((messages.length === 0) !== (message.type === 'welcome')) return `${message.type} at place ${messages.length}`;
  if (message.type === 'welcome' || message.offset === undefined) return null;
  // A watermark names an offset that was read a moment ago; it may lie behind.
  const rises = message.type === 'watermark' || message.offset > last;
  return rises ? null : `${message.type} ${message.offset} after ${last}`;
}

function urlWith(url: string, options: ViewerOptions): string {
  const full = new URL(url);
  if (options.resume !== undefined) {
    full.searchParams.set('epoch', options.resume.epoch);
    full.searchParams.set('offset', String(options.resume.offset));
  }
  return full.href;
}

/** Opens a socket. */
function openSocket(url: string, options: ViewerOptions): WebSocket {
  const headers = {
    ...options.headers,
    ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
  };
  return new WebSocket(urlWith(url, options), [...(options.protocols ?? [])], { ...options.client, headers });
}

/** Connects and waits for the first message. Rejects with {@link HandshakeRefused} when the handshake is refused. */
export async function connectViewer(url: string, options: ViewerOptions = {}): Promise<ScriptedViewer> {
  const socket = openSocket(url, options);
  const messages: ViewerMessage[] = [];
  const faults: string[] = [];
  const waiters = new Set<() => void>();
  let end: (close: ViewerClose) => void = () => undefined;
  const closed = new Promise<ViewerClose>((resolve) => {
    end = resolve;
  });
  let last = 0;
  let over = false;

  const failed = new Promise<never>((_, reject) => {
    socket.once('error', reject);
    socket.once('unexpected-response', (_request, response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        body += part;
      });
      response.on('end', () => {
        reject(new HandshakeRefused(response.statusCode ?? 0, response.headers, body));
        socket.terminate();
      });
    });
  });
  failed.catch(() => undefined);
  socket.on('error', () => undefined);
  socket.on('message', (data) => {
    const message = JSON.parse((data as Buffer).toString()) as ViewerMessage;
    const fault = checkOrder(messages, message, last);
    if (fault !== null) faults.push(fault);
    if (message.offset !== undefined) last = Math.max(last, message.offset);
    messages.push(message);
    for (const wake of waiters) wake();
  });
  socket.on('close', (code, reason) => {
    over = true;
    end({ code, reason: String(reason) });
    for (const wake of waiters) wake();
  });

  async function until(
    test: (message: ViewerMessage) => boolean,
    timeoutMs: number = PATIENCE_MS,
  ): Promise<ViewerMessage> {
    const giveUpAt = performance.now() + timeoutMs;
    for (let next = 0; ; ) {
      for (; next < messages.length; next++) {
        const message = messages[next];
        if (message !== undefined && test(message)) return message;
      }
      if (over) throw new Error('the connection ended before the message came');
      if (performance.now() > giveUpAt)
        throw new Error(`no such message within ${timeoutMs} ms; there were ${messages.length}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          waiters.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, Math.max(1, giveUpAt - performance.now() + 1));
        waiters.add(wake);
      });
    }
  }

  const welcome = await Promise.race([until(() => true), failed]).catch((error: unknown) => {
    socket.terminate();
    throw error;
  });
  return {
    socket,
    messages,
    faults,
    welcome,
    offset: () => last,
    channel: () => messages.filter((message) => message.offset !== undefined && message.data !== undefined),
    until,
    send: (message) => socket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    closed,
    async close() {
      socket.close(1000);
      const timer = new AbortController();
      const late = pause(PATIENCE_MS, undefined, { signal: timer.signal }).then(
        () => socket.terminate(),
        () => undefined,
      );
      const result = await closed;
      timer.abort();
      await late;
      return result;
    },
    cut: () => socket.terminate(),
    resumePoint: () => ({ epoch: String(welcome['epoch']), offset: last }),
  };
}
