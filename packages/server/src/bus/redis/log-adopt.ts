/**
 * Which backend the log of this installation uses, and the change from one to the other.
 *
 * Guarantees: nothing accepted is lost or taken twice by a change. It is refused while records of devices are not worked
 * off, and while other processes are alive; ids of the last days go along, looked at only once nobody appends any more;
 * offsets go on behind the positions (of the store by its heads, of Redis by the floors that a new generation gets,
 * `log-append.ts`). A Redis that holds the log of another installation is refused at every start.
 * Order: before this process enters itself among the instances; after it has, {@link confirmLogBackend}.
 * Failure: CodedError `log-backend` with one line that says how to go on; safe to try again at any time.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError } from '../../lib/coded-error.ts';
import { devicePartitions, partitionOf } from '../../lib/partition.ts';
import {
  installationOf,
  type KnownFrame,
  type KnownId,
  type LogBackend,
  type LogBackendChoice,
  type LogBackendStore,
} from '../../store/ports/log-backend.ts';
import type { Log, PartitionState } from '../../store/ports/log.ts';
import { LOG_FRAMES_KEPT_SECONDS, LOG_IDS_KEPT_SECONDS } from './keys.ts';
import type { RedisLink } from './link.ts';
import {
  dayOf,
  digestText,
  endOfDay,
  halfHourOf,
  halfHoursToLook,
  idOf,
  keysOf,
  parseDigest,
  parseId,
  parseRecord,
} from './log-record.ts';
import { READ, REMEMBER } from './log-scripts.ts';

/** What adopting needs. */
export interface AdoptOptions {
  /** What the settings say. */
  readonly wanted: LogBackend;
  readonly backends: LogBackendStore;
  /** The log in the store. */
  readonly store: Log;
  /** The Redis of the settings, checked (`checkLogRedis`) when it is wanted; null without one. */
  readonly link: RedisLink | null;
  /** Unix ms. */
  readonly now: () => number;
  /** How long a start waits for leases of processes that died; 8,000 ms when absent. */
  readonly patienceMs?: number;
}

const PATIENCE_MS = 8000;
const RETRY_MS = 250;
const DAY_MS = 86_400_000;
/** Ids count for seven days; their arrival may be a day off. */
const IDS_DAYS = 8;
const PAGE = 5000;
const SCAN = '1000';
/** Ticks that may lie behind the last record that was worked off: hours of them. */
const TICKS_MOST = '2000';
const READ_BYTES = '1048576';

/** Answers what the installation uses from now on, which is what was wanted. */
export async function adoptLogBackend(options: AdoptOptions): Promise<LogBackendChoice> {
  const { wanted, backends, link, patienceMs = PATIENCE_MS } = options;
  const partitions = Array.from({ length: devicePartitions(options.store.partitions) }, (_, i) => i);
  for (const until = performance.now() + patienceMs; ; await pause(RETRY_MS)) {
    const from = await backends.chosen();
    if (wanted === 'redis' && link !== null) await refuseForeign(link, partitions, from);
    if (from?.backend === wanted) return from;
    const choice = await changed(options, partitions, from);
    if (choice !== null) return choice;
    if (performance.now() > until)
      throw refused('other processes of this installation are alive; stop them all to change LOG_BACKEND');
  }
}

/** Null: other processes are alive. */
async function changed(
  options: AdoptOptions,
  partitions: readonly number[],
  from: LogBackendChoice | null,
): Promise<LogBackendChoice | null> {
  const { wanted, backends, link } = options;
  // Before anything is looked at: one that lives appends until it ends, and what it appends last must go along, too.
  if (await backends.inUse()) return null;
  if (wanted === 'redis' || from !== null) await carryOver(options, partitions);
  const to = { backend: wanted, generation: nextGeneration(from) };
  const change = await backends.change(from, to, partitions);
  switch (change.kind) {
    case 'changed':
      if (from?.backend === 'redis' && link !== null) await closeStreams(link, partitions, from);
      return change.choice;
    case 'chosen-meanwhile':
      if (change.choice.backend === wanted) return change.choice;
      throw refused(`another process has just chosen ${change.choice.backend}; LOG_BACKEND must be the same for all`);
    case 'not-worked-off':
      throw notWorkedOff('store', change.records);
    case 'in-use':
      return null;
  }
}

