/**
 * The arithmetic of a token bucket, shared by every implementation of the limiter.
 *
 * Numbers: tokens are counted in integers of nano-tokens (1e-9 token) and time in integer milliseconds, so every step is
 * exact in a double as long as a burst stays under nine million tokens; a Lua script of Redis does the same steps with
 * the same results (Lua 5.1 numbers are doubles; store them with `%.0f`).
 * Guarantees: in any window of t ms at most burst + rate * t is let through. A clock that goes back adds nothing and
 * takes nothing: the bucket waits until the clock has passed its latest time again, at most {@link BACK_MOST_MS}. What goes
 * back further is another clock (set anew, or a replica's after a failover): the bucket goes on from there as it is.
 */
import type { BucketAnswer, BucketShape } from './ports/bus.ts';

/** Nano-tokens of one token. */
export const NANO = 1_000_000_000;
/** The largest burst for which the arithmetic is exact, in tokens. */
export const BURST_MOST = 9_000_000;

/** How far a clock may go back before it counts as another one, in ms. */
export const BACK_MOST_MS = 1000;

/** What is kept for a bucket: nano-tokens that were there at the time `at` (ms). */
export interface BucketLevel {
  readonly level: number;
  readonly at: number;
}

/** A shape in the units of the arithmetic: nano-tokens a millisecond, nano-tokens at most. */
export interface BucketUnits {
  readonly perMs: number;
  readonly capacity: number;
}

/** The result of {@link takeFrom}: the answer, what to keep, and when (ms) the bucket is full again and may be forgotten. */
export interface BucketStep {
  readonly answer: BucketAnswer;
  readonly kept: BucketLevel;
  readonly fullAt: number;
}

/**
 * Converts a shape (rounding down, at least one nano-token a millisecond).
 * @throws RangeError for a shape that is not positive and finite, or a burst over {@link BURST_MOST}.
 */
export function bucketUnits(shape: BucketShape): BucketUnits {
  const { ratePerSecond, burst } = shape;
  if (!(ratePerSecond > 0 && ratePerSecond <= BURST_MOST)) throw new RangeError('a bucket needs a rate above 0');
  if (!(burst > 0 && burst <= BURST_MOST)) throw new RangeError('a bucket needs a burst above 0');
  return { perMs: Math.max(1, Math.floor(ratePerSecond * 1_000_000)), capacity: Math.floor(burst * NANO) };
}

/** Takes `cost` tokens at the time `now` (integer ms), or none. `kept` undefined: a bucket that was never used is full. */
export function takeFrom(kept: BucketLevel | undefined, units: BucketUnits, cost: number, now: number): BucketStep {
  if (!(cost >= 0)) throw new RangeError('a cost is not negative');
  const { perMs, capacity } = units;
  const since = kept === undefined || kept.at - now > BACK_MOST_MS ? now : kept.at;
  const at = Math.max(since, now);
  const before = kept === undefined ? capacity : Math.min(capacity, kept.level);
  // Past 2^53 the product is rounded, but is then above every capacity anyway.
  const level = Math.min(capacity, before + (at - since) * perMs);
  const price = Math.ceil(cost * NANO);
  const allowed = price <= level;
  const left = allowed ? level - price : level;
  const lacking = Math.min(price, capacity) - left;
  const retryAfterMs = allowed ? 0 : Math.max(1, at - now + Math.ceil(lacking / perMs));
  return {
    answer: { allowed, remaining: Math.floor(left / NANO), retryAfterMs },
    kept: { level: left, at },
    fullAt: at + Math.ceil((capacity - left) / perMs),
  };
}
