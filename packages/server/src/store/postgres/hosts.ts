/**
 * Self-reported hosts in PostgreSQL: rows of `devices` without a key.
 * A host is forgotten in two steps, so that no reading of it is orphaned: marked as leaving it is not found by ingest any
 * more (a frame takes it back); what ingest took before that has become readings by the time it is deleted, and these keep it.
 */
import type { Database, Transaction } from '../ports/database.ts';
import type { Enrolment, HostStore } from '../ports/registry.ts';

/** Key of the advisory lock that serialises enrolments, so that the bound holds. */
const ENROL_LOCK = 7_201_003;
/** PostgreSQL ends the session of a holder that is silent for so long: a process that is frozen must not keep all others waiting. */
const LOCK_IDLE_MS = 2000;
const LOCK = `SELECT pg_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '${LOCK_IDLE_MS}', true)`;
/** Numbers whose rollups are deleted at once. */
const NUMBERS_AT_ONCE = 50;

const TAKE_BACK = `
  UPDATE devices SET leaving_at = NULL, updated_at = greatest(updated_at, $2::bigint)
  WHERE id = ANY($1::text[]) AND leaving_at IS NOT NULL RETURNING id`;

// Numbers of the sequence are drawn only for rows that are made.
const ENROL = `
  INSERT INTO devices (id, profile, created_at, updated_at)
  SELECT a.id, 'host', $2::bigint, $2::bigint
  FROM unnest($1::text[]) AS a (id) WHERE NOT EXISTS (SELECT FROM devices d WHERE d.id = a.id)
  ORDER BY a.id
  LIMIT greatest(0, $3::bigint - (SELECT count(*) FROM devices WHERE public_key IS NULL))
  ON CONFLICT (id) DO NOTHING RETURNING id`;

async function enrol(sql: Transaction, ids: readonly string[], at: number, most: number): Promise<Enrolment> {
  // A statement of its own: the ones after it see what the enrolment before committed.
  await sql.execute(LOCK, [ENROL_LOCK]);
  // First: it waits for a deletion in progress, after which the id has no row and gets a new one.
  const taken = await sql.query<{ id: string }>(TAKE_BACK, [ids, at], 'hosts_take_back');
  const made = await sql.query<{ id: string }>(ENROL, [ids, at, most], 'hosts_enrol');
  const [rows] = await sql.query<{ n: number }>('SELECT count(*) AS n FROM devices WHERE id = ANY($1::text[])', [ids]);
  return { made: [...taken, ...made].map(({ id }) => id), room: (rows?.n ?? 0) === ids.length };
}

/** Of no operator's concern. */
const LEFT_ALONE = `d.public_key IS NULL AND d.standing = 'active' AND d.zone_id IS NULL AND d.latitude IS NULL AND d.owner_id IS NULL`;
// OFFSET 0 keeps the planner from joining with all readings there are: by the index, row for row, the first hit is enough.
const HAS_READINGS = 'EXISTS (SELECT FROM readings r WHERE r.device = d.number OFFSET 0)';

const MARK_IDLE = `
  WITH portion AS MATERIALIZED (
    SELECT number FROM devices WHERE public_key IS NULL AND number > $1 ORDER BY number LIMIT $2
  ), marked AS (
    UPDATE devices d SET leaving_at = $4::bigint FROM portion p
    WHERE d.number = p.number AND d.leaving_at IS NULL AND d.updated_at < $3 AND ${LEFT_ALONE} AND NOT ${HAS_READINGS}
  )
  SELECT count(*) AS n, max(number) AS last FROM portion`;

const FORGET = `
  WITH leaving AS MATERIALIZED (
    SELECT d.number, ${LEFT_ALONE} AND NOT ${HAS_READINGS} AS idle FROM devices d
    WHERE d.leaving_at < $1 ORDER BY d.leaving_at LIMIT $2 FOR UPDATE SKIP LOCKED
  ), stays AS (
    UPDATE devices d SET leaving_at = NULL FROM leaving l WHERE d.number = l.number AND NOT l.idle
  ), gone AS (
    DELETE FROM devices d USING leaving l WHERE d.number = l.number AND l.idle AND d.public_key IS NULL RETURNING d.number
  ), noted AS (
    INSERT INTO forgotten_numbers (number, forgotten_at) SELECT number, $3::bigint FROM gone
  )
  SELECT count(*) AS n FROM leaving`;

const rollupsOf = (table: string): string => `
  DELETE FROM ${table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ${table} WHERE scope = 'device' AND number = ANY($1::integer[]) LIMIT $2))`;

async function purge(sql: Transaction, before: number, most: number): Promise<number> {
  const rows = await sql.query<{ number: number }>(
    'SELECT number FROM forgotten_numbers WHERE forgotten_at < $1 ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED',
    [before, NUMBERS_AT_ONCE],
  );
  const numbers = rows.map(({ number }) => number);
  if (numbers.length === 0) return 0;
  const sums = await sql.execute(rollupsOf('rollups'), [numbers, most]);
  const days = sums === most ? 0 : await sql.execute(rollupsOf('rollup_days'), [numbers, most - sums]);
  if (sums + days === most) return most;
  await sql.execute('DELETE FROM zone_devices WHERE device = ANY($1::integer[])', [numbers]);
  return (
    sums + days + (await sql.execute('DELETE FROM forgotten_numbers WHERE number = ANY($1::integer[])', [numbers]))
  );
}

/** Builds the {@link HostStore}. */
export function createHostStore(db: Database): HostStore {
  return {
    enrol: (ids, createdAt, most) => db.transaction((sql) => enrol(sql, ids, createdAt, most)),
    markIdle: async (after, portion, before, at) => {
      const [looked] = await db.query<{ n: number; last: number | null }>(MARK_IDLE, [after, portion, before, at]);
      return looked?.n === portion ? looked.last : null;
    },
    forget: async (left, most, at) => (await db.query<{ n: number }>(FORGET, [left, most, at]))[0]?.n ?? 0,
    purge: (before, most) => db.transaction((sql) => purge(sql, before, most)),
  };
}
