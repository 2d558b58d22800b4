/**
 * Statistics in PostgreSQL (port: `store/ports/statistics.ts`).
 *
 * An answer is one read-only transaction at REPEATABLE READ, so rollups, their marker and raw rows are of one moment.
 * It holds ACCESS SHARE on `readings` from before its snapshot, so no partition that the snapshot counts on is dropped.
 */
import type { ProfileName } from '@tocsin/protocol/envelope';
import type { Database, Sql } from '../ports/database.ts';
import type {
  Distribution,
  StatisticsAnswer,
  StatisticsBounds,
  StatisticsPart,
  StatisticsRange,
  StatisticsStore,
  StatisticsTarget,
} from '../ports/statistics.ts';
import { coverRange, FIVE_MINUTES_MS } from './statistics-cover.ts';
import { exactStatement, momentsStatement, sketchStatement, type Source, type Statement } from './statistics-sql.ts';

/** LOCK takes no snapshot, so the snapshot of the first query is younger than the lock. JIT costs more than it saves here. */
const BEGIN = `
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL jit = off;
LOCK TABLE ONLY readings IN ACCESS SHARE MODE`;

/** A reading lies at most this far ahead of its arrival. */
const AHEAD_MS = 30_000;

const ZONE = `
SELECT z.number, coalesce((SELECT array_agg(DISTINCT d.profile) FROM devices d WHERE d.zone_id = z.id), '{}') AS profiles
FROM zones z WHERE z.id = $1`;

/** The statistics store over `db`. */
export function createStatisticsStore(db: Database): StatisticsStore {
  return {
    device: async (id) =>
      (
        await db.query<{ number: number; profile: ProfileName }>('SELECT number, profile FROM devices WHERE id = $1', [
          id,
        ])
      )[0] ?? null,
    zone: async (id) => (await db.query<{ number: number; profiles: ProfileName[] }>(ZONE, [id]))[0] ?? null,
    read: (targets, range, bounds) =>
      db.transaction(async (sql) => {
        await sql.execute(BEGIN);
        const state = await readState(sql);
        const answers: StatisticsAnswer[] = [];
        for (const target of targets) answers.push(await readTarget(sql, state, target, range, bounds));
        return answers;
      }),
  };
}

interface State {
  readonly marker: number;
  readonly lostUntil: number;
}

async function readState(sql: Sql): Promise<State> {
  const [row] = await sql.query<{ rolled_until: number; kept_from: number }>(
    'SELECT rolled_until, kept_from FROM rollup_state',
  );
  const keptFrom = row?.kept_from ?? 0;
  const lostUntil = keptFrom === 0 ? 0 : Math.ceil((keptFrom + AHEAD_MS) / FIVE_MINUTES_MS) * FIVE_MINUTES_MS;
  return { marker: row?.rolled_until ?? 0, lostUntil };
}

async function readTarget(
  sql: Sql,
  state: State,
  target: StatisticsTarget,
  range: StatisticsRange,
  bounds: StatisticsBounds,
): Promise<StatisticsAnswer> {
  const { width } = range;
  const sourceOf = (by: number | null, from = range.from): Source => {
    const cover = coverRange({ from, to: range.to, width: by, lostUntil: state.lostUntil });
    return { target, marker: state.marker, cover, range: { from, to: range.to }, width: by };
  };
  const whole = sourceOf(null);
  const [total] = await moments(sql, whole);
  if (total === undefined) return { kind: 'parts', parts: [] };
  if (width !== null) {
    const buckets = Math.floor(total.last_at / width) - Math.floor(total.first_at / width) + 1;
    if (buckets > bounds.buckets) return { kind: 'too-many-buckets', buckets };
  }
  const isWhole = total.first_at >= state.lostUntil;
  const isFine = width !== null && width % FIVE_MINUTES_MS !== 0;
  if (isWhole && total.count <= (isFine ? bounds.fineReadings : bounds.exactReadings)) {
    const rows = await run<ExactRow>(sql, exactStatement(sourceOf(width, Math.max(range.from, state.lostUntil))));
    return {
      kind: 'parts',
      parts: rows.map((row) => toPart(row, width, { kind: 'exact', percentiles: row.percentiles })),
    };
  }
  if (isFine) return { kind: 'too-fine' };
  const source = sourceOf(width);
  const rows = width === null ? [total] : await moments(sql, source);
  const sketches = new Map((await run<SketchRow>(sql, sketchStatement(source))).map((row) => [row.bucket, row]));
  return {
    kind: 'parts',
    parts: rows.map((row) => {
      const { bins, counts } = sketches.get(row.bucket) ?? { bins: [], counts: [] };
      return toPart(row, width, { kind: 'sketch', bins, counts });
    }),
  };
}

interface MomentsRow {
  readonly bucket: number;
  readonly count: number;
  readonly mean: number;
  readonly min: number;
  readonly max: number;
  readonly deviation: number;
  readonly first_at: number;
  readonly last_at: number;
}

interface ExactRow extends MomentsRow {
  readonly percentiles: readonly number[];
}

interface SketchRow {
  readonly bucket: number;
  readonly bins: readonly number[];
  readonly counts: readonly number[];
}

function run<Row extends object>(sql: Sql, statement: Statement): Promise<Row[]> {
  return sql.query<Row>(statement.text, statement.values);
}

function moments(sql: Sql, source: Source): Promise<MomentsRow[]> {
  return run<MomentsRow>(sql, momentsStatement(source));
}

function toPart(row: MomentsRow, width: number | null, distribution: Distribution): StatisticsPart {
  return {
    from: width === null ? null : row.bucket,
    count: row.count,
    mean: row.mean,
    min: row.min,
    max: row.max,
    standardDeviation: row.deviation,
    firstAt: row.first_at,
    lastAt: row.last_at,
    distribution,
  };
}