function nextGeneration(from: LogBackendChoice | null): string {
  const fresh = randomUUID();
  return from === null ? fresh : installationOf(from.generation) + fresh.slice(installationOf(fresh).length);
}

/** Rejects when a partition's stamp is of another installation: the two would work off and trim each other's records. */
async function refuseForeign(
  link: RedisLink,
  partitions: readonly number[],
  from: LogBackendChoice | null,
): Promise<void> {
  const ours = from === null ? null : installationOf(from.generation);
  const stamps = await link.run('log-adopt', (client) =>
    Promise.all(partitions.map((partition) => client.hget(keysOf(partition).head, 'stamp'))),
  );
  const foreign = stamps.findIndex((stamp) => stamp !== null && (ours === null || !stamp.startsWith(ours)));
  if (foreign < 0) return;
  throw refused(
    `that Redis holds the log of an installation that this database does not know (sig:{${foreign}}:head); use another Redis, another database of it, or delete its keys sig:*`,
  );
}

/** A process that was frozen meanwhile and goes on finds no stamp of its server, asks the store, and is refused there. */
async function closeStreams(
  link: RedisLink,
  partitions: readonly number[],
  { generation }: LogBackendChoice,
): Promise<void> {
  const close = link.run('log-adopt', (client) =>
    Promise.all(partitions.map((partition) => client.hset(keysOf(partition).head, 'stamp', `${generation}:`))),
  );
  // The change has happened; nothing but such a process needs this.
  await close.catch(() => undefined);
}

/** Rejects when another process has changed the backend between {@link adoptLogBackend} and our entering. */
export async function confirmLogBackend(backends: LogBackendStore, choice: LogBackendChoice): Promise<void> {
  const now = await backends.chosen();
  if (now?.generation !== choice.generation)
    throw refused('another process has changed LOG_BACKEND; it must be the same for all');
}

/** Checks that Redis has nothing to work off, and copies ids to where they will be looked for. */
async function carryOver(
  { wanted, backends, store, link, now }: AdoptOptions,
  partitions: readonly number[],
): Promise<void> {
  if (link === null)
    throw refused(
      wanted === 'redis'
        ? 'LOG_BACKEND=redis needs Redis (REDIS_URL, REDIS_CLUSTER_NODES or REDIS_SENTINELS)'
        : 'the log was in Redis; name that Redis once more (REDIS_URL …), so that it can be seen to be worked off',
    );
  for (const state of await store.state()) {
    if (!partitions.includes(state.partition)) continue;
    const records = await recordsLeft(link, state);
    if (records === 0) continue;
    if (wanted === 'store') throw notWorkedOff('redis', records);
    throw refused(
      `that Redis holds readings of a log that this database does not know (sig:{${state.partition}}:records); use an empty one`,
    );
  }
  if (wanted === 'redis') {
    await idsToRedis(link, backends, store.partitions, now() - IDS_DAYS * DAY_MS);
    await framesToRedis(link, backends, store.partitions, halfHourOf(now()));
  } else {
    await idsToStore(link, backends, partitions, dayOf(now()));
    await framesToStore(link, backends, partitions, now());
  }
}

/** Records, ticks apart, that no worker has worked off; the first ones. */
async function recordsLeft(link: RedisLink, { partition, position }: PartitionState): Promise<number> {
  const texts = await link.run('log-adopt', (client) =>
    READ(client, [keysOf(partition).records], [position, TICKS_MOST, READ_BYTES]),
  );
  return (texts as string[]).filter((text) => parseRecord(partition, text).kind !== 'tick').length;
}

