/**
 * The link to Redis: one client behind a circuit breaker.
 *
 * Guarantees: `run` settles within its time limit, whether the server is frozen, the link half open or nobody there. After
 * three failures one after the other the circuit opens: `run` then rejects at once, until a PING of the link's own (after
 * 0.5 s, doubling to 5 s, with jitter) is answered, or by a Cluster CLUSTER INFO with ok. So no caller's command is ever the
 * one that tries.
 * Failure: CodedError `bus-unavailable` for everything that means "Redis is away", with no secret in it. What Redis answers
 * as an error, and what `work` itself throws, arrives unchanged and counts as an answer.
 */
import {
  CircuitState,
  ConsecutiveBreaker,
  ExponentialBackoff,
  circuitBreaker,
  halfJitterGenerator,
  handleWhen,
} from 'cockatiel';
import { Cluster, Redis } from 'ioredis';
import { CodedError, hasCode } from '../../lib/coded-error.ts';
import { COMMAND_TIMEOUT_MS, type RedisClient, SOCKET_GRACE_MS, createRedisClient } from './client.ts';
import type { RedisPlace } from './place.ts';

export { createRedisClient, type RedisClient } from './client.ts';
export type { RedisPlace } from './place.ts';

/** The state of the circuit. */
export type Circuit = 'closed' | 'open' | 'half-open';

/** A client behind a circuit breaker. */
export interface RedisLink {
  readonly client: RedisClient;
  /** The longest that `run` may take while this process is not held up itself, in ms. */
  readonly timeoutMs: number;
  /**
   * Runs `work`; `command` names it for `observe`. Rejects with `bus-unavailable` when Redis is away, also for LOADING,
   * READONLY, CLUSTERDOWN, MASTERDOWN and TRYAGAIN; other answers of Redis that are errors arrive unchanged.
   */
  run<Result>(command: string, work: (client: RedisClient) => Promise<Result>): Promise<Result>;
  circuit(): Circuit;
  /** Calls `listener` at every change. */
  onCircuit(listener: (circuit: Circuit) => void): void;
  /** Resolves once the client is connected, or after `ms`; answers whether it is. Nobody has to wait for it. */
  ready(ms: number): Promise<boolean>;
  close(): Promise<void>;
}

/** What a link needs. */
export interface RedisLinkOptions {
  readonly place: RedisPlace;
  readonly name: string;
  readonly onError: (error: unknown) => void;
  /** Hears how long each command took that was tried. */
  readonly observe?: (command: string, seconds: number) => void;
  readonly commandTimeoutMs?: number;
  /** The longest pause between two tries while the circuit is open, in ms; 5,000 when absent. */
  readonly openMostMs?: number;
  /** A CA (PEM) to trust instead of Node's own roots. */
  readonly ca?: string;
}

const FAILURES_MOST = 3;
const OPEN_LEAST_MS = 500;
const OPEN_MOST_MS = 5000;
/** How often an open circuit looks whether the time of a try has come, in ms. */
const TRY_MS = 100;
/** How long a first connection may take before its absence counts as a failure, in ms. */
const CONNECTING_MS = 1000;
const CLOSE_MOST_MS = 1000;

const CIRCUITS: Readonly<Record<CircuitState, Circuit>> = {
  [CircuitState.Closed]: 'closed',
  [CircuitState.Open]: 'open',
  [CircuitState.HalfOpen]: 'half-open',
  [CircuitState.Isolated]: 'open',
};

/** Answers of Redis that say that it cannot work now. Scripts put theirs into a sentence (Redis 6) or in front (7). */
const AWAY = /(?:^|-)(?:LOADING|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|BUSY|MISCONF|NOREPLICAS|OOM)\b/;
/** What a mistake of our own is, as the language names it. */
const MISTAKES: readonly string[] = ['TypeError', 'RangeError', 'ReferenceError', 'SyntaxError', 'CodedError'];

