/**
 * One cycle of a worker: the records that are due in the partitions chosen, worked off and committed in one transaction.
 */
import { PROFILES } from '@tocsin/protocol/envelope';
import { devicePartitions, partitionOf } from '../lib/partition.ts';
import type { KeyedAppend, Log, LogRecord } from '../store/ports/log.ts';
import type { StateRow } from '../store/ports/readings.ts';
import { type Keeper, type Meaning, type Outcome, type StateEntry, type States, stateName } from './batch.ts';
import { plainKey } from './exercise.ts';
import { atOnePace, type Pace } from './pace.ts';
import { isHeld, LEASE_MS } from './ownership.ts';
import { BATCH_RECORDS, decide, type Owned, succeeded } from './partition-state.ts';
import type { WorkerOptions } from './worker-options.ts';

/**
 * Bodies of a cycle, shared out among its partitions: some 100,000 readings, written in half a second here, so that a
 * database ten times slower still ends them within its statement timeout (6 s), and an alarm waits no longer behind them.
 */
const CYCLE_BYTES = 4_194_304;
/** Of one partition, so that a cycle of one partition is a small one. */
const BATCH_BYTES = 524_288;
/** Up to so many readings a cycle without alerts is one statement; beyond that COPY is worth its round trips. */
const PLAIN_ROWS = 2000;

/** What a cycle does to the worker's partitions. */
export interface CycleLoop {
  readonly owned: ReadonlyMap<number, Owned>;
  /** Partitions that waited for slower ones, see `pace.ts`. */
  heldSince: ReadonlyMap<number, number>;
  readonly wake: (partitions: Iterable<number>) => void;
  readonly lose: (partition: number) => void;
  /** Takes what is free or ours already. */
  readonly take: () => Promise<void>;
}

/**
 * After a failed commit nobody knows whether it took effect (the connection may have died on its way back): the store
 * says where the positions are.
 */
export async function reread({ log }: Pick<WorkerOptions<unknown>, 'log'>, chosen: readonly Owned[]): Promise<void> {
  for (const own of chosen) {
    own.states = null;
    own.due = true;
    own.beyond = true;
  }
  const states = await log.state();
  for (const own of chosen) {
    const position = states.find(({ partition }) => partition === own.lease.partition)?.position;
    if (position !== undefined) own.lease = { ...own.lease, position };
  }
}

async function loadStates(
  { store, meaning }: Pick<WorkerOptions<unknown>, 'store' | 'meaning'>,
  partition: number,
): Promise<States> {
  const states: States = new Map();
  for (const row of await store.loadStates(partition)) {
    const detector = keeperOf(meaning, row.detector, row.key);
    if (detector === undefined || row.state === null) continue;
    const entry: StateEntry = { detector, key: row.key, state: JSON.parse(row.state) };
    states.set(stateName(row.detector, row.key), entry);
  }
  return states;
}

/** Whose state it is; undefined for one that is no more. Keys of detectors have a colon, ids of devices none. */
function keeperOf(meaning: Meaning, name: string, key: string): Keeper | undefined {
  const detectors: readonly Keeper[] = key.includes(':')
    ? meaning.detectors(plainKey(key))
    : PROFILES.flatMap((profile) => meaning.watchers?.(profile) ?? []);
  return detectors.find((other) => other.name === name);
}

/** A partition's share of a cycle. */
interface Share {
  readonly own: Owned;
  readonly outcome: Outcome;
  /** Of its records, when this process remembers them. */
  readonly epoch?: string;
}

function byPartition(records: readonly LogRecord[]): ReadonlyMap<number, LogRecord[]> {
  const found = new Map<number, LogRecord[]>();
  for (const record of records) {
    const mine = found.get(record.partition);
    if (mine === undefined) found.set(record.partition, [record]);
    else mine.push(record);
  }
  return found;
}

/**
 * Whether a partition must be looked at again without a hint: what is held back now must not wait for the next poll, and
 * behind what was read from the store there may be more. What this process appends after records that it remembers is
 * hinted at; whether others appended behind them, `Owned.beyond` says.
 */
function mayHaveMore(read: readonly LogRecord[], mine: readonly LogRecord[], limit: number, maxBytes: number): boolean {
  if (read.length === 0) return false;
  if (mine.length < read.length || read.length >= limit || read[0]?.epoch === undefined) return true;
  return read.reduce((bytes, { body }) => bytes + body.length, 0) >= maxBytes;
}

