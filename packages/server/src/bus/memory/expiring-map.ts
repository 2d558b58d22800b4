/**
 * A map whose entries end by time and whose size is bounded.
 *
 * Guarantees: an expired entry is never answered. Every write looks at a few old entries and drops the expired ones, so
 * the map shrinks with traffic; `sweep` does the same in quiet times. Above `most` entries the longest unwritten goes.
 */

/** The part of a Map that the bus needs, with ends of life. */
export interface ExpiringMap<Value> {
  readonly size: number;
  get(key: string, now: number): Value | undefined;
  /** Keeps `value` until `expiresAt` (exclusive). */
  set(key: string, value: Value, expiresAt: number, now: number): void;
  delete(key: string): boolean;
  /** Looks at up to `steps` entries where the last look ended and drops the expired ones. */
  sweep(steps: number, now: number): void;
}

interface Entry<Value> {
  readonly value: Value;
  readonly expiresAt: number;
}

/** Entries looked at on each write: more than one, so that looking outruns growing. */
const STEPS_PER_WRITE = 3;

/** Creates an {@link ExpiringMap} of at most `most` entries. */
export function createExpiringMap<Value>(most: number): ExpiringMap<Value> {
  const entries = new Map<string, Entry<Value>>();
  let cursor: MapIterator<[string, Entry<Value>]> | null = null;

  function sweep(steps: number, now: number): void {
    for (let step = 0; step < steps && entries.size > 0; step++) {
      cursor ??= entries.entries();
      const next = cursor.next();
      if (next.done) cursor = null;
      else if (next.value[1].expiresAt <= now) entries.delete(next.value[0]);
    }
  }

  return {
    get size(): number {
      return entries.size;
    },
    get(key, now) {
      const entry = entries.get(key);
      return entry !== undefined && entry.expiresAt > now ? entry.value : undefined;
    },
    set(key, value, expiresAt, now) {
      // Deleted first, so that the order of the map is the order of the last writes.
      entries.delete(key);
      entries.set(key, { value, expiresAt });
      sweep(STEPS_PER_WRITE, now);
      while (entries.size > most) {
        const oldest = entries.keys().next();
        if (oldest.done) break;
        entries.delete(oldest.value);
      }
    },
    delete: (key) => entries.delete(key),
    sweep,
  };
}
