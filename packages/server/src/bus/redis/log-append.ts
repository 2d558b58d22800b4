/**
 * How records enter the log on Redis Streams: one script for each partition (and day of arrival; of frames, half hour) of a
 * batch, all under way at once.
 *
 * Guarantees: ids and records of a partition in one step. A record whose first try landed unseen (the answer was lost)
 * comes back as `replay` when it is sent again, by its device or, on a Cluster, by ioredis. A script that reaches a server
 * late (frozen, or this process was) does nothing: it carries the last moment at which it may take effect, by that server's
 * clock, a little before its answer is waited for no more. No offset is given at or below a position: on a server that may
 * have lost writes the floor is raised first (`log-scripts.ts`), with the store's word for it.
 * Failure: rejects with `store-unavailable`; records of some partitions may have landed by then, and those whose answer was
 * lost with the connection. So it does, and for good, when the installation has changed to another backend meanwhile (this
 * process was frozen), or another installation uses the same Redis.
 */
import { Cluster } from 'ioredis';
import { CodedError } from '../../lib/coded-error.ts';
import { installationOf, type LogBackendStore } from '../../store/ports/log-backend.ts';
import type { AppendOutcome, EnvelopeAppend, KeyedAppend } from '../../store/ports/log.ts';
import { LOG_FRAMES_KEPT_SECONDS, LOG_IDS_KEPT_SECONDS } from './keys.ts';
import type { RedisClient, RedisLink } from './link.ts';
import {
  dayOf,
  daysToLook,
  digestText,
  envelopeMeta,
  halfHourOf,
  halfHoursToLook,
  idOf,
  keysOf,
  tickMeta,
} from './log-record.ts';
import { APPEND, RAISE } from './log-scripts.ts';

/** What appending needs. */
export interface AppenderOptions {
  readonly link: RedisLink;
  readonly backends: Pick<LogBackendStore, 'raiseFloor'>;
  readonly generation: string;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
}

/** Appends to partitions in Redis. */
export interface StreamAppender {
  envelopes(envelopes: readonly EnvelopeAppend[]): Promise<AppendOutcome[]>;
  ticks(records: readonly KeyedAppend[]): Promise<void>;
}

/** What one script is to write. */
interface Group {
  readonly partition: number;
  readonly keys: readonly string[];
  /** How long its ids are kept, seconds. */
  readonly kept: number;
  /** Id, digest, meta, body of each record. */
  readonly values: string[];
  /** Where its outcomes belong in the batch. */
  readonly places: number[];
}

type Answer = ['done', number, string] | ['late', number] | ['resync', number, string, string];

/**
 * A script takes effect within this share of the time that the link waits for its answer, or not at all: when the wait is
 * over, and the sender was told that nothing was accepted, nothing is.
 */
const APPLY_SHARE = 0.9;
/** Beyond position, newest offset and former floor: more than a worker's batch in flight can reach. */
const FLOOR_STEP = 10_000;
/** A server's clock is learned in the first, its floor raised in the second; more is needed only while servers change. */
const MOST_ROUNDS = 5;
/** Lua's unpack takes some 8,000 values. */
const MOST_RECORDS = 1000;
const OUTCOMES: Readonly<Record<string, AppendOutcome>> = { a: 'accepted', r: 'replay', c: 'id-conflict' };

/** Creates it. */
export function createStreamAppender(options: AppenderOptions): StreamAppender {
  const servers: Servers = { clocks: new Map(), raised: createRaiser(options) };
  return {
    envelopes: async (envelopes) => {
      const outcomes: AppendOutcome[] = [];
      await inRounds(options, servers, groupEnvelopes(envelopes), ({ places }, letters) => {
        for (const [i, place] of places.entries()) outcomes[place] = OUTCOMES[letters[i] ?? ''] ?? 'id-conflict';
      });
      return outcomes;
    },
    ticks: (records) => inRounds(options, servers, groupTicks(records), () => undefined),
  };
}

/** What is known of the servers that hold the partitions. */
interface Servers {
  /** By partition: its server's clock less ours. */
  readonly clocks: Map<number, number>;
  /** Resolves once the partition has its floor on the server with this stamp. */
  readonly raised: (partition: number, stamp: string, top: number) => Promise<void>;
}

async function inRounds(
  options: AppenderOptions,
  { clocks, raised }: Servers,
  groups: readonly Group[],
  done: (group: Group, letters: string) => void,
): Promise<void> {
  let open = groups;
  for (let round = 0; open.length > 0; round += 1) {
    if (round === MOST_ROUNDS) throw unavailable('it changes its state again and again');
    const answers = await sendAll(options, clocks, open);
    const left: Group[] = [];
    const raising: Promise<void>[] = [];
    for (const [i, group] of open.entries()) {
      const answer = answers[i];
      if (answer === undefined) throw new TypeError('a script without an answer');
      clocks.set(group.partition, answer[1] - options.monotonic());
      if (answer[0] === 'done') done(group, answer[2]);
      else left.push(group);
      if (answer[0] === 'resync') raising.push(raised(group.partition, answer[2], Number(answer[3])));
    }
    await Promise.all(raising);
    open = left;
  }
}