export async function cycle<Message>(
  options: WorkerOptions<Message>,
  loop: CycleLoop,
  chosen: readonly Owned[],
): Promise<void> {
  const { log } = options;
  for (const own of chosen) own.states ??= await loadStates(options, own.lease.partition);
  const beyond = new Set(chosen.filter((own) => own.beyond));
  for (const own of chosen) {
    own.due = false;
    own.beyond = false;
  }
  const limit = Math.min(...chosen.map((own) => own.limit));
  const bytes = Math.min(BATCH_BYTES, Math.ceil(CYCLE_BYTES / chosen.length));
  const read = await log.read(
    chosen.map((own) => own.lease),
    limit,
    bytes,
  );
  const paced = byPartition(inOrder(options, loop, read, { limit, maxBytes: bytes }));
  const all = byPartition(read);
  const shares = chosen.flatMap((own): Share[] => {
    const { partition } = own.lease;
    const mine = paced.get(partition) ?? [];
    const found = all.get(partition) ?? [];
    if (mayHaveMore(found, mine, limit, bytes)) own.due = true;
    // Memory answered, so the hint at others' records stands.
    if (beyond.has(own) && found[0]?.epoch !== undefined) {
      own.due = true;
      own.beyond = true;
    }
    const [first] = mine;
    if (first === undefined) return [];
    const outcome = decide(options.meaning, own, mine);
    // Taken apart: what was left out comes next.
    if (outcome.last !== mine.at(-1)?.offset) own.due = true;
    return [first.epoch === undefined ? { own, outcome } : { own, outcome, epoch: first.epoch }];
  });
  if (shares.length === 0) return;
  const committed = await commit(options, shares);
  if (committed === null) {
    // Some partition is someone else's, or further on than we knew: the store says which and where.
    const held = await log.renew(options.owner, LEASE_MS, [...loop.owned.keys()]);
    const gone = shares.filter(({ own }) => loop.owned.get(own.lease.partition) === own && !isHeld(held, own));
    for (const { own } of gone) loop.lose(own.lease.partition);
    if (gone.length > 0) await loop.take();
    return reread(options, chosen);
  }
  for (const { own, outcome } of shares) settle(own, outcome);
  if (committed.messages.length > 0) options.publish(committed.messages);
  loop.wake(committed.appended);
  const elsewhere = new Set(committed.appended.filter((partition) => !loop.owned.has(partition)));
  if (elsewhere.size > 0) options.grown?.([...elsewhere]);
  tell(options, shares);
}

/**
 * Devices at one pace. Keys of detectors need none: each has one partition. Nor while a batch is taken apart, record by
 * record: a common pace would make it one record a cycle for all of them.
 */
function inOrder(
  { log, now }: Pick<WorkerOptions<unknown>, 'log' | 'now'>,
  loop: CycleLoop,
  read: readonly LogRecord[],
  bounds: Pick<Pace, 'limit' | 'maxBytes'>,
): readonly LogRecord[] {
  const devices = devicePartitions(log.partitions);
  if (bounds.limit < BATCH_RECORDS || read.some(({ partition }) => partition >= devices)) return read;
  const { records, heldSince } = atOnePace(read, { ...bounds, now: now(), heldSince: loop.heldSince });
  loop.heldSince = heldSince;
  return records;
}

/** Keeps what the transaction has made true. */
function settle(own: Owned, outcome: Outcome): void {
  succeeded(own, outcome.last);
  for (const [name, entry] of outcome.states) {
    if (entry.state === null) own.states?.delete(name);
    else own.states?.set(name, entry);
  }
}

function tell({ events }: Pick<WorkerOptions<unknown>, 'events'>, shares: readonly Share[]): void {
  for (const { outcome } of shares) if (outcome.failed.length > 0) events.failed(outcome.failed);
}

/** Null: nothing happened, because a partition is someone else's or its batch was done already. */
async function commit<Message>(
  options: WorkerOptions<Message>,
  shares: readonly Share[],
): Promise<{ messages: readonly Message[]; appended: number[] } | null> {
  const { db, log, store } = options;
  const outcomes = shares.map(({ outcome }) => outcome);
  const found = outcomes.flatMap((outcome) => outcome.findings);
  const findings = (await Promise.all(found.map(options.complete))).filter((finding) => finding !== null);
  const appended = toAppend(log, outcomes);
  const rows = outcomes.length === 1 ? (outcomes[0]?.rows ?? []) : outcomes.flatMap((outcome) => outcome.rows);
  const states = statesOf(shares);
  const failed = outcomes.flatMap((outcome) => outcome.failed);
  const now = options.now();
  const batches = shares.map(({ own, outcome, epoch }) => {
    const batch = { lease: own.lease, position: outcome.last };
    return epoch === undefined ? batch : { ...batch, epoch };
  });
  const partitions = appended.map((record) => record.partition);
  try {
    if (findings.length === 0 && failed.length === 0 && rows.length <= PLAIN_ROWS) {
      const done = await store.commitPlain({ batches, rows, states, appended, now });
      return done ? { messages: [], appended: partitions } : null;
    }
    return await db.transaction(async (sql) => {
      if ((await log.advance(sql, batches)).length < batches.length) throw new NotOurs();
      await store.insertReadings(sql, rows);
      await store.saveStates(sql, states, now);
      await store.keepFailed(sql, failed, now);
      await log.appendKeyed(sql, appended);
      const messages = findings.length === 0 ? [] : await options.raise(sql, findings, now);
      return { messages, appended: partitions };
    });
  } catch (error) {
    if (error instanceof NotOurs) return null;
    await store.mend(error, rows);
    throw error;
  }
}

/** Rolls the transaction back; never leaves this file. */
class NotOurs extends Error {
  override readonly name = 'NotOurs';
}

function statesOf(shares: readonly Share[]): StateRow[] {
  return shares.flatMap(({ own, outcome }) =>
    [...outcome.states.values()].map(({ detector, key, state }) => ({
      partition: own.lease.partition,
      detector: detector.name,
      key,
      state: state === null ? null : JSON.stringify(state),
    })),
  );
}

/** In the order of arrival over all partitions: what stations told reaches their network as it happened. */
function toAppend(log: Log, outcomes: readonly Outcome[]): KeyedAppend[] {
  const notices = outcomes.flatMap((outcome) => outcome.notices).sort((a, b) => a.receivedAt - b.receivedAt);
  return notices.map(({ key, receivedAt, traceparent, items }) => ({
    partition: partitionOf(key, log.partitions),
    kind: 'finding' as const,
    receivedAt,
    key,
    traceparent,
    body: JSON.stringify(items),
  }));
}
