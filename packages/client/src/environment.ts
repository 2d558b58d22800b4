/**
 * What the SDK needs of the place it runs in, as an interface: clocks, chance, timers, HTTP, a socket, a verifier of
 * signatures. `browser.ts` and `node.ts` fill it in; tests use one whose time they move.
 */

/** How a socket ended. */
export interface SocketEnd {
  /** Close code; 1006 when there was no close frame or no connection at all. */
  readonly code: number;
  /** HTTP status of a refused handshake; null where it is not known, as in browsers. */
  readonly status: number | null;
  /** Its `Retry-After`, in ms. */
  readonly retryAfterMs: number | null;
}

/** What a socket tells. Nothing comes after `closed`. */
export interface SocketEvents {
  /** A message; null for a binary one. */
  message(text: string | null): void;
  closed(end: SocketEnd): void;
}

/** A socket that was asked for. */
export interface Socket {
  /** Sends, or does nothing when the socket is not open. */
  send(text: string): void;
  /** Ends it with 1000; events may still come. */
  close(): void;
}

/** An answer over HTTP, as `fetch` gives it. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: { getReader(): { read(): Promise<{ done: boolean; value?: Uint8Array }>; cancel(): unknown } } | null;
}

/** A request over HTTP, as `fetch` takes it. */
export interface HttpInit {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly cache: 'no-store';
  readonly redirect: 'error';
  readonly credentials: 'same-origin' | 'omit';
  readonly signal: AbortSignal;
}

/** The part of `SubtleCrypto` that checks signatures. */
export interface Subtle {
  importKey(format: 'jwk', key: object, algorithm: object, extractable: boolean, usages: ['verify']): Promise<unknown>;
  verify(algorithm: object, key: unknown, signature: Uint8Array, data: Uint8Array): Promise<boolean>;
}

/** Where the SDK runs. */
export interface Environment {
  /** Unix ms. */
  now(): number;
  /** Milliseconds of a clock that nobody sets. */
  monotonic(): number;
  /** From 0 to below 1. */
  random(): number;
  /** Runs `work` once after `ms`; answers how to prevent it. */
  after(ms: number, work: () => void): () => void;
  fetch(url: string, init: HttpInit): Promise<HttpResponse>;
  /** Null where there is none: a page over plain http that is not on localhost. */
  readonly subtle: Subtle | null;
  /** Opens a socket. `bearer` null: nothing is carried but what the browser adds. Throws when it cannot even try. */
  openSocket(url: string, bearer: string | null, events: SocketEvents): Socket;
  /** Calls `listener` when the network came or went or the page woke; answers how to stop. */
  onWake(listener: () => void): () => void;
}
