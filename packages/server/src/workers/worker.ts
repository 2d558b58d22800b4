/**
 * A worker: owns partitions of the log by leases, works their records off in order, and commits what is due in all of
 * them in one transaction: positions (fenced), readings, detector states, findings for other keys, alerts.
 *
 * Guarantees: each record takes effect exactly once, whatever dies when. A worker that was frozen and wakes up finds
 * its fence raised and changes nothing.
 * Order of locks in the transaction: positions, heads of the log, head of the channel. Ingest takes heads only.
 * Failure: while the store is away the worker waits (back-off up to 1 s) and goes on by itself.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { AlertFinding } from '@tocsin/protocol/finding';
import { devicePartitions, partitionOf } from '../lib/partition.ts';
import { repeat } from '../lib/repeat.ts';
import type { Database, Transaction } from '../store/ports/database.ts';
import type { KeyedAppend, Lease, Log, PartitionState } from '../store/ports/log.ts';
import type { StateRow, WorkStore } from '../store/ports/readings.ts';
import { type Meaning, type Outcome, type StateEntry, type States, stateName } from './batch.ts';
import { decide, isDataError, newOwned, type Owned, succeeded } from './partition-state.ts';
import { createSignal, type Signal } from './signal.ts';

/** What a worker needs. `Message` is what raising an alert leaves to publish. */
export interface WorkerOptions<Message> {
  readonly owner: string;
  readonly db: Database;
  readonly log: Log;
  readonly store: WorkStore;
  readonly meaning: Meaning;
  /** Makes a finding whole: names, place, fingerprint. */
  readonly complete: (finding: Outcome['findings'][number]) => Promise<AlertFinding>;
  /** Turns findings into alerts inside the transaction; answers the messages to publish after it. */
  readonly raise: (sql: Transaction, findings: readonly AlertFinding[], now: number) => Promise<readonly Message[]>;
  readonly publish: (messages: readonly Message[]) => void;
  readonly now: () => number;
  /** True when this process owns the whole store, so that leases of a process that died need not run out. */
  readonly seize: boolean;
  /** Time between ticks; 10,000 ms when absent. */
  readonly tickMs?: number;
  readonly events: WorkerEvents;
}

/** What a worker tells logs and metrics. */
export interface WorkerEvents {
  /** Something failed and will be tried again. */
  retry(error: unknown): void;
  /** Records were set aside. */
  failed(records: Outcome['failed']): void;
  lost(partition: number): void;
}

/** A running worker. */
export interface Worker {
  /** Hint that these partitions have grown. */
  wake(partitions: Iterable<number>): void;
  /** Resolves once everything that is in the log now has been worked off, findings included. */
  caughtUp(signal: AbortSignal): Promise<void>;
  /** Ends after the batches under way; gives the leases up. */
  stop(): Promise<void>;
}

const LEASE_MS = 5000;
const RENEW_MS = 1500;
const POLL_MS = 500;
const TICK_MS = 10_000;
/** Ticks are behind by this, for commits in flight: nearly all are quicker. */
const TICK_MARGIN_MS = 5000;
/** Bodies of one partition in a batch. */
const BATCH_BYTES = 1_048_576;
const MOST_BACK_OFF_MS = 1000;
/** Up to so many readings a cycle without alerts is one statement; beyond that COPY is worth its round trips. */
const PLAIN_ROWS = 2000;

