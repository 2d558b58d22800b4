/**
 * A worker: owns partitions of the log by leases, works their records off in order, and commits each batch in one
 * transaction: position (fenced), readings, detector states, findings for other keys, alerts.
 *
 * Guarantees: each record takes effect exactly once, whatever dies when. A worker that was frozen and wakes up finds
 * its fence raised and changes nothing.
 * Order of locks in the transaction: position, heads of the log, head of the channel. Ingest takes heads only.
 * Failure: while the store is away the worker waits (back-off up to 1 s) and goes on by itself.
 */
import type { AlertFinding } from '@tocsin/protocol/finding';
import { partitionOf } from '../lib/partition.ts';
import { repeat } from '../lib/repeat.ts';
import type { Database, Transaction } from '../store/ports/database.ts';
import type { KeyedAppend, Lease, Log, LogRecord } from '../store/ports/log.ts';
import type { WorkStore } from '../store/ports/readings.ts';
import { type Meaning, type Outcome, type StateEntry, type States, stateName, workOff } from './batch.ts';
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
  readonly events: WorkerEvents;
}

/** What a worker tells logs and metrics. */
export interface WorkerEvents {
  batch(partition: number, records: number, readings: number): void;
  /** The batch failed and will be tried again. */
  retry(partition: number, error: unknown): void;
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
const BATCH_RECORDS = 2000;
const BATCH_BYTES = 4 * 1024 * 1024;
const MOST_BACK_OFF_MS = 1000;

/** A batch that fails this often for its own sake is taken apart, and a record that does is set aside. */
const MOST_FAILURES = 3;

interface Owned {
  lease: Lease;
  /** Records of a batch at most: one while a batch is taken apart to find the record that it fails for. */
  limit: number;
  /** Batches still to go before the limit is lifted again. */
  apart: number;
  failures: number;
  states: States | null;
  readonly signal: Signal;
  /** False once the lease is gone. */
  alive: boolean;
}

/** Starts a worker. */
export function startWorker<Message>(options: WorkerOptions<Message>): Worker {
  const { log, owner } = options;
  const owned = new Map<number, Owned>();
  const running = new Set<Promise<void>>();
  let stopping = false;

  const wake = (partitions: Iterable<number>): void => {
    for (const partition of partitions) owned.get(partition)?.signal.raise();
  };

  const lose = (partition: number): void => {
    const own = owned.get(partition);
    if (own === undefined) return;
    own.alive = false;
    own.signal.raise();
    owned.delete(partition);
    options.events.lost(partition);
  };

  const take = async (seize: boolean): Promise<void> => {
    const leases = await log.acquire(owner, [...owned.keys()], LEASE_MS, seize);
    for (const lease of leases) {
      lose(lease.partition);
      const signal = createSignal();
      const own: Owned = { lease, limit: BATCH_RECORDS, apart: 0, failures: 0, states: null, signal, alive: true };
      owned.set(lease.partition, own);
      own.signal.raise();
      const loop = runPartition(options, own, wake, () => lose(lease.partition)).finally(() => running.delete(loop));
      running.add(loop);
    }
  };

  const renew = async (): Promise<void> => {
    const held = new Set(await log.renew(owner, LEASE_MS));
    for (const partition of [...owned.keys()]) if (!held.has(partition)) lose(partition);
    await take(false);
  };

  const poll = async (): Promise<void> => {
    for (const { partition, head, position } of await log.state()) if (head > position) wake([partition]);
  };

  const endTimers = repeat(
    [
      { name: 'poll', everyMs: POLL_MS, work: poll },
      { name: 'renew', everyMs: RENEW_MS, work: renew },
      { name: 'tick', everyMs: TICK_MS, work: () => appendTicks(options, owned) },
    ],
    (_name, error) => options.events.retry(-1, error),
  );
  const ready = retrying(options, () => take(options.seize), () => stopping);

  return {
    wake,
    caughtUp: async (signal) => {
      await ready;
      await caughtUp(log, signal);
    },
    stop: async () => {
      stopping = true;
      await endTimers();
      await ready;
      for (const own of owned.values()) {
        own.alive = false;
        own.signal.raise();
      }
      await Promise.all(running);
      await log.release(owner).catch(() => undefined);
    },
  };
}

async function retrying(options: Pick<WorkerOptions<unknown>, 'db' | 'log' | 'store' | 'meaning' | 'now' | 'events'>, work: () => Promise<void>, stopped: () => boolean): Promise<void> {
  for (let wait = 50; !stopped(); wait = Math.min(wait * 2, MOST_BACK_OFF_MS)) {
    try {
      return await work();
    } catch (error) {
      options.events.retry(-1, error);
      await pause(wait);
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Twice: what the first round leaves are findings for other keys. */
async function caughtUp(log: Log, signal: AbortSignal): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    const heads = new Map((await log.state()).map((state) => [state.partition, state.head]));
    for (;;) {
      signal.throwIfAborted();
      const behind = (await log.state()).some((state) => state.position < (heads.get(state.partition) ?? 0));
      if (!behind) break;
      await pause(20);
    }
  }
}

async function runPartition<Message>(
  options: WorkerOptions<Message>,
  own: Owned,
  wake: (partitions: Iterable<number>) => void,
  lost: () => void,
): Promise<void> {
  const { partition } = own.lease;
  let backOff = 0;
  while (own.alive) {
    let records: LogRecord[] = [];
    try {
      own.states ??= await loadStates(options, partition);
      records = await options.log.read(partition, own.lease.position, own.limit, BATCH_BYTES);
      if (records.length === 0) {
        await own.signal.wait();
        continue;
      }
      if (!(await commitBatch(options, own, records, wake))) return lost();
      backOff = 0;
      succeeded(own);
    } catch (error) {
      own.states = null;
      options.events.retry(partition, error);
      if (isDataError(error)) own.failures += 1;
      backOff = Math.min(Math.max(50, backOff * 2), MOST_BACK_OFF_MS);
      await pause(backOff);
      await reread(options, own).catch(() => undefined);
    }
  }
}

function succeeded(own: Owned): void {
  own.failures = 0;
  own.apart = Math.max(0, own.apart - 1);
  if (own.apart === 0) own.limit = BATCH_RECORDS;
}

/** True for what the records themselves may cause; everything else (store away, disk full, deadlock) is only waited for. */
function isDataError(error: unknown): boolean {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError) return true;
  const state = (error as { code?: unknown } | null)?.code;
  return typeof state === 'string' && /^2[23][0-9A-Z]{3}$/.test(state);
}

/** What a batch comes to; after repeated failures in smaller batches, at last with the record set aside. */
function decide(options: Pick<WorkerOptions<unknown>, 'db' | 'log' | 'store' | 'meaning' | 'now' | 'events'>, own: Owned, states: States, records: readonly LogRecord[]): Outcome {
  if (own.failures < MOST_FAILURES) return workOff(options.meaning, states, records);
  own.failures = 0;
  const first = records[0];
  if (own.limit > 1 || first === undefined) {
    own.limit = 1;
    own.apart = records.length;
    return workOff(options.meaning, states, records);
  }
  const { partition, offset, kind, key, body } = first;
  const failed = [{ partition, offset, kind, key, body, reason: 'its batch failed again and again' }];
  return { rows: [], notices: [], findings: [], states: new Map(), failed };
}

/**
 * After a failed commit nobody knows whether it took effect (the connection may have died on its way back): the store
 * says where the position is.
 */
async function reread(options: Pick<WorkerOptions<unknown>, 'db' | 'log' | 'store' | 'meaning' | 'now' | 'events'>, own: Owned): Promise<void> {
  const states = await options.log.state();
  const position = states.find((state) => state.partition === own.lease.partition)?.position;
  if (position !== undefined) own.lease = { ...own.lease, position };
}

async function loadStates(options: Pick<WorkerOptions<unknown>, 'db' | 'log' | 'store' | 'meaning' | 'now' | 'events'>, partition: number): Promise<States> {
  const states: States = new Map();
  for (const row of await options.store.loadStates(partition)) {
    const detector = options.meaning.detectors(row.key).find((other) => other.name === row.detector);
    if (detector === undefined || row.state === null) continue;
    const entry: StateEntry = { detector, key: row.key, state: JSON.parse(row.state) };
    states.set(stateName(row.detector, row.key), entry);
  }
  return states;
}

/** False: the partition is someone else's. */
async function commitBatch<Message>(
  options: WorkerOptions<Message>,
  own: Owned,
  records: readonly LogRecord[],
  wake: (partitions: Iterable<number>) => void,
): Promise<boolean> {
  const { db, log, store } = options;
  const states = own.states ?? new Map<string, StateEntry>();
  const outcome = decide(options, own, states, records);
  const position = records.at(-1)?.offset ?? own.lease.position;
  const findings = await Promise.all(outcome.findings.map(options.complete));
  const appended = toAppend(log, outcome);
  const now = options.now();
  const messages = await db.transaction(async (sql) => {
    if (!(await log.advance(sql, { lease: own.lease, position }))) return null;
    await store.insertReadings(sql, outcome.rows);
    const changed = [...outcome.states.values()].map(({ detector, key, state }) => ({
      detector: detector.name,
      key,
      state: state === null ? null : JSON.stringify(state),
    }));
    await store.saveStates(sql, own.lease.partition, changed, now);
    await store.keepFailed(sql, outcome.failed, now);
    await log.appendKeyed(sql, appended);
    return findings.length === 0 ? [] : options.raise(sql, findings, now);
  });
  if (messages === null) return false;
  own.lease = { ...own.lease, position };
  for (const [name, entry] of outcome.states) {
    if (entry.state === null) states.delete(name);
    else states.set(name, entry);
  }
  if (messages.length > 0) options.publish(messages);
  wake(appended.map((record) => record.partition));
  if (outcome.failed.length > 0) options.events.failed(outcome.failed);
  options.events.batch(own.lease.partition, records.length, outcome.rows.length);
  return true;
}

function toAppend(log: Log, outcome: Outcome): KeyedAppend[] {
  return outcome.notices.map(({ key, receivedAt, traceparent, items }) => ({
    partition: partitionOf(key, log.partitions),
    kind: 'finding',
    receivedAt,
    key,
    traceparent,
    body: JSON.stringify(items),
  }));
}

/** Time passes for partitions that have something to forget. */
async function appendTicks(options: Pick<WorkerOptions<unknown>, 'db' | 'log' | 'store' | 'meaning' | 'now' | 'events'>, owned: ReadonlyMap<number, Owned>): Promise<void> {
  const due = [...owned.values()].filter((own) => own.states !== null && own.states.size > 0);
  if (due.length === 0) return;
  const receivedAt = options.now();
  const records = due.map(
    ({ lease }): KeyedAppend => ({ partition: lease.partition, kind: 'tick', receivedAt, key: '', traceparent: null, body: '' }),
  );
  await options.log.appendKeyed(options.db, records);
  for (const own of due) own.signal.raise();
}
