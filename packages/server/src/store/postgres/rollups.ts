/**
 * Rollups in PostgreSQL (port: `RollupStore` of `store/ports/statistics.ts`).
 *
 * Exactly once: a stretch of arrival, its sums and the marker behind it are one transaction, under an advisory lock that
 * ends with it. A crash leaves sums and marker as they were.
 */
import type { Database, Sql } from '../ports/database.ts';
import type { MeasuredField, RollupOutcome, RollupStore } from '../ports/statistics.ts';
import { DAY_MS, FIVE_MINUTES_MS } from './statistics-cover.ts';

/** Any number that nobody else here uses: 'roll' in ASCII. */
const LOCK = 0x726f6c6c;

const SETTINGS = `SET LOCAL jit = off; SET LOCAL work_mem = '64MB'`;

const KEY = 'scope, number, profile, field';
const COLUMNS = `${KEY}, bucket, count, sum, squares, min, max, first_at, last_at, bins, bin_counts`;

// `zone` is null both for a device without a zone and in sets without it; only the first must go.
const SETS = `
    GROUP BY profile, field, bucket, GROUPING SETS ((device), (zone), ())`;
const SCOPE = `
    CASE WHEN grouping(device) = 0 THEN 'device' WHEN grouping(zone) = 0 THEN 'zone' ELSE 'all' END AS scope,
    coalesce(device, zone, 0) AS number`;
const WITH_ZONE = 'NOT (grouping(zone) = 0 AND zone IS NULL)';

// Sums of squared differences merge as in Chan, Golub, LeVeque 1979; bins merge by adding up.
const merge = (table: string): string => `
    ON CONFLICT (${KEY}, bucket) DO UPDATE SET
      count = ${table}.count + excluded.count,
      sum = ${table}.sum + excluded.sum,
      squares = ${table}.squares + excluded.squares
        + rollup_square(excluded.sum / excluded.count - ${table}.sum / ${table}.count)
          * (${table}.count::double precision * excluded.count / (${table}.count + excluded.count)),
      min = least(${table}.min, excluded.min),
      max = greatest(${table}.max, excluded.max),
      first_at = least(${table}.first_at, excluded.first_at),
      last_at = greatest(${table}.last_at, excluded.last_at),
      (bins, bin_counts) = (
        SELECT coalesce(array_agg(bin ORDER BY bin), '{}'), coalesce(array_agg(n ORDER BY bin), '{}') FROM (
          SELECT bin, sum(n)::bigint AS n
          FROM unnest(${table}.bins || excluded.bins, ${table}.bin_counts || excluded.bin_counts) AS u (bin, n) GROUP BY bin
        ) merged
      )`;

const ROLL = `
WITH stretch AS MATERIALIZED (
  SELECT r.device, r.zone, r.at, r.at / ${FIVE_MINUTES_MS} * ${FIVE_MINUTES_MS} AS bucket, r.value, r.fields, d.profile
  FROM readings r LEFT JOIN devices d ON d.number = r.device
  WHERE r.received_at >= $1 AND r.received_at < $2
), measured AS MATERIALIZED (
  SELECT s.device, s.zone, profile, f.field, s.bucket, s.at, n.v, rollup_bin(n.v) AS bin
  FROM stretch s JOIN unnest($3::text[], $4::text[], $5::boolean[]) AS f (profile, field, is_main) USING (profile)
  CROSS JOIN LATERAL (
    SELECT rollup_number(CASE WHEN f.is_main THEN s.value ELSE (s.fields ->> f.field)::double precision END) AS v
  ) n WHERE n.v IS NOT NULL
), sums AS MATERIALIZED (
  SELECT ${SCOPE}, profile, field, bucket, count(*) AS count, sum(v) AS sum, var_pop(v) * count(*) AS squares,
    min(v) AS min, max(v) AS max, min(at) AS first_at, max(at) AS last_at
  FROM measured ${SETS} HAVING ${WITH_ZONE}
  UNION ALL
  SELECT 'all', 0, '*', '*', bucket, count(*), 0, 0, 0, 0, min(at), max(at) FROM stretch GROUP BY bucket
), binned AS MATERIALIZED (
  SELECT ${SCOPE}, profile, field, bucket, bin, count(*) AS n FROM measured ${SETS}, bin HAVING ${WITH_ZONE}
), bins AS (
  SELECT ${KEY}, bucket, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS bin_counts
  FROM binned GROUP BY ${KEY}, bucket
), day_sums AS (
  SELECT ${KEY}, day AS bucket, sum(count)::bigint AS count, sum(sum) AS sum,
    sum(squares + count * rollup_square(sum / count - mean)) AS squares,
    min(min) AS min, max(max) AS max, min(first_at) AS first_at, max(last_at) AS last_at
  FROM (
    SELECT *, bucket / ${DAY_MS} * ${DAY_MS} AS day, sum(sum) OVER w / (sum(count) OVER w)::double precision AS mean
    FROM sums WINDOW w AS (PARTITION BY ${KEY}, bucket / ${DAY_MS})
  ) s GROUP BY ${KEY}, day
), day_bins AS (
  SELECT ${KEY}, bucket, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS bin_counts FROM (
    SELECT ${KEY}, bucket / ${DAY_MS} * ${DAY_MS} AS bucket, bin, sum(n)::bigint AS n
    FROM binned GROUP BY ${KEY}, bucket / ${DAY_MS}, bin
  ) b GROUP BY ${KEY}, bucket
), places AS (
  INSERT INTO zone_devices (zone, device) SELECT DISTINCT zone, device FROM stretch WHERE zone IS NOT NULL
  ON CONFLICT DO NOTHING
), written AS (
  INSERT INTO rollups (${COLUMNS})
  SELECT s.*, coalesce(b.bins, '{}'), coalesce(b.bin_counts, '{}') FROM sums s LEFT JOIN bins b USING (${KEY}, bucket)
  ${merge('rollups')}
), written_days AS (
  INSERT INTO rollup_days (${COLUMNS})
  SELECT s.*, coalesce(b.bins, '{}'), coalesce(b.bin_counts, '{}') FROM day_sums s LEFT JOIN day_bins b USING (${KEY}, bucket)
  ${merge('rollup_days')}
)
SELECT count(*) AS readings FROM stretch`;