/** Settles when all have: a failure is told when nothing of the batch is under way any more. */
async function sendAll(
  { link, generation, monotonic }: AppenderOptions,
  clocks: ReadonlyMap<number, number>,
  groups: readonly Group[],
): Promise<Answer[]> {
  try {
    return await link.run('log-append', async (client) => {
      const now = monotonic();
      const sent = inOnePiece(client, () =>
        groups.map(({ partition, keys, kept, values }) => {
          const clock = clocks.get(partition);
          // With an unknown clock it comes late by any, and brings the clock back.
          const until = clock === undefined ? 0 : Math.round(now + clock + link.timeoutMs * APPLY_SHARE);
          return APPEND(client, keys, [generation, until, kept, ...values]) as Promise<Answer>;
        }),
      );
      const settled = await Promise.allSettled(sent);
      return settled.map((result) => {
        if (result.status === 'rejected') throw result.reason;
        return result.value;
      });
    });
  } catch (error) {
    throw unavailable(error instanceof Error ? error.message : 'unknown failure', error);
  }
}

/**
 * What `send` writes leaves in one piece, so that a server that syncs its file before it answers does so once for all of it
 * and not once for each.
 */
function inOnePiece<Result>(client: RedisClient, send: () => Result): Result {
  if (client instanceof Cluster || client.status !== 'ready') return send();
  const { stream } = client;
  stream.cork();
  try {
    return send();
  } finally {
    stream.uncork();
  }
}

/** Raises floors; appends that find the same one too low at the same time share the way to the store. */
function createRaiser({ link, backends, generation }: AppenderOptions): Servers['raised'] {
  const underWay = new Map<string, Promise<void>>();
  const raise = async (partition: number, stamp: string, top: number): Promise<void> => {
    const floor = await backends.raiseFloor(generation, partition, top, FLOOR_STEP);
    if (floor === null) throw unavailable('LOG_BACKEND was changed while this process could not notice; start it anew');
    let done: unknown;
    try {
      const values = [generation, stamp, floor, installationOf(generation)];
      done = await link.run('log-raise', (client) => RAISE(client, [keysOf(partition).head], values));
    } catch (error) {
      throw unavailable(error instanceof Error ? error.message : 'unknown failure', error);
    }
    if (done === -1) throw unavailable(`another installation uses the same Redis (sig:{${partition}}:head)`);
  };
  return (partition, stamp, top) => {
    const name = `${partition} ${stamp}`;
    const known = underWay.get(name);
    if (known !== undefined) return known;
    const raising = raise(partition, stamp, top).finally(() => underWay.delete(name));
    underWay.set(name, raising);
    return raising;
  };
}

/** What the log's callers know an absent backend by. */
export function unavailable(detail: string, cause?: unknown): CodedError {
  return new CodedError('store-unavailable', `the log in Redis: ${detail}`, { cause });
}

function groupEnvelopes(envelopes: readonly EnvelopeAppend[]): Group[] {
  const groups = createGroups();
  for (const [place, envelope] of envelopes.entries()) {
    const group = groups.of(envelope);
    group.values.push(idOf(envelope), digestText(envelope.digest), envelopeMeta(envelope), envelope.body);
    group.places.push(place);
  }
  return groups.all;
}

function groupTicks(records: readonly KeyedAppend[]): Group[] {
  const groups = createGroups();
  for (const [place, record] of records.entries()) {
    const group = groups.of(record);
    group.values.push('', '', tickMeta(record), record.body);
    group.places.push(place);
  }
  return groups.all;
}

/** What decides in which script a record goes. */
type Placed = Pick<EnvelopeAppend, 'partition' | 'kind' | 'receivedAt'>;

/** Frames and envelopes of a partition have scripts of their own, as their ids have. */
function createGroups(): { readonly all: Group[]; of(record: Placed): Group } {
  const all: Group[] = [];
  const open = new Map<string, Group>();
  return {
    all,
    of: (record) => {
      const { partition, kind, receivedAt } = record;
      const frames = kind === 'frame';
      const name = `${partition} ${frames ? `f${halfHourOf(receivedAt)}` : dayOf(receivedAt)}`;
      const known = open.get(name);
      if (known !== undefined && known.places.length < MOST_RECORDS) return known;
      const group = emptyGroup(record, frames);
      open.set(name, group);
      all.push(group);
      return group;
    },
  };
}

function emptyGroup({ partition, receivedAt }: Placed, frames: boolean): Group {
  const keys = keysOf(partition);
  const ids = frames
    ? halfHoursToLook(halfHourOf(receivedAt)).map(keys.frames)
    : daysToLook(dayOf(receivedAt)).map(keys.ids);
  const kept = frames ? LOG_FRAMES_KEPT_SECONDS : LOG_IDS_KEPT_SECONDS;
  return { partition, keys: [keys.head, keys.records, ...ids], kept, values: [], places: [] };
}