async function idsToRedis(
  link: RedisLink,
  backends: LogBackendStore,
  partitions: number,
  since: number,
): Promise<void> {
  let after: KnownId | null = null;
  for (;;) {
    const page: KnownId[] = await backends.knownIds(since, after, PAGE);
    const byKey = new Map<string, string[]>();
    for (const id of page) {
      const key = keysOf(partitionOf(id.deviceId, partitions)).ids(dayOf(id.seenAt));
      const values = byKey.get(key) ?? [];
      values.push(idOf(id), digestText(id.digest));
      byKey.set(key, values);
    }
    await link.run('log-adopt', (client) =>
      Promise.all([...byKey].map(([key, values]) => REMEMBER(client, [key], [LOG_IDS_KEPT_SECONDS, ...values]))),
    );
    after = page.at(-1) ?? null;
    if (after === null || page.length < PAGE) return;
  }
}

async function idsToStore(
  link: RedisLink,
  backends: LogBackendStore,
  partitions: readonly number[],
  today: number,
): Promise<void> {
  // From a day that a clock ahead may have begun, back to the last that counts.
  const days = Array.from({ length: IDS_DAYS + 2 }, (_, i) => today + 1 - i);
  for (const partition of partitions) {
    for (const day of days) await hashToStore(link, backends, keysOf(partition).ids(day), endOfDay(day));
  }
}

async function hashToStore(link: RedisLink, backends: LogBackendStore, key: string, seenAt: number): Promise<void> {
  await eachPage(link, key, async (pairs) => {
    const ids = pairs.map(([id, digest]): KnownId => ({ ...parseId(id), digest: parseDigest(digest), seenAt }));
    await backends.rememberIds(ids);
  });
}

/** All of them as of the current half hour: kept longer than they need be, never shorter. */
async function framesToRedis(
  link: RedisLink,
  backends: LogBackendStore,
  partitions: number,
  halfHour: number,
): Promise<void> {
  let after: KnownFrame | null = null;
  for (;;) {
    const page: KnownFrame[] = await backends.knownFrames(after, PAGE);
    const byKey = new Map<string, string[]>();
    for (const frame of page) {
      const key = keysOf(partitionOf(frame.deviceId, partitions)).frames(halfHour);
      const values = byKey.get(key) ?? [];
      values.push(idOf(frame), '');
      byKey.set(key, values);
    }
    await link.run('log-adopt', (client) =>
      Promise.all([...byKey].map(([key, values]) => REMEMBER(client, [key], [LOG_FRAMES_KEPT_SECONDS, ...values]))),
    );
    after = page.at(-1) ?? null;
    if (after === null || page.length < PAGE) return;
  }
}

async function framesToStore(
  link: RedisLink,
  backends: LogBackendStore,
  partitions: readonly number[],
  now: number,
): Promise<void> {
  for (const partition of partitions) {
    for (const halfHour of halfHoursToLook(halfHourOf(now))) {
      await eachPage(link, keysOf(partition).frames(halfHour), (pairs) =>
        backends.rememberFrames(
          pairs.map(([id]) => parseId(id)),
          now,
        ),
      );
    }
  }
}

/** Fields and values of a hash, page by page. */
async function eachPage(
  link: RedisLink,
  key: string,
  work: (pairs: readonly (readonly [string, string])[]) => Promise<void>,
): Promise<void> {
  let cursor = '0';
  do {
    const [next, texts] = await link.run('log-adopt', (client) => client.hscan(key, cursor, 'COUNT', SCAN));
    const pairs: [string, string][] = [];
    for (let i = 0; i + 1 < texts.length; i += 2) pairs.push([texts[i] ?? '', texts[i + 1] ?? '']);
    if (pairs.length > 0) await work(pairs);
    cursor = next;
  } while (cursor !== '0');
}

function notWorkedOff(backend: LogBackend, records: number): CodedError {
  return refused(
    `at least ${records} readings in the log are not worked off; start once with LOG_BACKEND=${backend} ROLES=worker until tocsin_log_backlog is 0, then change`,
  );
}

function refused(detail: string): CodedError {
  return new CodedError('log-backend', detail);
}