const SUMMARIZE = `
SELECT brin_summarize_new_values(x.indexrelid)
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid AND i.relam = (SELECT oid FROM pg_am WHERE amname = 'brin')
JOIN pg_inherits h ON h.inhrelid = x.indrelid AND h.inhparent = 'readings'::regclass
JOIN pg_class t ON t.oid = x.indrelid
WHERE t.relname IN (
  SELECT 'readings_' || to_char(to_timestamp(day / 1000) AT TIME ZONE 'UTC', 'YYYYMMDD')
  FROM generate_series($1::bigint / ${DAY_MS} * ${DAY_MS}, $2::bigint, ${DAY_MS}) AS day
)`;

/** The rollup store over `db`. */
export function createRollupStore(db: Database): RollupStore {
  return {
    roll: (completeUntil, stretchMs, fields) =>
      db.transaction(async (sql) => {
        await sql.execute(SETTINGS);
        return roll(sql, completeUntil, stretchMs, fields);
      }),
    indexNewest: async (from, until) => {
      await db.execute(SUMMARIZE, [from, until]);
    },
    release: async (before) => {
      const [row] = await db.query<{ kept_from: number }>(
        `UPDATE rollup_state SET kept_from = greatest(kept_from, least($1::bigint, rolled_until) / ${DAY_MS} * ${DAY_MS})
         RETURNING kept_from`,
        [before],
      );
      return row?.kept_from ?? 0;
    },
  };
}

async function roll(
  sql: Sql,
  completeUntil: number,
  stretchMs: number,
  fields: readonly MeasuredField[],
): Promise<RollupOutcome> {
  const [lock] = await sql.query<{ taken: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS taken', [LOCK]);
  if (lock?.taken !== true) return { kind: 'busy' };
  const [state] = await sql.query<{ marker: number }>('SELECT rolled_until AS marker FROM rollup_state');
  const from = state?.marker ?? 0;
  if (from >= completeUntil) return { kind: 'rolled', until: from, readings: 0 };
  let until = Math.min(completeUntil, from + stretchMs);
  const readings = await aggregate(sql, from, until, fields);
  if (readings === 0 && until < completeUntil) until = await nextArrival(sql, until, completeUntil);
  await sql.execute('UPDATE rollup_state SET rolled_until = $1', [until]);
  return { kind: 'rolled', until, readings };
}

/** Adds the sums of readings received in [from, until); answers how many readings there were. */
async function aggregate(sql: Sql, from: number, until: number, fields: readonly MeasuredField[]): Promise<number> {
  const rows = await sql.query<{ readings: number }>(ROLL, [
    from,
    until,
    fields.map((field) => field.profile),
    fields.map((field) => field.field),
    fields.map((field) => field.isMain),
  ]);
  return rows[0]?.readings ?? 0;
}

/** Jumps over a time without arrivals. */
async function nextArrival(sql: Sql, from: number, until: number): Promise<number> {
  const [row] = await sql.query<{ at: number | null }>(
    'SELECT min(received_at) AS at FROM readings WHERE received_at >= $1 AND received_at < $2',
    [from, until],
  );
  return row?.at ?? until;
}
