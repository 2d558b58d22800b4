/** Self-reported hosts in PostgreSQL: rows of `devices` without a key. */
import type { Database, Transaction } from '../ports/database.ts';
import type { Enrolment, HostStore } from '../ports/registry.ts';

/** Key of the advisory lock that serialises enrolments, so that the bound holds. */
const ENROL_LOCK = 7_201_003;

// Numbers of the sequence are drawn only for rows that are made. In the order of ids, as all who write many devices do.
const ENROL = `
  INSERT INTO devices (id, profile, created_at, updated_at)
  SELECT a.id, 'host', $2::bigint, $2::bigint
  FROM unnest($1::text[]) AS a (id) WHERE NOT EXISTS (SELECT FROM devices d WHERE d.id = a.id)
  ORDER BY a.id
  LIMIT greatest(0, $3::bigint - (SELECT count(*) FROM devices WHERE public_key IS NULL))
  ON CONFLICT (id) DO NOTHING RETURNING id`;

const TAKE_BACK = `
  UPDATE devices SET leaving_at = NULL, updated_at = greatest(updated_at, $2::bigint)
  WHERE id = ANY($1::text[]) AND leaving_at IS NOT NULL RETURNING id`;

async function enrol(sql: Transaction, ids: readonly string[], at: number, most: number): Promise<Enrolment> {
  // A statement of its own: the ones after it see what the enrolment before committed.
  await sql.execute('SELECT pg_advisory_xact_lock($1)', [ENROL_LOCK]);
  const made = await sql.query<{ id: string }>(ENROL, [ids, at, most], 'hosts_enrol');
  const taken = await sql.query<{ id: string }>(TAKE_BACK, [ids, at], 'hosts_take_back');
  const [rows] = await sql.query<{ n: number }>('SELECT count(*) AS n FROM devices WHERE id = ANY($1::text[])', [ids]);
  return { made: [...made, ...taken].map(({ id }) => id), room: (rows?.n ?? 0) === ids.length };
}

/** Builds the {@link HostStore}. */
export function createHostStore(db: Database): HostStore {
  return {
    enrol: (ids, createdAt, most) => db.transaction((sql) => enrol(sql, ids, createdAt, most)),
  };
}
