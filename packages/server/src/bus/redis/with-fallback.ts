/**
 * Limiter, cells and presence that ask Redis, and answer from this process alone while Redis is away.
 *
 * Guarantees: nothing here rejects because of Redis. With the circuit open the answer is at hand at once; a command that
 * fails is answered locally, too; back to Redis as soon as the circuit is closed again.
 * While Redis is away: each process has full buckets of its own, so a limit holds for each process; a cell is known to the
 * process that wrote it, also later, until its end; presence is that of this process. Counts of other processes come back
 * with Redis, and this process's entries are joined there again.
 * Failure: mistakes of the caller (RangeError) are thrown; what Redis answers as an error is told to `onError` and answered
 * locally.
 */
import { hasCode } from '../../lib/coded-error.ts';
import type { MemoryCells } from '../memory/cells.ts';
import type { BucketAnswer, Cells, Limiter, PresenceBoard } from '../ports/bus.ts';
import type { RedisLimiter } from './limiter.ts';
import type { RedisLink } from './link.ts';

/** The parts that answer locally. */
export type BusPart = 'limiter' | 'cells' | 'presence';

/** What a fallback needs. */
export interface FallbackOptions {
  readonly link: RedisLink;
  /** A part answered locally; called at most once a second for each part. */
  readonly onFellBack: (part: BusPart) => void;
  /** Hears other errors than Redis being away. */
  readonly onError: (error: unknown) => void;
}

const TOLD_MS = 1000;

/** A limiter that never waits for a Redis that is away. */
export function limiterWithFallback(
  remote: RedisLimiter,
  local: { take(...given: Parameters<Limiter['take']>): BucketAnswer },
  options: FallbackOptions,
): Limiter {
  const fellBack = teller('limiter', options);
  return {
    take(key, shape, cost) {
      if (options.link.circuit() !== 'closed') {
        fellBack(null);
        return local.take(key, shape, cost);
      }
      return remote.take(key, shape, cost).catch((error: unknown) => {
        fellBack(error);
        return local.take(key, shape, cost);
      });
    },
  };
}

/** Cells that are read and written locally while Redis is away; those written so stay known to this process. */
export function cellsWithFallback(remote: Cells, local: MemoryCells, options: FallbackOptions): Cells {
  const fellBack = teller('cells', options);

  async function either<Result>(ask: () => Promise<Result>, otherwise: () => Promise<Result>): Promise<Result> {
    try {
      return await ask();
    } catch (error) {
      fellBack(error);
      return otherwise();
    }
  }
  /** What was written while Redis was away. */
  const kept = async (key: string): Promise<string | null> => (local.size === 0 ? null : local.get(key));

  return {
    get: (key) =>
      either(
        async () => (await remote.get(key)) ?? (await kept(key)),
        () => local.get(key),
      ),
    set: (key, value, ttlMs) =>
      either(
        async () => {
          await remote.set(key, value, ttlMs);
          if (local.size > 0) await local.delete(key);
        },
        () => local.set(key, value, ttlMs),
      ),
    setIfAbsent: (key, value, ttlMs) =>
      either(
        async () => (await kept(key)) === null && remote.setIfAbsent(key, value, ttlMs),
        () => local.setIfAbsent(key, value, ttlMs),
      ),
    take: (key) =>
      either(
        async () => {
          const value = await remote.take(key);
          return local.size === 0 ? value : (value ?? (await local.take(key)));
        },
        () => local.take(key),
      ),
    delete: (key) =>
      either(
        async () => {
          if (local.size > 0) await local.delete(key);
          await remote.delete(key);
        },
        () => local.delete(key),
      ),
  };
}

/** Presence of all processes, or of this one while Redis is away. */
export function presenceWithFallback(
  remote: PresenceBoard,
  local: PresenceBoard,
  options: FallbackOptions,
): PresenceBoard {
  const fellBack = teller('presence', options);
  return {
    async join(key, id, most) {
      const here = await local.join(key, id, most);
      try {
        return await remote.join(key, id, most);
      } catch (error) {
        fellBack(error);
        return here;
      }
    },
    async leave(key, id) {
      await local.leave(key, id);
      await remote.leave(key, id).catch(fellBack);
    },
    async list(key) {
      try {
        return await remote.list(key);
      } catch (error) {
        fellBack(error);
        return local.list(key);
      }
    },
  };
}

/** Hears each local answer and why; throws what is the caller's mistake. */
function teller(part: BusPart, { onFellBack, onError }: FallbackOptions): (error: unknown) => void {
  let toldAt = Number.NEGATIVE_INFINITY;
  return (error) => {
    if (error instanceof RangeError) throw error;
    if (error !== null && !hasCode(error, 'bus-unavailable')) onError(error);
    const at = performance.now();
    if (at - toldAt < TOLD_MS) return;
    toldAt = at;
    onFellBack(part);
  };
}
