/**
 * Which backend the log uses, and floors under the offsets of another one (port: `store/ports/log-backend.ts`).
 *
 * While records of devices live elsewhere, nothing appends to their partitions here: their rows of `log_heads` hold the
 * floors. A change takes the lock under which instances enter, so none can enter beside it unseen.
 */
import type { Database, Sql } from '../ports/database.ts';
import type {
  KnownFrame,
  KnownId,
  LogBackend,
  LogBackendChange,
  LogBackendChoice,
  LogBackendStore,
} from '../ports/log-backend.ts';
import { CLAIM_LOCK } from './instances.ts';

const CHOSEN = `SELECT value FROM installation WHERE name = 'log_backend'`;

const CHOOSE = `
INSERT INTO installation (name, value) VALUES ('log_backend', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`;

const ALIVE = `SELECT FROM instances WHERE lease_until >= now_ms() LIMIT 1`;

const NOT_WORKED_OFF = `
SELECT count(*) AS n FROM log_records l JOIN log_positions p USING (partition)
WHERE l.partition = ANY ($1::smallint[]) AND l."offset" > p.position AND l.kind <> 'tick'`;

// Ticks that nobody will read any more would hold back what counts as complete.
const DROP_RECORDS = `DELETE FROM log_records WHERE partition = ANY ($1::smallint[])`;

const HEADS_TO_POSITIONS = `
UPDATE log_heads h SET head = p.position FROM log_positions p
WHERE h.partition = p.partition AND h.partition = ANY ($1::smallint[])`;

// The head is above the first floor too, which is 0: whatever that stretch gives is far below the next floor.
const RAISE_FLOOR = `
WITH was AS (
  SELECT h.partition, greatest(h.head, p.position, $2::bigint) AS top
  FROM log_heads h JOIN log_positions p USING (partition)
  WHERE h.partition = $1 AND NOT EXISTS (SELECT FROM installation WHERE name = 'log_backend' AND value <> $4::text)
  FOR UPDATE OF h
)
UPDATE log_heads h SET head = was.top + $3::bigint FROM was WHERE h.partition = was.partition
RETURNING CASE WHEN was.top = 0 THEN 0 ELSE h.head END AS floor`;

const KNOWN_IDS = `
SELECT device_id AS "deviceId", envelope_id AS "envelopeId", digest, seen_at AS "seenAt" FROM envelope_ids
WHERE (device_id, envelope_id) > ($1, $2) AND seen_at >= $3 ORDER BY device_id, envelope_id LIMIT $4`;

const REMEMBER_IDS = `
INSERT INTO envelope_ids (device_id, envelope_id, digest, seen_at)
SELECT device_id, envelope_id, decode(digest, 'hex'), seen_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS t (device_id, envelope_id, digest, seen_at)
ON CONFLICT DO NOTHING`;

const KNOWN_FRAMES = `
SELECT device_id AS "deviceId", frame_id AS "envelopeId" FROM frame_ids
WHERE (frame_id, device_id) > ($1, $2) GROUP BY frame_id, device_id ORDER BY frame_id, device_id LIMIT $3`;

const REMEMBER_FRAMES = `
INSERT INTO frame_ids (frame_id, device_id, slot)
SELECT frame_id, device_id, frame_slot($3) FROM unnest($1::text[], $2::text[]) AS t (frame_id, device_id)
ON CONFLICT DO NOTHING`;

/** The store's side over `db`. */
export function createLogBackendStore(db: Database): LogBackendStore {
  return {
    chosen: () => chosen(db),
    inUse: async () => (await db.query(ALIVE)).length > 0,
    change: (from, to, partitions) => db.transaction((sql) => change(sql, from, to, partitions)),
    raiseFloor: async (generation, partition, top, step) => {
      const choice = written({ backend: 'redis', generation });
      const [row] = await db.query<{ floor: number }>(RAISE_FLOOR, [partition, top, step, choice]);
      return row?.floor ?? null;
    },
    knownIds: (since, after, limit) =>
      db.query<KnownId>(KNOWN_IDS, [after?.deviceId ?? '', after?.envelopeId ?? '', since, limit]),
    rememberIds: async (ids) => {
      const digests = ids.map(({ digest }) => digest.toString('hex'));
      const names = [ids.map(({ deviceId }) => deviceId), ids.map(({ envelopeId }) => envelopeId)];
      await db.execute(REMEMBER_IDS, [...names, digests, ids.map(({ seenAt }) => seenAt)]);
    },
    knownFrames: (after, limit) =>
      db.query<KnownFrame>(KNOWN_FRAMES, [after?.envelopeId ?? '', after?.deviceId ?? '', limit]),
    rememberFrames: async (frames, at) => {
      const names = [frames.map(({ envelopeId }) => envelopeId), frames.map(({ deviceId }) => deviceId)];
      await db.execute(REMEMBER_FRAMES, [...names, at]);
    },
  };
}

function written({ backend, generation }: LogBackendChoice): string {
  return `${backend} ${generation}`;
}

async function chosen(sql: Sql): Promise<LogBackendChoice | null> {
  const [row] = await sql.query<{ value: string }>(CHOSEN);
  if (row === undefined) return null;
  const [backend, generation] = row.value.split(' ');
  return { backend: backend as LogBackend, generation: generation ?? '' };
}

async function change(
  sql: Sql,
  from: LogBackendChoice | null,
  to: LogBackendChoice,
  partitions: readonly number[],
): Promise<LogBackendChange> {
  await sql.execute('SELECT pg_advisory_xact_lock($1)', [CLAIM_LOCK]);
  const current = await chosen(sql);
  if (current !== null && current.generation !== from?.generation) return { kind: 'chosen-meanwhile', choice: current };
  if ((await sql.query(ALIVE)).length > 0) return { kind: 'in-use' };
  if (to.backend === 'redis') {
    const [left] = await sql.query<{ n: number }>(NOT_WORKED_OFF, [partitions]);
    if (left !== undefined && left.n > 0) return { kind: 'not-worked-off', records: left.n };
    await sql.execute(DROP_RECORDS, [partitions]);
  } else if (from?.backend === 'redis') {
    await sql.execute(HEADS_TO_POSITIONS, [partitions]);
  }
  await sql.execute(CHOOSE, [written(to)]);
  return { kind: 'changed', choice: to };
}