/** Starts a worker. */
export function startWorker<Message>(options: WorkerOptions<Message>): Worker {
  const { log, owner, events } = options;
  const owned = new Map<number, Owned>();
  // Two lanes, so that findings do not wait for a batch of readings to be committed.
  const devices = devicePartitions(log.partitions);
  const lanes = [createLane((partition) => partition < devices), createLane((partition) => partition >= devices)];
  const raise = (): void => {
    for (const { signal } of lanes) signal.raise();
  };
  let stopping = false;

  const wake = (partitions: Iterable<number>): void => {
    for (const partition of partitions) {
      const own = owned.get(partition);
      if (own === undefined) continue;
      own.due = true;
      lanes.find((lane) => lane.has(partition))?.signal.raise();
    }
  };
  const lose = (partition: number): void => {
    if (owned.delete(partition)) events.lost(partition);
  };
  const take = async (seize: boolean): Promise<void> => {
    const leases = await log.acquire(owner, [...owned.keys()], LEASE_MS, seize);
    for (const lease of leases) owned.set(lease.partition, newOwned(lease));
    if (leases.length > 0) raise();
  };
  const renew = async (): Promise<void> => {
    const before = [...owned.values()];
    const held = await log.renew(owner, LEASE_MS);
    for (const own of before)
      if (owned.get(own.lease.partition) === own && !isHeld(held, own)) lose(own.lease.partition);
    await take(false);
  };
  const poll = async (): Promise<void> => {
    const behind = (await log.state()).filter(({ head, position }) => head > position);
    if (behind.length > 0) wake(behind.map(({ partition }) => partition));
  };
  const endTimers = repeat(
    [
      { name: 'poll', everyMs: POLL_MS, work: poll },
      { name: 'renew', everyMs: RENEW_MS, work: renew },
      { name: 'tick', everyMs: options.tickMs ?? TICK_MS, work: async () => wake(await appendTicks(options, owned)) },
    ],
    (_name, error) => events.retry(error),
  );
  const ready = retrying(
    options,
    () => take(options.seize),
    () => stopping,
  );
  const running = lanes.map((lane) =>
    run(options, { owned, lane, wake, lose, take: () => take(false), stopped: () => stopping }),
  );
  return {
    wake,
    caughtUp: async (abort) => {
      await ready;
      await caughtUp(options, abort);
    },
    stop: async () => {
      stopping = true;
      raise();
      await Promise.all([endTimers(), ready, ...running]);
      await log.release(owner).catch(() => undefined);
    },
  };
}

/** Partitions that share cycles. */
interface Lane {
  readonly has: (partition: number) => boolean;
  readonly signal: Signal;
}

function createLane(has: Lane['has']): Lane {
  return { has, signal: createSignal() };
}

/** A loop's view of the worker. */
interface Loop {
  readonly lane: Lane;
  readonly owned: ReadonlyMap<number, Owned>;
  readonly wake: (partitions: Iterable<number>) => void;
  readonly lose: (partition: number) => void;
  /** Takes what is free or ours already. */
  readonly take: () => Promise<void>;
  readonly stopped: () => boolean;
}

/**
 * One cycle after the other: everything that is due in the lane's partitions, in one transaction, so that its cost is paid
 * once however many partitions there are. When one fails for its records' sake, the next cycles take one partition each.
 */
async function run<Message>(options: WorkerOptions<Message>, loop: Loop): Promise<void> {
  let backOff = 0;
  let alone = 0;
  let turn = 0;
  while (!loop.stopped()) {
    const due = [...loop.owned.values()].filter((own) => own.due && loop.lane.has(own.lease.partition));
    // In turn, so that one that always has work cannot keep the one that fails from being found.
    if (alone > 0) turn = (turn + 1) % Math.max(1, due.length);
    const chosen = alone > 0 ? due.slice(turn, turn + 1) : due;
    if (chosen.length === 0) {
      await loop.lane.signal.wait();
      continue;
    }
    try {
      await cycle(options, loop, chosen);
      backOff = 0;
      alone = Math.max(0, alone - 1);
    } catch (error) {
      options.events.retry(error);
      if (isDataError(error)) alone = failedFor(chosen, loop.owned.size, alone);
      backOff = Math.min(Math.max(50, backOff * 2), MOST_BACK_OFF_MS);
      await pause(backOff);
      await reread(options, chosen).catch(() => undefined);
    }
  }
}

/** Blames the partition when it was alone; else asks for so many cycles of one partition each. */
function failedFor(chosen: readonly Owned[], owned: number, alone: number): number {
  const [own] = chosen;
  if (chosen.length > 1 || own === undefined) return owned;
  own.failures += 1;
  return Math.max(alone, 1);
}

/**
 * After a failed commit nobody knows whether it took effect (the connection may have died on its way back): the store
 * says where the positions are.
 */
async function reread({ log }: Pick<WorkerOptions<unknown>, 'log'>, chosen: readonly Owned[]): Promise<void> {
  for (const own of chosen) {
    own.states = null;
    own.due = true;
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
    const detector = meaning.detectors(row.key).find((other) => other.name === row.detector);
    if (detector === undefined || row.state === null) continue;
    const entry: StateEntry = { detector, key: row.key, state: JSON.parse(row.state) };
    states.set(stateName(row.detector, row.key), entry);
  }
  return states;
}

/** A partition's share of a cycle. */
interface Share {
  readonly own: Owned;
  readonly outcome: Outcome;
}

