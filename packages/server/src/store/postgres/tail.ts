/**
 * The newest records of the log as this process appended them, for the worker in the same process: what it would read
 * back from PostgreSQL a moment later, parsed already. Pure memory.
 *
 * Guarantees: a read is answered from here only when every record after the position is here without a gap, up to where
 * the answer ends; records of the same partition that others appended make a gap. What is here was committed before.
 * Records carry the epoch of the PostgreSQL process that committed them; the commit of their work checks that it is still
 * the same (`work-columns.ts`), so that nothing is worked off that a failover lost.
 * Bounds: {@link MOST_RECORDS} and {@link MOST_BYTES} for each partition; a partition that exceeds them, because its worker
 * is behind or in another process, is forgotten until it is read again.
 */
import type { LogRecord } from '../ports/log.ts';

/** Of a partition: half a second of the most that one process takes in. */
const MOST_RECORDS = 1000;
/** Characters of bodies of a partition. */
const MOST_BYTES = 1_048_576;

interface Kept {
  readonly records: Map<number, LogRecord>;
  bytes: number;
  /** Everything up to it has been let go of. */
  floor: number;
}

/** See above. */
export interface Tail {
  /** Committed records; those of partitions that nobody reads here are not kept. */
  add(epoch: string, records: readonly LogRecord[]): void;
  /** What the store says its epoch is; records of another one are forgotten. */
  trust(epoch: string): void;
  /** The records after `position`, or null when the store has to be asked. Bounds as in `Log.read`. */
  read(partition: number, position: number, limit: number, maxBytes: number): LogRecord[] | null;
}

function empty(floor: number): Kept {
  return { records: new Map(), bytes: 0, floor };
}

/** An empty tail. */
export function createTail(): Tail {
  const partitions = new Map<number, Kept>();
  let known = '';

  const trust = (epoch: string): void => {
    if (epoch === known) return;
    known = epoch;
    // Who reads here still does; offsets may begin anew.
    for (const partition of partitions.keys()) partitions.set(partition, empty(0));
  };
  const keep = (record: LogRecord): void => {
    const kept = partitions.get(record.partition);
    if (kept === undefined || record.offset <= kept.floor) return;
    kept.records.set(record.offset, record);
    kept.bytes += record.body.length;
    if (kept.records.size > MOST_RECORDS || kept.bytes > MOST_BYTES) partitions.delete(record.partition);
  };
  return {
    trust,
    add: (epoch, records) => {
      trust(epoch);
      if (epoch !== '') for (const record of records) keep(record);
    },
    read: (partition, position, limit, maxBytes) => {
      const kept = partitions.get(partition);
      if (kept === undefined) {
        partitions.set(partition, empty(position));
        return null;
      }
      letGo(kept, position);
      const records = following(kept, position, limit, maxBytes);
      return records.length === 0 ? null : records;
    },
  };
}

function letGo(kept: Kept, position: number): void {
  // Map keeps the order of arrival, which is nearly that of offsets; the worker is never far behind.
  for (const [offset, record] of kept.records) {
    if (offset > position) break;
    kept.records.delete(offset);
    kept.bytes -= record.body.length;
  }
  kept.floor = Math.max(kept.floor, position);
}

function following({ records }: Kept, position: number, limit: number, maxBytes: number): LogRecord[] {
  const found: LogRecord[] = [];
  let bytes = 0;
  for (let offset = position + 1; found.length < limit && bytes < maxBytes; offset += 1) {
    const record = records.get(offset);
    if (record === undefined) break;
    found.push(record);
    bytes += record.body.length;
  }
  return found;
}
