/**
 * Token buckets in memory. A bucket that is full again is forgotten (a new one starts full, so nothing changes); above
 * the bound the longest unused one goes.
 */
import type { Clock } from '../../lib/clock.ts';
import { type BucketLevel, bucketUnits, takeFrom } from '../bucket.ts';
import type { BucketAnswer, BucketShape, Limiter } from '../ports/bus.ts';
import { createExpiringMap } from './expiring-map.ts';

/** The most buckets that are kept. */
export const BUCKETS_MOST = 500_000;

/** A limiter with the means to drop full buckets in quiet times; `take` answers at once. */
export interface MemoryLimiter extends Limiter {
  readonly size: number;
  take(key: string, shape: BucketShape, cost?: number): BucketAnswer;
  sweep(steps: number): void;
}

/** Creates a limiter whose times come from `clock.monotonic`. */
export function createMemoryLimiter(clock: Clock, most: number = BUCKETS_MOST): MemoryLimiter {
  const buckets = createExpiringMap<BucketLevel>(most);
  const now = (): number => Math.floor(clock.monotonic());

  return {
    get size(): number {
      return buckets.size;
    },
    sweep: (steps) => buckets.sweep(steps, now()),
    take(key, shape, cost = 1) {
      const at = now();
      const step = takeFrom(buckets.get(key, at), bucketUnits(shape), cost, at);
      buckets.set(key, step.kept, step.fullAt, at);
      return step.answer;
    },
  };
}
