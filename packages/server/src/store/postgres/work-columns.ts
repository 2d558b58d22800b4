/**
 * What the two ways of committing a worker's cycle share (one statement in `plain-work.ts`; steps of a transaction in
 * `log.ts` and `readings.ts`): the lock that the fence rests on, and the columns that go to `unnest`.
 */
import type { BatchCommit, KeyedAppend } from '../ports/log.ts';
import type { StateRow } from '../ports/readings.ts';

/**
 * The life of the PostgreSQL process that answers, as text; empty where a crash may lose what it has committed. Whoever was
 * told the same twice knows that nothing committed in between is gone: a failover or a restart changes it.
 */
export const EPOCH: string = `CASE WHEN current_setting('synchronous_commit') = 'off' THEN ''
  ELSE extract(epoch FROM pg_postmaster_start_time())::text END`;

/**
 * The common table expression `mine` (partition, target) over $1 to $5, {@link batchColumns}: positions that stand where
 * they were expected, under the fence and in the epoch that were expected, locked in the order of partitions.
 */
export const LOCK_POSITIONS: string = `mine AS (
  SELECT p.partition, b.target
  FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) AS b (partition, fence, position, target, epoch)
  JOIN log_positions p ON p.partition = b.partition AND p.fence = b.fence AND p.position = b.position
  WHERE b.epoch = '' OR b.epoch = (SELECT ${EPOCH})
  ORDER BY p.partition FOR UPDATE OF p
)`;

/** Partition, fence, position, target, epoch or ''. */
export function batchColumns(batches: readonly BatchCommit[]): unknown[] {
  return [
    batches.map(({ lease }) => lease.partition),
    batches.map(({ lease }) => lease.fence),
    batches.map(({ lease }) => lease.position),
    batches.map(({ position }) => position),
    batches.map(({ epoch = '' }) => epoch),
  ];
}

/** Partition, kind, arrival, key, traceparent or '', body. */
export function keyedColumns(records: readonly KeyedAppend[]): unknown[] {
  return [
    records.map((record) => record.partition),
    records.map((record) => record.kind),
    records.map((record) => record.receivedAt),
    records.map((record) => record.key),
    records.map((record) => record.traceparent ?? ''),
    records.map((record) => record.body),
  ];
}

/** Of states to keep: partition, detector, key, state; of those to forget: partition, detector, key. */
export function stateColumns(states: readonly StateRow[]): {
  kept: unknown[];
  gone: unknown[];
  counts: [number, number];
} {
  const kept = states.filter((row) => row.state !== null);
  const gone = states.filter((row) => row.state === null);
  const names = (rows: readonly StateRow[]): unknown[] => [
    rows.map((row) => row.partition),
    rows.map((row) => row.detector),
    rows.map((row) => row.key),
  ];
  return {
    kept: [...names(kept), kept.map((row) => row.state)],
    gone: names(gone),
    counts: [kept.length, gone.length],
  };
}
