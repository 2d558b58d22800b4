/**
 * The hub's way to a socket: whole frames straight to the raw socket beside `ws`. Safe because `ws` sends each frame of its
 * own in one synchronous cork/write/uncork, compression is off, and nothing is written once the connection is not open.
 */
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import type { Connection } from './connection.ts';
import type { WebSocketSink } from './options.ts';

const NOTHING = Buffer.alloc(0);

/** The sink of an open connection, which hears of every close that begins here. */
export class SocketSink implements WebSocketSink {
  readonly #ws: WebSocket;
  readonly #socket: Duplex;
  readonly #connection: Pick<Connection, 'noteClose'>;

  constructor(ws: WebSocket, socket: Duplex, connection: Pick<Connection, 'noteClose'>) {
    this.#ws = ws;
    this.#socket = socket;
    this.#connection = connection;
  }

  get open(): boolean {
    return this.#ws.readyState === WebSocket.OPEN && !this.#socket.destroyed;
  }

  get writableLength(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }

  whenDrained(callback: () => void): void {
    if (this.#socket.writableNeedDrain) {
      this.#socket.once('drain', callback);
      return;
    }
    // Below its high water mark a socket emits no 'drain'; an empty write is done when everything before it is.
    this.#socket.write(NOTHING, (error) => {
      if (error === null || error === undefined) callback();
    });
  }

  close(code: number, reason: string): void {
    if (this.#ws.readyState !== WebSocket.OPEN) return;
    this.#connection.noteClose(code);
    this.#ws.close(code, reason);
  }
}
