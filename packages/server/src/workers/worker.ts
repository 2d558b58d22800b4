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
import { devicePartitions } from '../lib/partition.ts';
import { repeat } from '../lib/repeat.ts';
import type { PartitionState } from '../store/ports/log.ts';
import { type CycleLoop, cycle, reread } from './cycle.ts';
import { heardTick, type Listening, tickBody } from './listening.ts';
import { createOwnership } from './ownership.ts';
import { isDataError, isTooSlow, type Owned } from './partition-state.ts';
import { createSignal, type Signal } from './signal.ts';
import type { WorkerOptions } from './worker-options.ts';

/** A running worker. */
export interface Worker {
  /** Hint that these partitions have grown; `ours`: by what this process appended through the same log, and nothing else. */
  wake(partitions: Iterable<number>, ours?: boolean): void;
  /** Resolves once everything that is in the log now has been worked off, findings included. */
  caughtUp(signal: AbortSignal): Promise<void>;
  /** Ends after the batches under way; gives the leases up. */
  stop(): Promise<void>;
}

const RENEW_MS = 750;
const POLL_MS = 500;
const TICK_MS = 10_000;
/** Ticks are behind by this, for commits in flight: nearly all are quicker. */
const TICK_MARGIN_MS = 5000;
const MOST_BACK_OFF_MS = 1000;

/** Starts a worker. */
export function startWorker<Message>(options: WorkerOptions<Message>): Worker {
  const { log, owner, events } = options;
  // Two lanes, so that findings do not wait for a batch of readings to be committed.
  const devices = devicePartitions(log.partitions);
  const all = Array.from({ length: log.partitions }, (_, partition) => partition);
  const lanes = [all.slice(0, devices), all.slice(devices)].map((partitions) => createLane(partitions));
  const raise = (): void => {
    for (const { signal } of lanes) signal.raise();
  };
  const ownership = createOwnership({
    owner,
    log,
    standing: options.standing,
    groups: lanes.map(({ partitions }) => partitions),
    taken: raise,
    lost: events.lost,
  });
  const { owned, lose, take } = ownership;
  let stopping = false;

  const wake = (partitions: Iterable<number>, ours = false): void => {
    for (const partition of partitions) {
      const own = owned.get(partition);
      if (own === undefined) continue;
      own.due = true;
      if (!ours) own.beyond = true;
      lanes.find((lane) => lane.partitions.includes(partition))?.signal.raise();
    }
  };
  const poll = async (): Promise<void> => {
    await take(false);
    const behind = (await log.state()).filter(({ head, position }) => head > position);
    if (behind.length > 0) wake(behind.map(({ partition }) => partition));
  };
  const tickMs = options.tickMs ?? TICK_MS;
  let listening: Listening | null = null;
  const tick = async (): Promise<void> => {
    const due = withStates(owned);
    if (due.length === 0) return;
    const now = await log.completeUntil(TICK_MARGIN_MS);
    listening = heardTick(listening, now, tickMs);
    await appendTicks(options, due, now, listening);
    wake(due);
  };
  const endTimers = repeat(
    [
      { name: 'poll', everyMs: POLL_MS, work: poll },
      { name: 'renew', everyMs: RENEW_MS, work: ownership.renew },
      { name: 'tick', everyMs: tickMs, work: tick },
    ],
    (_name, error) => events.retry(error),
  );
  const ready = retrying(
    options,
    () => take(options.seize),
    () => stopping,
  );
  const running = lanes.map((lane) =>
    run(options, { owned, lane, heldSince: new Map(), wake, lose, take: () => take(false), stopped: () => stopping }),
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
      await ownership.releaseAll().catch(() => undefined);
    },
  };
}

/** Partitions that share cycles. */
interface Lane {
  readonly partitions: readonly number[];
  readonly signal: Signal;
}

function createLane(partitions: readonly number[]): Lane {
  return { partitions, signal: createSignal() };
}

/** A loop's view of the worker. */
interface Loop extends CycleLoop {
  readonly lane: Lane;
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
    const due = [...loop.owned.values()].filter((own) => own.due && loop.lane.partitions.includes(own.lease.partition));
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
      else if (isTooSlow(error)) alone = loop.owned.size;
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

/** Partitions that have something to forget, or to miss. */
function withStates(owned: ReadonlyMap<number, Owned>): number[] {
  return [...owned.values()]
    .filter((own) => own.states !== null && own.states.size > 0)
    .map((own) => own.lease.partition);
}

/**
 * Time passes for these partitions. For detectors it passes no faster than the log is worked off: a tick by the wall clock
 * would make them forget what a backlog still has to say, or miss who is only not worked off yet.
 */
async function appendTicks(
  { log, db }: Pick<WorkerOptions<unknown>, 'log' | 'db'>,
  due: readonly number[],
  receivedAt: number,
  listening: Listening,
): Promise<void> {
  const tick = { kind: 'tick', receivedAt, key: '', traceparent: null, body: tickBody(listening) } as const;
  await log.appendKeyed(
    db,
    due.map((partition) => ({ ...tick, partition })),
  );
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