async function cycle<Message>(options: WorkerOptions<Message>, loop: Loop, chosen: readonly Owned[]): Promise<void> {
  const { log } = options;
  for (const own of chosen) {
    own.states ??= await loadStates(options, own.lease.partition);
    own.due = false;
  }
  const limit = Math.min(...chosen.map((own) => own.limit));
  const records = await log.read(
    chosen.map((own) => own.lease),
    limit,
    BATCH_BYTES,
  );
  const shares = chosen.flatMap((own): Share[] => {
    const mine = records.filter(({ partition }) => partition === own.lease.partition);
    if (mine.length === 0) return [];
    // There may be more than what was read.
    own.due = true;
    return [{ own, outcome: decide(options.meaning, own, mine) }];
  });
  if (shares.length === 0) return;
  const committed = await commit(options, shares);
  if (committed === null) {
    // Some partition is someone else's, or further on than we knew: the store says which and where.
    const held = await log.renew(options.owner, LEASE_MS);
    const gone = shares.filter(({ own }) => loop.owned.get(own.lease.partition) === own && !isHeld(held, own));
    for (const { own } of gone) loop.lose(own.lease.partition);
    if (gone.length > 0) await loop.take();
    return reread(options, chosen);
  }
  for (const { own, outcome } of shares) settle(own, outcome);
  if (committed.messages.length > 0) options.publish(committed.messages);
  loop.wake(committed.appended);
  tell(options, shares);
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
  const findings = await Promise.all(outcomes.flatMap((outcome) => outcome.findings).map(options.complete));
  const appended = toAppend(log, outcomes);
  const rows = outcomes.length === 1 ? (outcomes[0]?.rows ?? []) : outcomes.flatMap((outcome) => outcome.rows);
  const states = statesOf(shares);
  const failed = outcomes.flatMap((outcome) => outcome.failed);
  const now = options.now();
  const batches = shares.map(({ own, outcome }) => ({ lease: own.lease, position: outcome.last }));
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

/** False for a partition of someone else, or one whose fence was raised: no batch of this lease will ever be committed. */
function isHeld(held: readonly Pick<Lease, 'partition' | 'fence'>[], { lease }: Owned): boolean {
  return held.some(({ partition, fence }) => partition === lease.partition && fence === lease.fence);
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

function toAppend(log: Log, outcomes: readonly Outcome[]): KeyedAppend[] {
  return outcomes.flatMap(({ notices }) =>
    notices.map(({ key, receivedAt, traceparent, items }) => ({
      partition: partitionOf(key, log.partitions),
      kind: 'finding' as const,
      receivedAt,
      key,
      traceparent,
      body: JSON.stringify(items),
    })),
  );
}

/**
 * Time passes for partitions that have something to forget. Answers which. For detectors it passes no faster than the log
 * is worked off: a tick by the wall clock would make them forget what a backlog still has to say.
 */
async function appendTicks(
  { log, db }: Pick<WorkerOptions<unknown>, 'log' | 'db'>,
  owned: ReadonlyMap<number, Owned>,
): Promise<number[]> {
  const due = [...owned.values()]
    .filter((own) => own.states !== null && own.states.size > 0)
    .map((own) => own.lease.partition);
  if (due.length === 0) return [];
  const receivedAt = await log.completeUntil(TICK_MARGIN_MS);
  const tick = { kind: 'tick', receivedAt, key: '', traceparent: null, body: '' } as const;
  await log.appendKeyed(
    db,
    due.map((partition) => ({ ...tick, partition })),
  );
  return due;
}

async function retrying(
  { events }: Pick<WorkerOptions<unknown>, 'events'>,
  work: () => Promise<void>,
  stopped: () => boolean,
): Promise<void> {
  for (let wait = 50; !stopped(); wait = Math.min(wait * 2, MOST_BACK_OFF_MS)) {
    try {
      return await work();
    } catch (error) {
      events.retry(error);
      await pause(wait);
    }
  }
}

/** Twice: what the first round leaves are findings for other keys. A store that is away meanwhile is waited for. */
async function caughtUp(options: Pick<WorkerOptions<unknown>, 'log' | 'events'>, signal: AbortSignal): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    const heads = new Map((await askState(options, signal)).map((state) => [state.partition, state.head]));
    while ((await askState(options, signal)).some((state) => state.position < (heads.get(state.partition) ?? 0))) {
      await pause(20);
    }
  }
}

/** The state of the log, however long the store takes; throws only when `signal` says so. */
async function askState(
  { log, events }: Pick<WorkerOptions<unknown>, 'log' | 'events'>,
  signal: AbortSignal,
): Promise<PartitionState[]> {
  for (let wait = 50; ; wait = Math.min(wait * 2, MOST_BACK_OFF_MS)) {
    signal.throwIfAborted();
    try {
      return await log.state();
    } catch (error) {
      events.retry(error);
      await pause(wait);
    }
  }
}
