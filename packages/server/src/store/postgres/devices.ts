/** Devices in PostgreSQL (table `devices`). A revoked device keeps its row, so its id is never used again. */
import type { Database, Sql, Transaction } from '../ports/database.ts';
import type {
  DeviceArea,
  DeviceChange,
  DeviceInsert,
  DeviceQuery,
  DeviceRow,
  DeviceStore,
  DeviceWrite,
  OriginalDeviceWrite,
} from '../ports/registry.ts';
import { isForeignKeyViolation } from './zones.ts';

const COLUMNS = `d.id, d.number, d.profile, d.zone_id AS "zoneId", z.number AS "zoneNumber", d.latitude, d.longitude,
  d.public_key AS "publicKey", d.owner_id AS "ownerId", d.standing, d.exercise, d.created_at AS "createdAt", d.updated_at AS "updatedAt"`;
const FROM = 'FROM devices d LEFT JOIN zones z ON z.id = d.zone_id';
/** Ids of the original client's devices; more digits would not fit its integers. */
const ORIGINAL = `'^m[1-9][0-9]{0,14}$'`;
/** Key of the advisory lock that serialises the original client's devices. */
const ORIGINAL_LOCK = 7_201_002;

const INSERT = `
  WITH d AS (
    INSERT INTO devices (id, profile, zone_id, latitude, longitude, public_key, owner_id, standing, exercise, created_at, updated_at)
    SELECT $1::text, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10 WHERE NOT EXISTS (SELECT FROM devices WHERE id = $1::text)
    ON CONFLICT (id) DO NOTHING RETURNING *
  )
  SELECT ${COLUMNS} FROM d LEFT JOIN zones z ON z.id = d.zone_id`;

/** Registers a self-reported host; its standing, which may be an operator's word, stays. */
const ADOPT = `
    UPDATE devices SET profile = $2, zone_id = $3, latitude = $4, longitude = $5, public_key = $6, owner_id = $7,
      exercise = $8, leaving_at = NULL, updated_at = greatest(updated_at, $9::bigint)`;
const ADOPTABLE = `WHERE id = $1 AND public_key IS NULL AND standing <> 'revoked'`;
const ADOPT_HOST = `
  WITH d AS (${ADOPT} ${ADOPTABLE} RETURNING *)
  SELECT ${COLUMNS} FROM d LEFT JOIN zones z ON z.id = d.zone_id`;
// As a device of another profile it begins anew: a percentage must not turn up among accelerations, so the number, by which
// readings are found, is another one.
const ADOPT_OTHER = `
  WITH before AS (SELECT number FROM devices ${ADOPTABLE} FOR UPDATE),
  forgotten AS (INSERT INTO forgotten_numbers (number, forgotten_at) SELECT number, $9::bigint FROM before),
  d AS (${ADOPT}, number = DEFAULT, created_at = $9::bigint ${ADOPTABLE} RETURNING *)
  SELECT ${COLUMNS} FROM d LEFT JOIN zones z ON z.id = d.zone_id`;

const UPDATE = `
  WITH d AS (
    UPDATE devices SET
      leaving_at = NULL,
      zone_id = CASE WHEN $2::boolean THEN $3::text ELSE zone_id END,
      latitude = CASE WHEN $4::boolean THEN $5::double precision ELSE latitude END,
      longitude = CASE WHEN $4::boolean THEN $6::double precision ELSE longitude END,
      public_key = coalesce($7::bytea, public_key),
      owner_id = CASE WHEN $8::boolean THEN $9::text ELSE owner_id END,
      standing = coalesce($10::text, standing),
      updated_at = greatest(updated_at, $11::bigint)
    WHERE id = $1 AND standing <> 'revoked' RETURNING *
  )
  SELECT ${COLUMNS} FROM d LEFT JOIN zones z ON z.id = d.zone_id`;

// Draws numbers until one is free.
const NEXT_ORIGINAL = `
  WITH RECURSIVE draw (n) AS (
    SELECT nextval('original_device_numbers')
    UNION ALL
    SELECT nextval('original_device_numbers') FROM draw WHERE EXISTS (SELECT FROM devices WHERE id = 'm' || draw.n)
  )
  SELECT max(n) AS n FROM draw`;

async function insert(sql: Sql, device: DeviceInsert): Promise<DeviceRow | null> {
  const { id, profile, zoneId, latitude, longitude, publicKey, ownerId, standing, exercise, createdAt } = device;
  const values = [id, profile, zoneId, latitude, longitude, publicKey, ownerId, standing, exercise, createdAt];
  return (await sql.query<DeviceRow>(INSERT, values))[0] ?? null;
}

async function adopt(sql: Sql, device: DeviceInsert): Promise<DeviceRow | null> {
  const { id, profile, zoneId, latitude, longitude, publicKey, ownerId, exercise, createdAt } = device;
  const values = [id, profile, zoneId, latitude, longitude, publicKey, ownerId, exercise, createdAt];
  return (await sql.query<DeviceRow>(profile === 'host' ? ADOPT_HOST : ADOPT_OTHER, values))[0] ?? null;
}

/** Runs a write; a zone that does not exist is an outcome, not an error. */
async function zoneChecked<Outcome>(
  work: () => Promise<Outcome>,
): Promise<Outcome | { readonly outcome: 'zone-unknown' }> {
  try {
    return await work();
  } catch (error) {
    if (isForeignKeyViolation(error)) return { outcome: 'zone-unknown' };
    throw error;
  }
}

