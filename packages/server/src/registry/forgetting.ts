/**
 * Forgets hosts that nobody registered and that no longer report, so that those that come have room.
 *
 * One is forgotten when none of its readings is kept any more and nobody touched it for as long as readings are kept. Its
 * row goes, and what was summed up for it alone; sums of everybody and of zones stay, and so do its alerts. An operator's
 * word stays: whoever has a zone, a place, an owner or another standing than active is not forgotten.
 * Guarantees: no accepted frame loses its device (see `store/postgres/hosts.ts`): a row is deleted only when everything
 * that was accepted within {@link FORGET_AFTER_MS} of its marking has become readings, and left none.
 * Bounds: of each pass {@link PORTION} rows looked at, {@link FORGOTTEN_MOST} deleted, {@link PURGED_MOST} sums deleted.
 */
import type { HostStore } from '../store/ports/registry.ts';
import { FRESH_MS } from './directory.ts';

/** Rows that a pass looks at. */
export const PORTION = 1000;
/** Rows that a pass deletes. */
export const FORGOTTEN_MOST = 500;
/** Rows of rollups that a pass deletes. */
export const PURGED_MOST = 20_000;
/** For how long a frame may still find a host that was marked (as a directory remembers it; clocks may differ), ms. */
export const FORGET_AFTER_MS: number = FRESH_MS + 55_000;
/** By then no rollup that saw the row is still being written, ms. */
export const PURGE_AFTER_MS = 3_600_000;

/** What {@link createForgetting} needs. */
export interface ForgettingOptions {
  readonly hosts: Pick<HostStore, 'markIdle' | 'forget' | 'purge'>;
  /** Unix ms. */
  readonly now: () => number;
  /** Unix ms before which every accepted frame has become readings. */
  readonly completeUntil: () => Promise<number>;
  /** How long readings are kept, ms. */
  readonly keptMs: number;
}

/** Builds a function that does one pass; it goes through all rows in turn. Rejects as the store does. */
export function createForgetting({ hosts, now, completeUntil, keptMs }: ForgettingOptions): () => Promise<void> {
  let after = 0;
  return async () => {
    const at = now();
    after = (await hosts.markIdle(after, PORTION, at - keptMs, at)) ?? 0;
    await hosts.forget((await completeUntil()) - FORGET_AFTER_MS, FORGOTTEN_MOST, at);
    await hosts.purge(at - PURGE_AFTER_MS, PURGED_MOST);
  };
}
