/**
 * The way to the broker: TCP, with TLS unless it is switched off, as the stream that the library reads and writes.
 *
 * Guarantees: the files of certificates are read for each connection, so that new ones count without a restart; the broker's
 * certificate and name are checked; nothing is sent before they are. What is too large does not come through
 * (`link-frames.ts`). A reader that does not read stops the peer (TCP).
 * Failure: {@link LinkError} `files`, `name`, `unreachable`, `timeout`, `tls` or `closed`.
 */
import { readFile } from 'node:fs/promises';
import { connect, isIP, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { FrameFilter } from './link-frames.ts';
import { LinkError, linkError } from './link-reason.ts';

/** Where the broker is, and who we are there. */
export interface LinkTarget {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** Of the authority that the broker's certificate must come from; null: those that Node knows. */
  readonly caFile: string | null;
  readonly certFile: string | null;
  readonly keyFile: string | null;
  /** What we call ourselves in CONNECT; a password only with a user name. */
  readonly username: string | null;
  readonly password: string | null;
}

const KEEP_ALIVE_MS = 30_000;
const LAST_WORDS_MS = 500;

/** Connects; the stream is ready to use. */
export async function openStream(
  target: LinkTarget,
  filter: FrameFilter,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Duplex> {
  const socket = await openSocket(target);
  // Node's `tls.connect` does not look at the options of that name. A PUBACK must not wait for that of TCP.
  socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
  // Also between two of those who listen below.
  socket.on('error', () => undefined);
  return await new Promise<Duplex>((resolve, reject) => {
    const ready = target.tls ? 'secureConnect' : 'connect';
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      socket.off('error', failed).off('close', closed);
      signal.removeEventListener('abort', aborted);
      settle();
    };
    const fail = (error: LinkError): void => {
      finish(() => reject(error));
      socket.destroy();
    };
    const failed = (error: Error): void => fail(linkError(error));
    const closed = (): void => fail(new LinkError('closed', 'the connection ended before it was ready'));
    const aborted = (): void => fail(new LinkError('stopped', 'the link ends'));
    const timer = setTimeout(() => fail(new LinkError('timeout', `no connection in ${timeoutMs} ms`)), timeoutMs);
    socket.once('error', failed).once('close', closed);
    // At once, as it may end in this very turn of the event loop.
    socket.once(ready, () => finish(() => resolve(new BrokerStream(socket, filter))));
    signal.addEventListener('abort', aborted, { once: true });
    if (signal.aborted) aborted();
  });
}

/** User name and password as the library takes them. */
export function loginOf({ username, password }: LinkTarget): { username?: string; password?: string } {
  if (username === null) return {};
  return password === null ? { username } : { username, password };
}

async function openSocket({ host, port, tls, caFile, certFile, keyFile }: LinkTarget): Promise<Socket> {
  if (!tls) return connect({ host, port });
  const read = async (file: string | null): Promise<Buffer | undefined> =>
    file === null ? undefined : await readFile(file);
  try {
    const [ca, cert, key] = await Promise.all([read(caFile), read(certFile), read(keyFile)]);
    return connectTls({
      host,
      port,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(isIP(host) === 0 ? { servername: host } : {}),
      minVersion: 'TLSv1.2',
    });
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new LinkError('files', `the certificates for the broker: ${detail}`, { cause: error });
  }
}

/** A socket whose incoming bytes are filtered. */
class BrokerStream extends Duplex {
  readonly #socket: Socket;

  constructor(socket: Socket, filter: FrameFilter) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    // Until the reader listens.
    this.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      const parts = filter(chunk);
      if (parts === null) return this.destroy(new LinkError('protocol', 'what the broker sends is not MQTT'));
      for (const part of parts) if (!this.push(part)) socket.pause();
      return undefined;
    });
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(linkError(error)));
    // The reader is to have the last words, e.g. DISCONNECT with its reason; one that does not read has them no more.
    socket.on('close', () => {
      const limit = setTimeout(() => this.destroy(), LAST_WORDS_MS);
      this.once('close', () => clearTimeout(limit));
    });
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#socket.write(chunk)) done();
    else this.#socket.once('drain', done);
  }

  override _writev(chunks: { readonly chunk: Buffer }[], done: () => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'buffer' as BufferEncoding, done);
  }

  override _final(done: () => void): void {
    if (this.#socket.destroyed) done();
    else this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
