/**
 * Partitions that share a cycle go at one pace while they catch up: where the read of one ended at a limit, no other goes
 * beyond the arrival that it got to. So what stations of different partitions told reaches their network in the order of
 * arrival also when there is a backlog, as it does live. (Workers of other processes have a pace of their own.)
 *
 * One partition that cannot keep up (a device that floods it) must not hold the alarms of all others up: what arrived just
 * now is never held, and a partition that was held for long goes on alone until it has caught up.
 * Pure. Never answers nothing for something: the partition that is furthest behind keeps all of its records.
 */
import type { LogRecord } from '../store/ports/log.ts';

/** What arrived no longer ago is not held, ms: no backlog, and no network minds so little. */
const FRESH_MS = 2000;
/** How long a partition waits for slower ones, ms. Partitions that share out a backlog evenly are seconds apart then. */
const MOST_HELD_MS = 10_000;

/** The bounds of the read, and the moment. */
export interface Pace {
  /** Records and characters of bodies that the read gave a partition at most. */
  readonly limit: number;
  readonly maxBytes: number;
  /** Unix ms. */
  readonly now: number;
  /** Since when partitions have been held that have not caught up since, Unix ms. */
  readonly heldSince: ReadonlyMap<number, number>;
}

/** See {@link atOnePace}. */
export interface Paced {
  /** The records to work off now. */
  readonly records: readonly LogRecord[];
  /** For the next cycle. */
  readonly heldSince: ReadonlyMap<number, number>;
}

interface Size {
  readonly count: number;
  readonly bytes: number;
  readonly last: number;
}

/** What to work off now of the records that a read gave. */
export function atOnePace(records: readonly LogRecord[], pace: Pace): Paced {
  const sizes = new Map<number, Size>();
  for (const { partition, body, receivedAt } of records) {
    const { count, bytes } = sizes.get(partition) ?? { count: 0, bytes: 0 };
    sizes.set(partition, { count: count + 1, bytes: bytes + body.length, last: receivedAt });
  }
  const cut = [...sizes].filter(([, { count, bytes }]) => count >= pace.limit || bytes >= pace.maxBytes);
  const [first] = cut;
  if (first === undefined) return { records, heldSince: new Map() };
  const [slowest, { last: horizon }] = cut.reduce(
    (least, other) => (other[1].last < least[1].last ? other : least),
    first,
  );
  const free = new Set([slowest]);
  for (const [partition, since] of pace.heldSince) {
    // Before it was held: the clock was set back.
    const waited = pace.now - since;
    if (waited > MOST_HELD_MS || waited < 0) free.add(partition);
  }
  const held = new Set<number>();
  const kept = records.filter(({ partition, receivedAt }) => {
    if (free.has(partition)) return true;
    if (receivedAt > horizon && receivedAt < pace.now - FRESH_MS) held.add(partition);
    return !held.has(partition);
  });
  const behind = new Set([...cut.map(([partition]) => partition), ...held]);
  const heldSince = [...behind].flatMap((partition): [number, number][] => {
    const since = pace.heldSince.get(partition) ?? (held.has(partition) ? pace.now : undefined);
    return since === undefined ? [] : [[partition, since]];
  });
  return { records: kept, heldSince: new Map(heldSince) };
}