async function update(db: Database, id: string, change: DeviceChange, updatedAt: number): Promise<DeviceWrite> {
  const { zoneId, place, publicKey, ownerId, standing } = change;
  const values = [
    id,
    zoneId !== undefined,
    zoneId ?? null,
    place !== undefined,
    place?.latitude ?? null,
    place?.longitude ?? null,
    publicKey ?? null,
    ownerId !== undefined,
    ownerId ?? null,
    standing ?? null,
    updatedAt,
  ];
  const row = (await db.query<DeviceRow>(UPDATE, values))[0];
  if (row !== undefined) return { outcome: 'written', row };
  return { outcome: (await find(db, id)) === null ? 'unknown' : 'revoked' };
}

async function find(sql: Sql, id: string): Promise<DeviceRow | null> {
  return (await sql.query<DeviceRow>(`SELECT ${COLUMNS} ${FROM} WHERE d.id = $1`, [id]))[0] ?? null;
}

function areaClause(
  area: DeviceArea | null,
  first: number,
): { readonly text: string; readonly values: readonly number[] } {
  if (area === null) return { text: '', values: [] };
  const places = (count: number): string =>
    Array.from({ length: count }, (_, index) => `$${first + index}::double precision`).join(', ');
  if (area.kind === 'near') {
    return {
      text: `AND place_near(d.latitude, d.longitude, ${places(3)})`,
      values: [area.latitude, area.longitude, area.radius],
    };
  }
  return {
    text: `AND place_in_box(d.latitude, d.longitude, ${places(4)})`,
    values: [area.west, area.south, area.east, area.north],
  };
}

/**
 * The statement of {@link DeviceStore.list}. Not prepared by name: the planner must know the circle or box to choose
 * between its index and the order by number.
 */
export function deviceList(query: DeviceQuery): { readonly text: string; readonly values: readonly unknown[] } {
  const area = areaClause(query.area, 7);
  return {
    text: `SELECT ${COLUMNS} ${FROM}
     WHERE ($1::text IS NULL OR d.zone_id = $1) AND ($2::text IS NULL OR d.profile = $2)
       AND (CASE WHEN $3::text IS NULL THEN d.standing <> 'revoked' ELSE d.standing = $3 END)
       AND ($4::integer IS NULL OR d.number < $4)
       AND ($6::boolean IS NULL OR (d.public_key IS NOT NULL) = $6) ${area.text}
     ORDER BY d.number DESC LIMIT $5`,
    values: [query.zoneId, query.profile, query.standing, query.before, query.limit, query.registered, ...area.values],
  };
}

function list(db: Database, query: DeviceQuery): Promise<DeviceRow[]> {
  const { text, values } = deviceList(query);
  return db.query<DeviceRow>(text, values);
}

async function findOrInsertOriginal(sql: Transaction, device: Omit<DeviceInsert, 'id'>): Promise<OriginalDeviceWrite> {
  await sql.execute('SELECT pg_advisory_xact_lock($1)', [ORIGINAL_LOCK]);
  const found = await sql.query<DeviceRow>(
    `SELECT ${COLUMNS} ${FROM} WHERE d.public_key = $1 AND d.id ~ ${ORIGINAL} AND NOT d.exercise ORDER BY d.number LIMIT 1`,
    [device.publicKey],
  );
  if (found[0] !== undefined) return { outcome: 'found', row: found[0] };
  for (;;) {
    const drawn = (await sql.query<{ n: number }>(NEXT_ORIGINAL))[0]?.n;
    const row = await insert(sql, { ...device, id: `m${drawn}` });
    // Nothing: a native device took the id in between; the sequence has moved on, so the next draw is another one.
    if (row !== null) return { outcome: 'created', row };
  }
}

/** Builds the {@link DeviceStore}. */
export function createDeviceStore(db: Database): DeviceStore {
  return {
    insert: (device) =>
      zoneChecked<DeviceWrite>(async () => {
        const row = (await insert(db, device)) ?? (await adopt(db, device));
        return row === null ? { outcome: 'exists' } : { outcome: 'written', row };
      }),
    find: (id) => find(db, id),
    findMany: (ids) =>
      db.query<DeviceRow>(
        `SELECT ${COLUMNS} ${FROM} WHERE d.id = ANY($1::text[]) AND d.leaving_at IS NULL`,
        [ids],
        'devices_find_many',
      ),
    list: (query) => list(db, query),
    update: (id, change, updatedAt) => zoneChecked<DeviceWrite>(() => update(db, id, change, updatedAt)),
    revoke: async (id, updatedAt) =>
      (await db.execute(
        `UPDATE devices SET standing = 'revoked', leaving_at = NULL,
           updated_at = CASE WHEN standing = 'revoked' THEN updated_at ELSE greatest(updated_at, $2) END WHERE id = $1`,
        [id, updatedAt],
      )) === 1,
    countRegistered: async () =>
      (
        await db.query<{ n: number }>(
          `SELECT count(*) AS n FROM devices WHERE standing <> 'revoked' AND public_key IS NOT NULL`,
        )
      )[0]?.n ?? 0,
    findOrInsertOriginal: (device) =>
      zoneChecked<OriginalDeviceWrite>(() => db.transaction((sql) => findOrInsertOriginal(sql, device))),
    listOriginal: (limit) =>
      db.query<DeviceRow>(
        `SELECT ${COLUMNS} ${FROM} WHERE d.id ~ ${ORIGINAL} AND d.standing <> 'revoked' AND d.public_key IS NOT NULL
         ORDER BY length(d.id), d.id COLLATE "C" LIMIT $1`,
        [limit],
      ),
  };
}
