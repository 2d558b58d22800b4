/**
 * Partitions that share a cycle go at one pace while they catch up: where the read of one ended at a limit, no other goes
 * beyond the arrival that it got to. So what stations of different partitions told reaches their network in the order of
 * arrival also when there is a backlog, as it does live. (Workers of other processes have a pace of their own.)
 * Pure. Never answers nothing for something: the partition that is furthest behind keeps all of its records.
 */
import type { LogRecord } from '../store/ports/log.ts';

/** The records to work off now, of those that a read of at most `limit` records and `maxBytes` a partition gave. */
export function atOnePace(records: readonly LogRecord[], limit: number, maxBytes: number): readonly LogRecord[] {
  const sizes = new Map<number, { count: number; bytes: number; last: number }>();
  for (const { partition, body, receivedAt } of records) {
    const size = sizes.get(partition) ?? { count: 0, bytes: 0, last: receivedAt };
    sizes.set(partition, { count: size.count + 1, bytes: size.bytes + body.length, last: receivedAt });
  }
  let slowest: number | null = null;
  let horizon = Infinity;
  for (const [partition, { count, bytes, last }] of sizes) {
    if ((count < limit && bytes < maxBytes) || last >= horizon) continue;
    slowest = partition;
    horizon = last;
  }
  if (slowest === null || sizes.size === 1) return records;
  const ended = new Set<number>();
  return records.filter(({ partition, receivedAt }) => {
    if (partition === slowest) return true;
    if (receivedAt > horizon) ended.add(partition);
    return !ended.has(partition);
  });
}
