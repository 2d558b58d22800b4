/**
 * Stage: under overload, who waits and who is refused. It stands behind the device's lookup and before its signature, so
 * that what is refused has cost little, and what may raise an alarm is told from what only fills charts.
 *
 * Overload is a standing queue: for a whole interval not one envelope got through within {@link TARGET_MS} (after CoDel,
 * RFC 8289 section 4: the least wait tells a standing queue from a burst). What got through meanwhile is then what the
 * process can do, and from it follows how much may be on its way (Little's law): {@link QUEUE_MS} worth for envelopes of
 * hosts and phones, {@link ALARMS_QUEUE_MS} worth for seismic ones. It ends with the first interval in which nothing had to
 * be refused, and when nobody came for {@link IDLE_MS} and nothing is on its way.
 *
 * Refusals leave at a pace, so that the loop is not spent on saying no: 8,000 connections that came back at once kept it so
 * busy that new ones, of sensors that felt an earthquake, waited for more than ten seconds to be taken. A client that
 * heeds no `Retry-After` is slowed down with it. They name one to four seconds in turn, so that not all come back together.
 */
import type { Refusal } from '@tocsin/protocol/errors';
import type { Draft, Stage } from './stage.ts';

/** The longest that an envelope should be on its way, ms. Unloaded it is 3 ms, at full load 30 to 200. */
export const TARGET_MS = 500;
/**
 * What may wait under overload, ms of work. Short, because all of it is worked off in one turn of the loop, and libuv takes one
 * new connection a turn: with half a second's worth turns took 300 ms, and a sensor that had to connect was left out.
 */
const QUEUE_MS = 150;
/** The same for what may raise an alarm. */
const ALARMS_QUEUE_MS = 2000;
const INTERVAL_MS = 200;
/** Fewer say nothing about a queue. */
const LEAST_DONE = 20;
/** Until the measure says anything, so many may be on their way: two seconds' worth here. */
const UNMEASURED_LIMIT = 10_000;
/** So many on their way are no overload whatever the measure says: about one commit's worth. */
const LEAST_LIMIT = 256;
/** So many of what may raise an alarm are none either, whatever hosts have on their way: after a store stood still the measure is near zero. */
const LEAST_ALARMS = 1024;
/** So long without a call and with nothing on its way, there is no queue, whatever the last interval saw. */
const IDLE_MS = 1000;
/** Weight of the newest interval in what the process can do. */
const NEWEST = 0.3;
/** Some 80 µs of the loop each. */
const REFUSALS_PER_SECOND = 2000;
/** No refusal waits longer, ms: an answer must come within 5 s. */
const MOST_DELAY_MS = 4000;
/**
 * Refusals that wait at most, and characters of their envelopes; more are told at once. They still count in what ingest takes
 * in all (25,000, 96 MiB): large envelopes that wait for their refusal must not close the door to alarms.
 */
const MOST_DELAYED = 20_000;
const MOST_DELAYED_BYTES = 16_777_216;
const RETRY_SECONDS = 4;

/** The stage, and what tells it how the others fare. */
export interface Shedder {
  readonly stage: Stage;
  /** A draft has its answer. `through`: it went all the way, so its time counts. */
  finished(draft: Draft, through: boolean): void;
}

/** What it needs; `shed` hears of each refusal. */
export interface ShedOptions {
  readonly monotonic: () => number;
  /** Does something after a time; `setTimeout`. */
  readonly later: (work: () => void, ms: number) => void;
  readonly shed: () => void;
}

/** One interval's look at the row. */
interface Interval {
  readonly from: number;
  done: number;
  least: number;
  refused: number;
}

/** Builds it. */
export function createShedder({ monotonic, later, shed }: ShedOptions): Shedder {
  let interval: Interval = { from: monotonic(), done: 0, least: Infinity, refused: 0 };
  let inFlight = 0;
  let alarmsInFlight = 0;
  let delayed = 0;
  let delayedBytes = 0;
  /** When the newest refusal leaves. */
  let lastLeaves = 0;
  let turn = 0;
  /** Envelopes a second that the process can do; null: not overloaded. */
  let capacity: number | null = null;
  /** The least wait when nothing queued: a store with slow commits needs more on its way to do the same, ms. */
  let unhurried = 0;

  const look = (now: number): void => {
    const seconds = (now - interval.from) / 1000;
    if (seconds * 1000 < INTERVAL_MS) return;
    const idle = inFlight === 0 && seconds * 1000 >= IDLE_MS;
    capacity = idle ? null : nextCapacity(capacity, interval, seconds);
    // Falls at once and rises slowly: a queue that builds up is no slow store.
    if (capacity === null && interval.done > 0) unhurried = Math.min(interval.least, 1.1 * unhurried + 1);
    interval = { from: now, done: 0, least: Infinity, refused: 0 };
  };
  const mayPass = (draft: Draft): boolean => {
    const alarms = mayAlarm(draft);
    if (capacity === null) return inFlight < (alarms ? 2 * UNMEASURED_LIMIT : UNMEASURED_LIMIT);
    if (alarms && alarmsInFlight < LEAST_ALARMS) return true;
    const queueMs = unhurried + (alarms ? ALARMS_QUEUE_MS : QUEUE_MS);
    return inFlight < Math.max(LEAST_LIMIT, (capacity * queueMs) / 1000);
  };
  const refuse = (now: number, bytes: number): Refusal | Promise<Refusal> => {
    interval.refused += 1;
    shed();
    turn = (turn + 1) % RETRY_SECONDS;
    const refusal: Refusal = {
      code: 'overloaded',
      detail: 'Overloaded; nothing was accepted',
      retryAfterMs: (turn + 1) * 1000,
    };
    if (delayed >= MOST_DELAYED || delayedBytes + bytes > MOST_DELAYED_BYTES) return refusal;
    lastLeaves = Math.min(now + MOST_DELAY_MS, Math.max(now, lastLeaves + 1000 / REFUSALS_PER_SECOND));
    const delay = lastLeaves - now;
    if (delay < 1) return refusal;
    delayed += 1;
    delayedBytes += bytes;
    return new Promise((resolve) => {
      later(() => {
        delayed -= 1;
        delayedBytes -= bytes;
        resolve(refusal);
      }, delay);
    });
  };
  return {
    stage: (draft) => {
      const now = monotonic();
      look(now);
      if (!mayPass(draft)) return refuse(now, draft.body.length);
      inFlight += 1;
      if (mayAlarm(draft)) alarmsInFlight += 1;
      draft.admittedAt = now;
      return null;
    },
    finished: (draft, through) => {
      const { admittedAt } = draft;
      if (admittedAt === null) return;
      inFlight -= 1;
      if (mayAlarm(draft)) alarmsInFlight -= 1;
      const now = monotonic();
      if (through) {
        interval.done += 1;
        interval.least = Math.min(interval.least, now - admittedAt);
      }
      look(now);
    },
  };
}

function mayAlarm({ device }: Draft): boolean {
  return device?.profile === 'seismic';
}

/** What the process can do a second after an interval, or null when it is not overloaded. Pure. */
export function nextCapacity(before: number | null, seen: Omit<Interval, 'from'>, seconds: number): number | null {
  const measured = seen.done / seconds;
  if (before !== null) return seen.refused === 0 ? null : before + NEWEST * (measured - before);
  return seen.done >= LEAST_DONE && seen.least > TARGET_MS ? measured : null;
}