/** What ioredis says of itself, so that an operator can read it. */
const PLAINLY: readonly (readonly [RegExp, string])[] = [
  [/max retries per request/, 'the connection was lost'],
  [/isn't (?:writeable|ready)|^Connection is closed/, 'not connected'],
  [/^Command timed out/, 'no answer in time'],
];

/** Opens a link. It connects by itself; nothing waits for it. */
export function openRedisLink(options: RedisLinkOptions): RedisLink {
  const timeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
  const openMostMs = options.openMostMs ?? OPEN_MOST_MS;
  // The client's own limit comes later: it does not look first whether the answer is there (see `withinTime`).
  const limits = { commandTimeoutMs: timeoutMs * 2, socketTimeoutMs: timeoutMs + SOCKET_GRACE_MS };
  const client = createRedisClient(options.place, { ...options, ...limits });
  const breaker = circuitBreaker(
    handleWhen((error) => hasCode(error, 'bus-unavailable')),
    {
      breaker: new ConsecutiveBreaker(FAILURES_MOST),
      halfOpenAfter: new ExponentialBackoff({
        initialDelay: OPEN_LEAST_MS,
        maxDelay: openMostMs,
        generator: halfJitterGenerator,
      }),
    },
  );
  let closed = false;
  let trying: NodeJS.Timeout | null = null;
  let openedAt = 0;
  let connectingUntil = performance.now() + CONNECTING_MS;
  client.once('ready', () => {
    connectingUntil = 0;
  });

  breaker.onStateChange((state) => {
    if (state === CircuitState.Open) openedAt = performance.now();
    if (trying !== null && (state === CircuitState.Closed || closed)) {
      clearInterval(trying);
      trying = null;
    }
    if (trying !== null || closed || state !== CircuitState.Open) return;
    // The breaker knows when its time has come; until then, and while one try is under way, nothing is sent.
    trying = setInterval(() => {
      if (breaker.state !== CircuitState.Open) return;
      // The breaker goes by the clock on the wall; one that was set back would keep it open for as long.
      if (performance.now() - openedAt > openMostMs + OPEN_LEAST_MS) return breaker.isolate().dispose();
      breaker.execute(() => withinTime(answers, client, timeoutMs)).catch(() => undefined);
    }, TRY_MS);
    trying.unref();
  });

  return {
    client,
    timeoutMs,
    async run(command, work) {
      if (closed) throw away('the link is closed');
      if (breaker.state !== CircuitState.Closed) throw away('the circuit is open');
      if (client.status !== 'ready' && performance.now() < connectingUntil) throw away('not connected yet');
      const began = performance.now();
      gather(client);
      try {
        const result = await breaker.execute(() => withinTime(work, client, timeoutMs));
        options.observe?.(command, (performance.now() - began) / 1000);
        return result;
      } catch (error) {
        options.observe?.(command, (performance.now() - began) / 1000);
        throw error;
      }
    },
    circuit: () => CIRCUITS[breaker.state],
    onCircuit: (listener) => void breaker.onStateChange((state) => listener(CIRCUITS[state])),
    ready: (ms) => isReady(client, ms),
    async close() {
      closed = true;
      if (trying !== null) clearInterval(trying);
      await ended(client);
    },
  };
}

/**
 * Commands that are begun in one turn of the event loop leave in one write: when thousands of viewers come back, five commands
 * for each, the system calls cost more than the commands.
 */
function gather(client: RedisClient): void {
  if (!(client instanceof Redis)) return;
  const { stream } = client as { readonly stream?: Redis['stream'] };
  if (stream === undefined || stream.destroyed || stream.writableCorked > 0) return;
  stream.cork();
  process.nextTick(() => stream.uncork());
}

/** The link's own try. A Cluster is back when it serves its slots: a node that lives answers PING also while it does not. */
async function answers(client: RedisClient): Promise<void> {
  if (!(client instanceof Cluster)) return void (await client.ping());
  const info = await client.cluster('INFO');
  if (!info.includes('cluster_state:ok')) throw away('CLUSTERDOWN');
}

/** Ends a client's connections; resolves when they are gone, or after a second. */
export async function ended(client: RedisClient): Promise<void> {
  if (client.status === 'end') return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, CLOSE_MOST_MS);
    client.once('end', () => {
      clearTimeout(timer);
      resolve();
    });
    client.disconnect();
  });
}

function isReady(client: RedisClient, ms: number): Promise<boolean> {
  if (client.status === 'ready') return Promise.resolve(true);
  return new Promise((resolve) => {
    const ready = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    const timer = setTimeout(() => {
      client.off('ready', ready);
      resolve(false);
    }, ms);
    client.once('ready', ready);
  });
}

/**
 * A process that was held up finds its timers due before it has read what lies in its sockets: one turn more, and an
 * answer that came in time counts.
 */
async function withinTime<Result>(
  work: (client: RedisClient) => Promise<Result>,
  client: RedisClient,
  timeoutMs: number,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => setImmediate(() => reject(away('no answer in time'))), timeoutMs);
  });
  try {
    return await Promise.race([work(client), late]);
  } catch (error) {
    throw named(error);
  } finally {
    clearTimeout(timer);
  }
}

/** Tells "away" from an answer. The command's arguments, which ioredis adds to an error, are taken off. */
function named(error: unknown): unknown {
  if (!(error instanceof Error)) return away('an unknown failure');
  if ('command' in error) delete error.command;
  if (error.name === 'ReplyError') return AWAY.test(error.message) ? away(error.message) : error;
  if (MISTAKES.includes(error.name)) return error;
  return away(PLAINLY.find(([text]) => text.test(error.message))?.[1] ?? error.message);
}

function away(detail: string): CodedError {
  return new CodedError('bus-unavailable', `Redis: ${detail}`);
}
