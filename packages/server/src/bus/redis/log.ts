/**
 * The log with its partitions of devices in Redis Streams (port: `store/ports/log.ts`, ADR 5).
 *
 * Partitions of other keys, positions, leases and fences are the store's: a worker's commit stays one transaction. The
 * position in the store is the truth about what is worked off; the consumer group `workers` of each stream follows it for
 * Redis' own tools.
 * Guarantees: those of the port; an accepted envelope is as durable as that Redis is (append-only file, replicas). Offsets
 * grow with the commits; they jump after Redis has started anew or another server has become the master.
 * Order: records are trimmed only behind the position.
 * Failure: what needs a stream rejects with `store-unavailable` while Redis is away (there is nothing local to fall back
 * to); leases, positions and partitions of other keys work on. `state` then has the heads that were seen last. While a node
 * of a Cluster is away, `read` answers what the others have: the next read brings the rest.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Cluster } from 'ioredis';
import { devicePartitions } from '../../lib/partition.ts';
import type { LogBackendStore } from '../../store/ports/log-backend.ts';
import type { Log, LogRecord, PartitionState, ReadFrom } from '../../store/ports/log.ts';
import type { RedisLink } from './link.ts';
import { createStreamAppender, unavailable } from './log-append.ts';
import { daysToForget, keysOf, parseRecord } from './log-record.ts';
import { FORGET, READ, TRIM } from './log-scripts.ts';

/** The longest that a command of the log may take: above what an fsync or a big read costs, below what devices wait. */
export const LOG_COMMAND_TIMEOUT_MS = 5000;

/** How much later than others a node of a Cluster may answer a read, in ms; then it goes on without its records. */
const STRAGGLER_MS = 250;

/** What the log is made of. */
export interface RedisLogOptions {
  /** One of the log's own, with {@link LOG_COMMAND_TIMEOUT_MS}: its circuit is the log's. */
  readonly link: RedisLink;
  /** The log in the store, for everything that stays there. */
  readonly store: Log;
  readonly backends: Pick<LogBackendStore, 'raiseFloor'>;
  /** Of the choice that `adoptLogBackend` answered. */
  readonly generation: string;
  /** `performance.now` when absent. */
  readonly monotonic?: () => number;
}

/** Creates the log. Nothing is asked of Redis yet: see `checkLogRedis`. */
export function openRedisLog(options: RedisLogOptions): Log {
  const { link, store, backends, generation, monotonic = () => performance.now() } = options;
  const devices = devicePartitions(store.partitions);
  const inRedis = ({ partition }: { readonly partition: number }): boolean => partition < devices;
  const appender = createStreamAppender({ link, backends, generation, monotonic });
  const heads = createHeads(link, devices);
  return {
    ...store,
    append: async (envelopes) => appender.envelopes(envelopes.map((envelope) => checked(envelope, devices))),
    appendKeyed: async (sql, records) => {
      const ticks = records.filter(inRedis);
      if (ticks.some(({ kind }) => kind !== 'tick')) throw new TypeError('only ticks go to a partition of devices');
      await store.appendKeyed(
        sql,
        records.filter((record) => !inRedis(record)),
      );
      if (ticks.length > 0) await appender.ticks(ticks);
    },
    read: async (from, limit, maxBytes) => {
      const [ours, theirs] = [from.filter(inRedis), from.filter((other) => !inRedis(other))];
      const parts = await Promise.all([
        readStreams(link, ours, limit, maxBytes, thoseThatAnswer),
        theirs.length === 0 ? [] : store.read(theirs, limit, maxBytes),
      ]);
      return parts.flat();
    },
    state: async () => {
      const states = await store.state();
      const known = await heads();
      return states.map((state) => (inRedis(state) ? atLeast(state, known[state.partition] ?? 0) : state));
    },
    completeUntil: async (marginMs) => {
      // First the store's answer, with its clock: what arrives in a stream after that is no older.
      const until = await store.completeUntil(marginMs);
      const margin = marginMs ?? COMMIT_MARGIN_MS;
      const waiting = await firstRecords(link, (await store.state()).filter(inRedis));
      return Math.min(until, ...waiting.map(({ receivedAt }) => receivedAt - margin));
    },
    trim: async () => (await store.trim()) + (await trimStreams(link, (await store.state()).filter(inRedis))),
    forget: async (before) => (await store.forget(before)) + (await forgetIds(link, devices, before)),
  };
}

/** The port's margin: see `completeUntil` there. */
const COMMIT_MARGIN_MS = 60_000;

