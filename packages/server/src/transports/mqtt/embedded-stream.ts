/** What the library takes for the socket of a client: whole, checked packets in one direction, its answers in the other. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

type Chunk = { readonly chunk: Buffer };

/** The stream. `onDestroyed`: the library ended it, or it was ended. */
export class PacketStream extends Duplex {
  readonly #socket: Socket;
  readonly #onDestroyed: () => void;

  constructor(socket: Socket, onDestroyed: () => void) {
    super({ allowHalfOpen: true, emitClose: true });
    this.#socket = socket;
    this.#onDestroyed = onDestroyed;
  }

  override _read(): void {
    // Packets are pushed as they come; how many at once is the connection's window.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    // Its callback comes when the peer takes the bytes: who does not read its answers fills this stream, and is not read either.
    this.#socket.write(chunk, done);
  }

  override _writev(chunks: Chunk[], done: (error?: Error | null) => void): void {
    this.#socket.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#onDestroyed();
    done(error);
  }
}
