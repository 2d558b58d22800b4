/** Cells in memory. A cell over the bound pushes out the longest unwritten one. */
import type { Clock } from '../../lib/clock.ts';
import type { Cells } from '../ports/bus.ts';
import { createExpiringMap } from './expiring-map.ts';

/** The most cells that are kept. */
export const CELLS_MOST = 200_000;

/** Cells with the means to drop expired ones in quiet times. */
export interface MemoryCells extends Cells {
  readonly size: number;
  sweep(steps: number): void;
}

/** Creates cells whose times come from `clock.monotonic`. */
export function createMemoryCells(clock: Clock, most: number = CELLS_MOST): MemoryCells {
  const map = createExpiringMap<string>(most);
  const now = (): number => clock.monotonic();
  return {
    get size(): number {
      return map.size;
    },
    sweep: (steps) => map.sweep(steps, now()),
    get: async (key) => map.get(key, now()) ?? null,
    async set(key, value, ttlMs) {
      map.set(key, value, now() + ttlMs, now());
    },
    async setIfAbsent(key, value, ttlMs) {
      if (map.get(key, now()) !== undefined) return false;
      map.set(key, value, now() + ttlMs, now());
      return true;
    },
    async take(key) {
      const value = map.get(key, now()) ?? null;
      map.delete(key);
      return value;
    },
    async delete(key) {
      map.delete(key);
    },
  };
}