function checked<Record extends { readonly partition: number }>(record: Record, devices: number): Record {
  if (record.partition >= devices) throw new RangeError(`partition ${record.partition} is none of devices`);
  return record;
}

/** What was lost in Redis after it was worked off stays worked off. */
function atLeast({ partition, position }: PartitionState, head: number): PartitionState {
  return { partition, head: Math.max(head, position), position };
}

/** Reads the newest offsets; those seen last while Redis is away. Rejects while none were ever seen. */
function createHeads(link: RedisLink, devices: number): () => Promise<readonly number[]> {
  let last: readonly number[] | null = null;
  return async () => {
    try {
      last = await ask(link, 'log-heads', devices, async (client, partition) =>
        Number((await client.hget(keysOf(partition).head, 'head')) ?? 0),
      );
    } catch (error) {
      if (last === null) throw error;
    }
    return last;
  };
}

async function readStreams(
  link: RedisLink,
  from: readonly ReadFrom[],
  limit: number,
  maxBytes: number,
  gather: Gather = everyAnswer,
): Promise<LogRecord[]> {
  const ordered = [...from].sort((a, b) => a.partition - b.partition);
  const question: Question<ReadFrom, LogRecord[]> = async (client, { partition, position }) => {
    const texts = await READ(client, [keysOf(partition).records], [position, limit, maxBytes]);
    return (texts as string[]).map((text) => parseRecord(partition, text));
  };
  return (await each(link, 'log-read', ordered, question, gather)).flat();
}

/** The oldest record of each partition that is not worked off. */
async function firstRecords(link: RedisLink, states: readonly PartitionState[]): Promise<LogRecord[]> {
  return readStreams(link, states, 1, 1);
}

async function trimStreams(link: RedisLink, states: readonly PartitionState[]): Promise<number> {
  const counts = await each(link, 'log-trim', states, (client, { partition, position }) => {
    const { head, records } = keysOf(partition);
    return TRIM(client, [head, records], [position]);
  });
  return sum(counts);
}

async function forgetIds(link: RedisLink, devices: number, before: number): Promise<number> {
  const days = daysToForget(before);
  const counts = await ask(link, 'log-forget', devices, (client, partition) =>
    FORGET(client, days.map(keysOf(partition).ids), []),
  );
  return sum(counts);
}

function sum(counts: readonly unknown[]): number {
  return counts.reduce<number>((total, count) => total + Number(count), 0);
}

type Question<Subject, Result> = (client: RedisLink['client'], subject: Subject) => Promise<Result>;

function ask<Result>(
  link: RedisLink,
  name: string,
  devices: number,
  question: Question<number, Result>,
): Promise<Result[]> {
  return each(
    link,
    name,
    Array.from({ length: devices }, (_, partition) => partition),
    question,
  );
}

/** Makes answers of questions under way. */
type Gather = <Result>(client: RedisLink['client'], asked: readonly Promise<Result>[]) => Promise<Result[]>;

const everyAnswer: Gather = (_client, asked) => Promise.all(asked);

/** The answers that come in time, in order; rejects when none comes. Of a single server either all come or none. */
async function thoseThatAnswer<Result>(
  client: RedisLink['client'],
  asked: readonly Promise<Result>[],
): Promise<Result[]> {
  if (!(client instanceof Cluster)) return Promise.all(asked);
  const found = asked.map((): Result[] => []);
  const all = Promise.allSettled(asked.map(async (one, index) => void found[index]?.push(await one)));
  const gone = new AbortController();
  const enough = Promise.any(asked).then(() => pause(STRAGGLER_MS, undefined, { signal: gone.signal }));
  // Only when none comes does the second fail before the first is done.
  await Promise.race([all, enough.catch(() => all)]);
  gone.abort();
  const answers = found.flat();
  return answers.length > 0 ? answers : Promise.all(asked);
}

/** Asks for each subject at once; all answers (or what `gather` makes of them) or `store-unavailable`. */
async function each<Subject, Result>(
  link: RedisLink,
  name: string,
  subjects: readonly Subject[],
  question: Question<Subject, Result>,
  gather: Gather = everyAnswer,
): Promise<Result[]> {
  if (subjects.length === 0) return [];
  try {
    return await link.run(name, (client) =>
      gather(
        client,
        subjects.map((subject) => question(client, subject)),
      ),
    );
  } catch (error) {
    throw unavailable(error instanceof Error ? error.message : 'unknown failure', error);
  }
}
