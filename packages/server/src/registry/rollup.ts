/**
 * The background job that keeps rollups close behind the readings.
 *
 * It takes stretch after stretch of arrival until nothing complete is left, then rests. Stretches shrink and grow so that
 * each takes about as many readings as a transaction of a second or so can carry. Any number of processes may run it: one
 * works at a time, the others find it busy and rest.
 * Failure: an error (the store is away, a stretch takes too long) is told to `failed`, the stretch is halved, and the job
 * goes on after its rest. Answers stay right meanwhile: what is not rolled up is read raw.
 */
import type { RollupStore } from '../store/ports/statistics.ts';
import { MEASURED_FIELDS } from './statistics-fields.ts';

/** What the job needs. */
export interface RollupOptions {
  readonly store: Pick<RollupStore, 'roll' | 'indexNewest'>;
  /** Unix ms before which every reading (by `received_at`) is committed. */
  readonly completeUntil: () => Promise<number>;
  /** Rest between passes, ms. Default 30,000. */
  readonly restMs?: number;
  /** Told of every pass that failed. */
  readonly failed: (error: unknown) => void;
}

/** The job. */
export interface Rollup {
  /** One pass: rolls up all that is complete; answers how many readings that were. Rejects as the store does. */
  pass(): Promise<number>;
  /** Begins to pass and rest in turn. */
  start(): void;
  /** Ends after the stretch in progress. */
  stop(): Promise<void>;
}

/** How many readings a stretch aims at. */
const AIM = 100_000;
const SHORTEST_MS = 100;
const LONGEST_MS = 86_400_000;
const FIRST_MS = 60_000;

/** The next stretch, from what the last one held: towards {@link AIM} readings, by at most a factor of 4. Pure. */
export function nextStretch(stretchMs: number, readings: number): number {
  const factor = Math.min(4, Math.max(0.25, AIM / Math.max(1, readings)));
  return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, Math.round(stretchMs * factor)));
}

/** Builds the job, not started. */
export function createRollup(options: RollupOptions): Rollup {
  const { store, completeUntil, restMs = 30_000, failed } = options;
  let stretchMs = FIRST_MS;
  let running: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  let stopped = true;

  const pass = async (isEnded: () => boolean): Promise<number> => {
    const end = await completeUntil();
    let readings = 0;
    while (!isEnded()) {
      const taken = stretchMs;
      const outcome = await store.roll(end, taken, MEASURED_FIELDS).catch((error: unknown) => {
        stretchMs = Math.max(SHORTEST_MS, Math.round(taken / 2));
        throw error;
      });
      if (outcome.kind === 'busy') break;
      readings += outcome.readings;
      stretchMs = nextStretch(taken, outcome.readings);
      if (outcome.until >= end) break;
    }
    if (readings > 0) await store.indexNewest(end - LONGEST_MS, end);
    return readings;
  };
  const turn = (): void => {
    running = pass(() => stopped).then(
      () => rest(),
      (error: unknown) => {
        failed(error);
        rest();
      },
    );
  };
  const rest = (): void => {
    if (!stopped) timer = setTimeout(turn, restMs);
  };

  return {
    pass: () => pass(() => false),
    start: () => {
      if (!stopped) return;
      stopped = false;
      rest();
    },
    stop: async () => {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
