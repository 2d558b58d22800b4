/**
 * How many of what took how long: counts of whole milliseconds in the bins of `lib/sketch.ts`, for adding in the hot path.
 *
 * Guarantees: adding costs a look into a table and allocates nothing; a lag below 0 (clocks of two machines differ) counts
 * as 0, one over {@link LAG_MOST_MS} as that. Size: 767 numbers, whatever was added.
 */
import { binOf, type Sketch } from '../lib/sketch.ts';

/** The longest lag that is told apart: an hour. */
export const LAG_MOST_MS = 3_600_000;

/** Bins of whole ms: 0, then those from 1 ms on, side by side. */
const BEFORE_ONE = binOf(1) - 1;
const SIZE = binOf(LAG_MOST_MS) - BEFORE_ONE + 1;
/** Lags below this have their index in the table; a logarithm for each would be most of the cost. */
const TABLE_MS = 8192;
const TABLE = Uint16Array.from({ length: TABLE_MS }, (_, ms) => (ms === 0 ? 0 : binOf(ms) - BEFORE_ONE));

function indexOf(lagMs: number): number {
  if (!(lagMs >= 1)) return 0;
  if (lagMs < TABLE_MS) return TABLE[Math.trunc(lagMs)] ?? 0;
  return binOf(Math.min(lagMs, LAG_MOST_MS)) - BEFORE_ONE;
}

/** Lags, counted. */
export interface LagCounts {
  add(lagMs: number, count: number): void;
  clear(): void;
  sketch(): Sketch;
}

/** Creates empty counts; they take memory with the first lag. */
export function createLagCounts(): LagCounts {
  let held: Uint32Array | null = null;
  // Lags of one message lie close together: only what lies between is looked at.
  let low = SIZE;
  let high = -1;
  return {
    add(lagMs, count) {
      held ??= new Uint32Array(SIZE);
      const index = indexOf(lagMs);
      held[index] = (held[index] ?? 0) + count;
      if (index < low) low = index;
      if (index > high) high = index;
    },
    clear() {
      held?.fill(0, low, high + 1);
      low = SIZE;
      high = -1;
    },
    sketch() {
      const bins: number[] = [];
      const counts: number[] = [];
      for (let index = low; index <= high; index++) {
        const count = held?.[index] ?? 0;
        if (count === 0) continue;
        bins.push(index === 0 ? 0 : index + BEFORE_ONE);
        counts.push(count);
      }
      return { bins, counts };
    },
  };
}
