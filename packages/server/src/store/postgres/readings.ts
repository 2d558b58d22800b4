/** What workers write (port: `store/ports/readings.ts`): readings by COPY, detector states, records that failed. */
import type { Database, Transaction } from '../ports/database.ts';
import type { FailedRecord, ReadingRow, StateRow, WorkStore } from '../ports/readings.ts';
import { commitPlain } from './plain-work.ts';
import { stateColumns } from './work-columns.ts';

const COPY = 'COPY readings (received_at, at, device, zone, value, envelope_id, fields) FROM STDIN';
/** Rows joined into one chunk for the socket: about 64 KiB. */
const ROWS_PER_CHUNK = 1000;
const DAY_MS = 86_400_000;

const SAVE = `
INSERT INTO detector_states (partition, detector, key, state, updated_at)
SELECT partition, detector, key, state, $1 FROM unnest($2::smallint[], $3::text[], $4::text[], $5::text[]) AS t (partition, detector, key, state)
ON CONFLICT (partition, detector, key) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at`;

const FORGET = `
DELETE FROM detector_states s USING unnest($1::smallint[], $2::text[], $3::text[]) AS t (partition, detector, key)
WHERE s.partition = t.partition AND s.detector = t.detector AND s.key = t.key`;

const KEEP_FAILED = `
INSERT INTO log_failures (partition, "offset", kind, key, body, reason, failed_at)
SELECT partition, "offset", kind, key, body, reason, $1
FROM unnest($2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
  AS t (partition, "offset", kind, key, body, reason)
ON CONFLICT DO NOTHING`;

/** The work store over `db`. */
export function createWorkStore(db: Database): WorkStore {
  return {
    insertReadings: (sql, rows) => (rows.length === 0 ? Promise.resolve() : sql.copyIn(COPY, chunks(rows))),
    loadStates: (partition) =>
      db.query<StateRow>('SELECT partition, detector, key, state FROM detector_states WHERE partition = $1', [
        partition,
      ]),
    saveStates,
    commitPlain: (work) => commitPlain(db, work),
    mend: async (error, rows) => {
      if (!lacksDay(error)) return;
      const days = new Set(rows.map(({ receivedAt }) => Math.floor(receivedAt / DAY_MS) * DAY_MS));
      for (const day of days) await db.query('SELECT ensure_reading_partitions($1, 0)', [day]);
    },
    keepFailed,
  };
}

/** True for "no partition of relation readings found for row": a check_violation of the table, which has no other check. */
function lacksDay(error: unknown): boolean {
  const { code, table } = (error ?? {}) as { code?: unknown; table?: unknown };
  return code === '23514' && table === 'readings';
}

/** Rows in COPY's text format (PostgreSQL documentation, COPY, "Text Format"). */
function* chunks(rows: readonly ReadingRow[]): Generator<string> {
  let chunk = '';
  let count = 0;
  for (const row of rows) {
    const zone = row.zone ?? '\\N';
    const value = row.value ?? '\\N';
    const fields = row.fields === null ? '\\N' : JSON.stringify(row.fields).replaceAll('\\', '\\\\');
    chunk += `${row.receivedAt}\t${row.at}\t${row.device}\t${zone}\t${value}\t${row.envelopeId}\t${fields}\n`;
    count += 1;
    if (count % ROWS_PER_CHUNK === 0) {
      yield chunk;
      chunk = '';
    }
  }
  if (chunk !== '') yield chunk;
}

async function saveStates(sql: Transaction, states: readonly StateRow[], now: number): Promise<void> {
  const { kept, gone, counts } = stateColumns(states);
  if (counts[0] > 0) await sql.execute(SAVE, [now, ...kept], 'states-save');
  if (counts[1] > 0) await sql.execute(FORGET, gone);
}

async function keepFailed(sql: Transaction, records: readonly FailedRecord[], now: number): Promise<void> {
  if (records.length === 0) return;
  await sql.execute(KEEP_FAILED, [
    now,
    records.map((r) => r.partition),
    records.map((r) => r.offset),
    records.map((r) => r.kind),
    records.map((r) => r.key),
    records.map((r) => r.body),
    records.map((r) => r.reason),
  ]);
}
