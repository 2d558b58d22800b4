/** Zones in PostgreSQL (table `zones`). */
import type { Database, Transaction } from '../ports/database.ts';
import type { ZoneFacts, ZoneRow, ZoneStore } from '../ports/registry.ts';

const COLUMNS = `id, number, name, created_at AS "createdAt"`;
/** Ids of the original client's zones; more digits would not fit its integers. */
const ORIGINAL = `'^z[1-9][0-9]{0,14}$'`;
/** Key of the advisory lock that serialises the original client's zones. */
const ORIGINAL_LOCK = 7_201_001;

/** True when `error` is PostgreSQL's foreign_key_violation. */
export function isForeignKeyViolation(error: unknown): boolean {
  return typeof error === 'object' && error !== null && (error as { code?: unknown }).code === '23503';
}

const INSERT = `
  INSERT INTO zones (id, name, created_at)
  SELECT $1::text, $2, $3 WHERE NOT EXISTS (SELECT FROM zones WHERE id = $1::text)
  ON CONFLICT (id) DO NOTHING RETURNING ${COLUMNS}`;

// The mean of places is the mean of their vectors: it does not break at the antimeridian. Opposite places cancel out.
// Exercise devices are a group of their own, which is looked at only where there is no other.
const FACTS = `
  SELECT z.id, z.number, z.name,
    CASE WHEN m.x * m.x + m.y * m.y + m.z * m.z > 1e-12 THEN degrees(atan2(m.z, sqrt(m.x * m.x + m.y * m.y))) END AS latitude,
    CASE WHEN m.x * m.x + m.y * m.y + m.z * m.z > 1e-12 THEN degrees(atan2(m.y, m.x)) END AS longitude
  FROM zones z
  LEFT JOIN LATERAL (
    SELECT avg(cos(radians(d.latitude)) * cos(radians(d.longitude))) AS x,
           avg(cos(radians(d.latitude)) * sin(radians(d.longitude))) AS y,
           avg(sin(radians(d.latitude))) AS z
    FROM devices d WHERE d.zone_id = z.id AND d.standing <> 'revoked' AND d.latitude IS NOT NULL
    GROUP BY d.exercise ORDER BY d.exercise LIMIT 1
  ) m ON true
  WHERE z.id = $1`;

// Draws numbers until one is free.
const NEXT_ORIGINAL = `
  WITH RECURSIVE draw (n) AS (
    SELECT nextval('original_zone_numbers')
    UNION ALL
    SELECT nextval('original_zone_numbers') FROM draw WHERE EXISTS (SELECT FROM zones WHERE id = 'z' || draw.n)
  )
  SELECT max(n) AS n FROM draw`;

interface FactsRow extends Omit<ZoneFacts, 'place'> {
  readonly latitude: number | null;
  readonly longitude: number | null;
}

function toFacts(row: FactsRow): ZoneFacts {
  const { id, number, name, latitude, longitude } = row;
  return { id, number, name, place: latitude === null || longitude === null ? null : { latitude, longitude } };
}

async function findOrInsertOriginal(
  sql: Transaction,
  name: string,
  createdAt: number,
): Promise<{ readonly row: ZoneRow; readonly created: boolean }> {
  await sql.execute('SELECT pg_advisory_xact_lock($1)', [ORIGINAL_LOCK]);
  const found = await sql.query<ZoneRow>(
    `SELECT ${COLUMNS} FROM zones WHERE name = $1 AND id ~ ${ORIGINAL} ORDER BY number LIMIT 1`,
    [name],
  );
  if (found[0] !== undefined) return { row: found[0], created: false };
  for (;;) {
    const drawn = (await sql.query<{ n: number }>(NEXT_ORIGINAL))[0]?.n;
    const made = await sql.query<ZoneRow>(INSERT, [`z${drawn}`, name, createdAt]);
    // Nothing: a native zone took the id in between; the sequence has moved on, so the next draw is another one.
    if (made[0] !== undefined) return { row: made[0], created: true };
  }
}

/** Builds the {@link ZoneStore}. */
export function createZoneStore(db: Database): ZoneStore {
  return {
    insert: async (zone) => (await db.query<ZoneRow>(INSERT, [zone.id, zone.name, zone.createdAt]))[0] ?? null,
    find: async (id) => (await db.query<ZoneRow>(`SELECT ${COLUMNS} FROM zones WHERE id = $1`, [id]))[0] ?? null,
    list: (query) =>
      db.query<ZoneRow>(
        `SELECT ${COLUMNS} FROM zones WHERE $1::integer IS NULL OR number < $1 ORDER BY number DESC LIMIT $2`,
        [query.before, query.limit],
      ),
    rename: async (id, name) =>
      (await db.query<ZoneRow>(`UPDATE zones SET name = $2 WHERE id = $1 RETURNING ${COLUMNS}`, [id, name]))[0] ?? null,
    async remove(id) {
      try {
        return await db.transaction(async (sql) => {
          await sql.execute(`UPDATE devices SET zone_id = NULL WHERE zone_id = $1 AND standing = 'revoked'`, [id]);
          return (await sql.execute('DELETE FROM zones WHERE id = $1', [id])) === 1 ? 'removed' : 'unknown';
        });
      } catch (error) {
        if (isForeignKeyViolation(error)) return 'in-use';
        throw error;
      }
    },
    facts: async (id) => {
      const row = (await db.query<FactsRow>(FACTS, [id]))[0];
      return row === undefined ? null : toFacts(row);
    },
    findOrInsertOriginal: (name, createdAt) => db.transaction((sql) => findOrInsertOriginal(sql, name, createdAt)),
    listOriginal: (limit) =>
      db.query<ZoneRow>(
        `SELECT ${COLUMNS} FROM zones WHERE id ~ ${ORIGINAL} ORDER BY length(id), id COLLATE "C" LIMIT $1`,
        [limit],
      ),
  };
}
