/**
 * The server's time, learned from the `Date` of its answers, so that envelopes are fresh on a device whose own clock is
 * wrong.
 *
 * Each answer says between which bounds the offset lies: the server wrote `Date` (cut to a second) between sending and
 * hearing. What is known is the intersection of all bounds, widened by what a quartz may drift meanwhile; the estimate is
 * its middle. The offset is to the monotonic counter, so a clock that somebody sets does no harm; bounds that contradict
 * the newest answer (a machine that slept, a server whose clock was set) are forgotten.
 * Guarantee: while `Date` is right and drift within its allowance, the true offset lies within the bounds.
 */
import type { TimeSource } from './time-source.ts';

/** One `Date`, with when the request left and when its answer was there, by the monotonic counter. */
export interface TimeSample {
  /** Unix ms, a whole second. */
  readonly date: number;
  readonly sentAt: number;
  readonly receivedAt: number;
}

/** Bounds of server's time minus monotonic counter, ms, as of `at` (monotonic). */
export interface OffsetBounds {
  readonly lower: number;
  readonly upper: number;
  readonly at: number;
}

/** What {@link DeviceClock.offset} knows. */
export interface KnownOffset {
  /** The server's time minus the machine's wall clock, ms. */
  readonly offsetMs: number;
  /** The true offset lies at most so far from it, ms. */
  readonly uncertaintyMs: number;
}

/** The corrected clock of a device. */
export interface DeviceClock {
  /** Unix ms, whole: the server's time as far as it is known, else the machine's. */
  now(): number;
  learn(sample: TimeSample): void;
  /** Null before the first usable answer. */
  offset(): KnownOffset | null;
}

/** `Date` has whole seconds; a server that caches its text is late by a little more. */
const DATE_RESOLUTION_MS = 1000 + 250;
/** Two quartzes apart, with room to spare. */
const DRIFT_PER_MS = 200e-6;
/** A slower answer says next to nothing. */
const ROUND_TRIP_MOST_MS = 60_000;
/** A `Date` outside of these years is no time: a server without a clock of its own. */
const EARLIEST = Date.UTC(2020, 0, 1);
const LATEST = Date.UTC(2100, 0, 1);

/** A `Date` header as Unix ms; null when it is missing, not of the form of RFC 9110 section 5.6.7, or absurd. */
export function readDate(header: string | undefined): number | null {
  if (header === undefined) return null;
  const ms = Date.parse(header);
  if (Number.isNaN(ms) || new Date(ms).toUTCString() !== header) return null;
  return ms >= EARLIEST && ms < LATEST ? ms : null;
}

/** The bounds after one more sample. A sample that cannot be right changes nothing. */
export function learnOffset(known: OffsetBounds | null, sample: TimeSample): OffsetBounds | null {
  const { date, sentAt, receivedAt } = sample;
  if (!(receivedAt >= sentAt) || receivedAt - sentAt > ROUND_TRIP_MOST_MS) return known;
  const fresh = { lower: date - receivedAt, upper: date + DATE_RESOLUTION_MS - sentAt, at: receivedAt };
  if (known === null) return fresh;
  const aged = age(known, receivedAt);
  const both = { lower: Math.max(aged.lower, fresh.lower), upper: Math.min(aged.upper, fresh.upper), at: aged.at };
  return both.lower <= both.upper ? both : fresh;
}

function age(known: OffsetBounds, now: number): OffsetBounds {
  const drift = Math.max(now - known.at, 0) * DRIFT_PER_MS;
  return { lower: known.lower - drift, upper: known.upper + drift, at: Math.max(now, known.at) };
}

/** A clock that has learned nothing yet. */
export function createClock(time: TimeSource): DeviceClock {
  let bounds: OffsetBounds | null = null;
  const middle = ({ lower, upper }: OffsetBounds): number => (lower + upper) / 2;
  const now = (): number => Math.round(bounds === null ? time.wall() : time.monotonic() + middle(bounds));
  return {
    now,
    learn: (sample) => {
      bounds = learnOffset(bounds, sample);
    },
    offset: () => {
      if (bounds === null) return null;
      const { lower, upper } = age(bounds, time.monotonic());
      return { offsetMs: Math.round(now() - time.wall()), uncertaintyMs: Math.ceil((upper - lower) / 2) };
    },
  };
}
