/**
 * A TCP proxy that breaks: for tests of links that are cut, half-open or slow.
 *
 * An order holds in both directions for every connection, those of before and those to come, until the next order.
 * Bytes are never reordered or changed. `halfOpen` loses what arrives while it lasts, ends included, as a dead router
 * does; whatever lost something is reset by `heal`: no stream goes on with a hole in it.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Where the bytes go. */
export interface ProxyTarget {
  /** Default 127.0.0.1. */
  readonly host?: string;
  readonly port: number;
}

/** A listening proxy on 127.0.0.1. */
export interface Proxy {
  readonly port: number;
  /** `url` with host and port of this proxy: scheme, user, password, path and query stay. */
  urlFor(url: string): string;
  /** Resets (RST) all connections, and new ones as soon as they come. */
  cut(): void;
  /** Resets the connections of now; new ones pass. */
  reset(): void;
  /** Connections stay open and swallow everything; new ones are accepted and hear nothing. */
  halfOpen(): void;
  /** Delays everything by `ms` in each direction; with `bytesPerSecond` each direction of a connection also trickles. */
  slow(ms: number, bytesPerSecond?: number): void;
  /** Passes everything again. */
  heal(): void;
  /** Connections that clients hold open now. */
  connections(): number;
  /** Resets everything and frees the port. */
  stop(): Promise<void>;
}

type Mode =
  | { readonly kind: 'pass' }
  | { readonly kind: 'cut' }
  | { readonly kind: 'half-open' }
  | { readonly kind: 'slow'; readonly ms: number; readonly bytesPerSecond: number };

/** One client and, unless it was accepted silently, its connection to the target. */
interface Pair {
  readonly client: Socket;
  upstream: Socket | undefined;
  /** It swallowed something, or never had a connection to the target: it cannot go on. */
  holed: boolean;
}

/** Bytes of a piece while a link trickles. */
const PIECE_BYTES = 1024;
/** More than this waiting in one direction stops its reader. */
const WAITING_BYTES = 1024 * 1024;

/** Connects to a target; one that refuses is passed over for the next, `tries` times at most. Null: all refused. */
async function reach(choose: () => ProxyTarget, tries: number): Promise<Socket | null> {
  for (let left = tries; left > 0; left -= 1) {
    const { host = '127.0.0.1', port } = choose();
    const socket = connect({ host, port, noDelay: true, allowHalfOpen: true });
    const open = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    if (open) return socket;
  }
  return null;
}

/**
 * Listens on a free port of 127.0.0.1 and passes everything to `target`; a function is asked for each connection, and
 * again, `tries` times in all, while targets refuse.
 */
export async function startProxy(
  target: ProxyTarget | (() => ProxyTarget),
  { tries = 1 }: { readonly tries?: number } = {},
): Promise<Proxy> {
  const choose = typeof target === 'function' ? target : () => target;
  const pairs = new Set<Pair>();
  let mode: Mode = { kind: 'pass' };
  const end = (pair: Pair): void => {
    pairs.delete(pair);
    pair.client.resetAndDestroy();
    pair.upstream?.resetAndDestroy();
  };
  const endAll = (which: (pair: Pair) => boolean = () => true): void => {
    for (const pair of pairs) if (which(pair)) end(pair);
  };
  const accept = (client: Socket): void => {
    client.on('error', () => undefined);
    if (mode.kind === 'cut') return void client.resetAndDestroy();
    const pair: Pair = { client, upstream: undefined, holed: mode.kind === 'half-open' };
    pairs.add(pair);
    client.setNoDelay(true);
    if (pair.holed) client.resume();
    else void join(pair);
  };
  /** Nothing is read from the client before there is a target. */
  const join = async (pair: Pair): Promise<void> => {
    const { client } = pair;
    const upstream = await reach(choose, tries);
    // A target that refuses looks like a connection that is reset at once.
    if (upstream === null) return end(pair);
    upstream.on('error', () => undefined);
    if (client.destroyed || !pairs.has(pair)) {
      end(pair);
      return void upstream.resetAndDestroy();
    }
    pair.upstream = upstream;
    pump(client, upstream, pair, () => mode);
    pump(upstream, client, pair, () => mode);
    for (const side of [client, upstream]) {
      side.once('close', (hadError: boolean) => {
        if (mode.kind === 'half-open') pair.holed = true;
        else if (hadError) end(pair);
        else if (client.destroyed && upstream.destroyed) pairs.delete(pair);
      });
    }
  };
  const server = createServer({ allowHalfOpen: true }, accept);
  const port = await listen(server);
  const order = (next: Mode): void => {
    mode = next;
    if (next.kind !== 'half-open') endAll((pair) => pair.holed);
  };
  return {
    port,
    urlFor: (url) => {
      const through = new URL(url);
      through.hostname = '127.0.0.1';
      through.port = String(port);
      return through.href;
    },
    cut: () => {
      order({ kind: 'cut' });
      endAll();
    },
    reset: () => endAll(),
    halfOpen: () => order({ kind: 'half-open' }),
    slow: (ms, bytesPerSecond = Number.POSITIVE_INFINITY) => order({ kind: 'slow', ms, bytesPerSecond }),
    heal: () => order({ kind: 'pass' }),
    connections: () => [...pairs].filter(({ client }) => !client.destroyed && !client.readableEnded).length,
    stop: () =>
      new Promise((resolve) => {
        order({ kind: 'cut' });
        endAll();
        server.close(() => resolve());
      }),
  };
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') reject(new Error('no port'));
      else resolve(address.port);
    });
  });
}

/** Carries one direction, its end included. */
function pump(from: Socket, to: Socket, pair: Pair, mode: () => Mode): void {
  /** What has not left yet, in order: timers that are due in the same millisecond run in any. */
  const queue: (Buffer | null)[] = [];
  let waiting = 0;
  /** When the last piece leaves, by `performance.now()`; nothing leaves before it. */
  let lastAt = 0;
  const steady = (): void => {
    if (waiting < WAITING_BYTES && !to.writableNeedDrain) from.resume();
    else from.pause();
  };
  const deliver = (piece: Buffer | null): void => {
    if (mode().kind === 'half-open') pair.holed = true;
    if (pair.holed || to.destroyed) return;
    if (piece === null) to.end();
    else to.write(piece);
  };
  const carry = (piece: Buffer | null): void => {
    const now = performance.now();
    const current = mode();
    const bytes = piece?.length ?? 0;
    const trickle = current.kind === 'slow' ? (bytes / current.bytesPerSecond) * 1000 : 0;
    const leavesAt = Math.max(now + (current.kind === 'slow' ? current.ms : 0), lastAt + trickle);
    // Timers of Node may run up to 1 ms early: with nothing ahead, what is due now goes now.
    if (waiting === 0 && leavesAt <= now) return deliver(piece);
    lastAt = leavesAt;
    waiting += Math.max(1, bytes);
    queue.push(piece);
    setTimeout(() => {
      const next = queue.shift() ?? null;
      waiting -= Math.max(1, next?.length ?? 0);
      deliver(next);
      steady();
    }, leavesAt - now);
  };
  from.on('data', (chunk: Buffer) => {
    const current = mode();
    const step = current.kind === 'slow' && Number.isFinite(current.bytesPerSecond) ? PIECE_BYTES : chunk.length;
    for (let at = 0; at < chunk.length; at += step) carry(chunk.subarray(at, at + step));
    steady();
  });
  from.on('end', () => carry(null));
  to.on('drain', steady);
}
