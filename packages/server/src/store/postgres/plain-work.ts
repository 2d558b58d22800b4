/**
 * A worker's cycle as one statement: positions (fenced), readings, detector states and findings for the log, all or
 * nothing. Each part joins `ok`, which is true only when every position could be locked where it was expected.
 */
import type { Database } from '../ports/database.ts';
import { takeHeads } from './log-heads.ts';
import type { PlainWork, StateRow } from '../ports/readings.ts';

const COMMIT = `
WITH mine AS (
  SELECT p.partition, b.target FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS b (partition, fence, position, target)
  JOIN log_positions p ON p.partition = b.partition AND p.fence = b.fence AND p.position = b.position
  ORDER BY p.partition FOR UPDATE OF p
), ok AS MATERIALIZED (
  SELECT count(*) = cardinality($1::smallint[]) AS ok FROM mine
), moved AS (
  UPDATE log_positions p SET position = m.target FROM mine m, ok WHERE ok.ok AND p.partition = m.partition
), stored AS (
  INSERT INTO readings (received_at, at, device, zone, value, envelope_id, fields)
  SELECT r.received_at, r.at, r.device, r.zone, r.value, r.envelope_id, r.fields::jsonb
  FROM unnest($5::bigint[], $6::bigint[], $7::integer[], $8::integer[], $9::double precision[], $10::text[], $11::text[])
    AS r (received_at, at, device, zone, value, envelope_id, fields), ok WHERE ok.ok
), saved AS (
  INSERT INTO detector_states (partition, detector, key, state, updated_at)
  SELECT s.partition, s.detector, s.key, s.state, $12 FROM unnest($13::smallint[], $14::text[], $15::text[], $16::text[])
    AS s (partition, detector, key, state), ok WHERE ok.ok
  ON CONFLICT (partition, detector, key) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at
), forgotten AS (
  DELETE FROM detector_states s USING unnest($17::smallint[], $18::text[], $19::text[]) AS t (partition, detector, key), ok
  WHERE ok.ok AND s.partition = t.partition AND s.detector = t.detector AND s.key = t.key
), input AS (
  SELECT t.*, row_number() OVER (PARTITION BY t.partition ORDER BY t.n) AS rank
  FROM unnest($20::smallint[], $21::text[], $22::bigint[], $23::text[], $24::text[], $25::text[])
    WITH ORDINALITY AS t (partition, kind, received_at, key, traceparent, body, n), ok WHERE ok.ok
), ${takeHeads('input')}, appended AS (
  INSERT INTO log_records (partition, "offset", received_at, kind, key, traceparent, context, body)
  SELECT i.partition, h.base + i.rank, i.received_at, i.kind, i.key, nullif(i.traceparent, ''), '', i.body
  FROM input i JOIN heads h USING (partition)
)
SELECT ok FROM ok`;

/** Writes it; false when nothing was written. */
export async function commitPlain(db: Database, work: PlainWork): Promise<boolean> {
  const { batches, rows, appended, now } = work;
  const kept = work.states.filter((row) => row.state !== null);
  const gone = work.states.filter((row) => row.state === null);
  const keys = (states: readonly StateRow[]): unknown[] => [
    states.map((row) => row.partition),
    states.map((row) => row.detector),
    states.map((row) => row.key),
  ];
  const values = [
    batches.map(({ lease }) => lease.partition),
    batches.map(({ lease }) => lease.fence),
    batches.map(({ lease }) => lease.position),
    batches.map(({ position }) => position),
    rows.map((row) => row.receivedAt),
    rows.map((row) => row.at),
    rows.map((row) => row.device),
    rows.map((row) => row.zone),
    rows.map((row) => row.value),
    rows.map((row) => row.envelopeId),
    rows.map((row) => (row.fields === null ? null : JSON.stringify(row.fields))),
    now,
    ...keys(kept),
    kept.map((row) => row.state),
    ...keys(gone),
    appended.map((record) => record.partition),
    appended.map((record) => record.kind),
    appended.map((record) => record.receivedAt),
    appended.map((record) => record.key),
    appended.map((record) => record.traceparent ?? ''),
    appended.map((record) => record.body),
  ];
  const [row] = await db.query<{ ok: boolean }>(COMMIT, values, 'plain-work');
  return row?.ok === true;
}
