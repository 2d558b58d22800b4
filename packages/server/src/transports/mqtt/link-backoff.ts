/**
 * The waits between attempts to reach the broker: the least, doubled with each attempt that failed, up to the most; each
 * moved by up to a fifth to either side, so that processes which lost the broker together do not all come back together.
 * A connection that held for {@link HELD_MS} ends the series. Pure but for `random`.
 */

/** A connection that held so long was a good one: after it the waits begin anew. */
export const HELD_MS = 30_000;
const JITTER = 0.2;

/** The waits of one link. */
export interface Backoff {
  /** How long to wait before the next attempt, ms. */
  next(): number;
  /** A connection ended that had held for `ms`. */
  held(ms: number): void;
}

/** Waits from `minMs` to `maxMs`. `random` answers 0 to 1. */
export function createBackoff(minMs: number, maxMs: number, random: () => number = Math.random): Backoff {
  let base = minMs;
  return {
    next() {
      const wait = base * (1 + JITTER * (2 * random() - 1));
      base = Math.min(base * 2, maxMs);
      return Math.round(wait);
    },
    held(ms) {
      if (ms >= HELD_MS) base = minMs;
    },
  };
}
