/**
 * A worker's cycle as one statement: positions (fenced), readings, detector states and findings for the log, all or
 * nothing. Each part joins `ok`, which is true only when every position could be locked where it was expected.
 */
import type { Database } from '../ports/database.ts';
import { takeHeads } from './log-heads.ts';
import type { PlainWork } from '../ports/readings.ts';
import { batchColumns, keyedColumns, LOCK_POSITIONS, stateColumns } from './work-columns.ts';

const COMMIT = `
WITH ${LOCK_POSITIONS}, ok AS MATERIALIZED (
  SELECT count(*) = cardinality($1::smallint[]) AS ok FROM mine
), moved AS (
  UPDATE log_positions p SET position = m.target FROM mine m, ok WHERE ok.ok AND p.partition = m.partition
), stored AS (
  INSERT INTO readings (received_at, at, device, zone, value, envelope_id, fields)
  SELECT r.received_at, r.at, r.device, r.zone, r.value, r.envelope_id, r.fields::jsonb
  FROM unnest($6::bigint[], $7::bigint[], $8::integer[], $9::integer[], $10::double precision[], $11::text[], $12::text[])
    AS r (received_at, at, device, zone, value, envelope_id, fields), ok WHERE ok.ok
), saved AS (
  INSERT INTO detector_states (partition, detector, key, state, updated_at)
  SELECT s.partition, s.detector, s.key, s.state, $13 FROM unnest($14::smallint[], $15::text[], $16::text[], $17::text[])
    AS s (partition, detector, key, state), ok WHERE ok.ok
  ON CONFLICT (partition, detector, key) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at
), forgotten AS (
  DELETE FROM detector_states s USING unnest($18::smallint[], $19::text[], $20::text[]) AS t (partition, detector, key), ok
  WHERE ok.ok AND s.partition = t.partition AND s.detector = t.detector AND s.key = t.key
), input AS (
  SELECT t.*, row_number() OVER (PARTITION BY t.partition ORDER BY t.n) AS rank
  FROM unnest($21::smallint[], $22::text[], $23::bigint[], $24::text[], $25::text[], $26::text[])
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
  const { kept, gone } = stateColumns(work.states);
  const values = [
    ...batchColumns(batches),
    rows.map((row) => row.receivedAt),
    rows.map((row) => row.at),
    rows.map((row) => row.device),
    rows.map((row) => row.zone),
    rows.map((row) => row.value),
    rows.map((row) => row.envelopeId),
    rows.map((row) => (row.fields === null ? null : JSON.stringify(row.fields))),
    now,
    ...kept,
    ...gone,
    ...keyedColumns(appended),
  ];
  const [row] = await db.query<{ ok: boolean }>(COMMIT, values, 'plain-work');
  return row?.ok === true;
}
