/**
 * The texts of the statistics' statements. A text is put together from fixed pieces only; every value goes in as a
 * parameter. Buckets without a width are all bucket 0.
 */
import type { StatisticsTarget } from '../ports/statistics.ts';
import type { Cover, Span } from './statistics-cover.ts';

/** A statement and its parameters. */
export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** What a statement reads. `marker`: readings received before it are in the rollups. */
export interface Source {
  readonly target: StatisticsTarget;
  readonly marker: number;
  readonly cover: Cover;
  /** The range itself, by which readings at or after the marker are taken. */
  readonly range: Span;
  readonly width: number | null;
}

interface Builder {
  readonly values: unknown[];
  readonly bigint: (value: number) => string;
  readonly text: (value: string) => string;
}

function createBuilder(): Builder {
  const values: unknown[] = [];
  const add = (value: unknown, type: string): string => `$${values.push(value)}::${type}`;
  return { values, bigint: (value) => add(value, 'bigint'), text: (value) => add(value, 'text') };
}

function within(column: string, spans: readonly Span[], add: Builder): string {
  const terms = spans.map((span) => `${column} >= ${add.bigint(span.from)} AND ${column} < ${add.bigint(span.to)}`);
  return `(${terms.join(' OR ')})`;
}

/** Times before 1970 are no readings' times, so integer division rounds down. */
function bucketOf(column: string, width: number | null, add: Builder): string {
  if (width === null) return '0::bigint';
  const by = add.bigint(width);
  return `${column} / ${by} * ${by}`;
}

function numberOf(target: StatisticsTarget, add: Builder): string {
  const { field } = target;
  if (field === null) return '0::double precision';
  if (field.isMain) return 'rollup_number(r.value)';
  return `rollup_number((r.fields ->> ${add.text(field.field)})::double precision)`;
}

/**
 * Whose readings. Settled ones of a zone are found by its devices (`zone_devices`), hence the array, which an index takes;
 * the few that came since are found by arrival, and a join with the devices must not tempt the planner elsewhere.
 */
function belongs(target: StatisticsTarget, settled: boolean, add: Builder): string {
  const { scope, number, field } = target;
  if (scope === 'device') return `r.device = ${add.bigint(number)}`;
  const devices = field === null ? '' : `SELECT d.number FROM devices d WHERE d.profile = ${add.text(field.profile)}`;
  const ofProfile = devices === '' ? 'true' : `r.device IN (${devices})`;
  if (scope === 'all') return ofProfile;
  const zone = add.bigint(number);
  if (!settled) return `r.zone = ${zone} AND ${ofProfile}`;
  const known = `SELECT device FROM zone_devices WHERE zone = ${zone}`;
  const array = devices === '' ? known : `${devices} AND d.number IN (${known})`;
  return `r.zone = ${zone} AND r.device = ANY (ARRAY(${array}))`;
}

/** Rows (bucket, at, v) of raw readings: those of `spans` that arrived before the marker, and of the range since. */
function rawRows(source: Source, spans: readonly Span[], add: Builder): string {
  const { target, marker, range, width } = source;
  const select = (conditions: string): string => `
    SELECT ${bucketOf('r.at', width, add)} AS bucket, r.at, ${numberOf(target, add)} AS v FROM readings r WHERE ${conditions}`;
  const since = select(
    `${belongs(target, false, add)} AND r.received_at >= ${add.bigint(marker)} AND ${within('r.at', [range], add)}`,
  );
  if (spans.length === 0) return since;
  return `${select(
    `${belongs(target, true, add)} AND r.received_at < ${add.bigint(marker)} AND ${within('r.at', spans, add)}`,
  )}
    UNION ALL ${since}`;
}

function rollupRows(source: Source, columns: string, add: Builder): string[] {
  const { target, cover, width } = source;
  const from = (table: string, spans: readonly Span[]): string[] =>
    spans.length === 0
      ? []
      : [
          `SELECT ${bucketOf('t.bucket', width, add)} AS bucket, ${columns.replace('TABLE', table)}
           WHERE t.scope = ${add.text(target.scope)} AND t.number = ${add.bigint(target.number)}
           AND t.profile = ${add.text(target.field?.profile ?? '*')} AND t.field = ${add.text(target.field?.field ?? '*')}
           AND ${within('t.bucket', spans, add)}`,
        ];
  return [...from('rollup_days', cover.days), ...from('rollups', cover.fiveMinutes)];
}

/**
 * Count, mean, extremes and standard deviation by bucket, from rollups and raw rows. Sums of squared differences are
 * merged about the common mean (Chan, Golub, LeVeque 1979).
 */
export function momentsStatement(source: Source): Statement {
  const add = createBuilder();
  const rollups = rollupRows(
    source,
    't.count, t.sum, t.squares, t.min, t.max, t.first_at, t.last_at FROM TABLE t',
    add,
  );
  const raw = `SELECT bucket, count(*), sum(v), var_pop(v) * count(*), min(v), max(v), min(at), max(at)
    FROM (${rawRows(source, source.cover.raw, add)}) q WHERE v IS NOT NULL GROUP BY bucket`;
  const text = `
WITH parts (bucket, count, sum, squares, min, max, first_at, last_at) AS MATERIALIZED (
  ${[...rollups, raw].join('\n  UNION ALL ')}
), means AS (
  SELECT bucket, sum(count)::bigint AS count, sum(sum) / sum(count)::double precision AS mean FROM parts GROUP BY bucket
)
SELECT m.bucket, m.count, m.mean, min(p.min) AS min, max(p.max) AS max, min(p.first_at) AS first_at, max(p.last_at) AS last_at,
  sqrt(sum(p.squares + p.count * rollup_square(p.sum / p.count - m.mean)) / m.count) AS deviation
FROM means m JOIN parts p USING (bucket) GROUP BY m.bucket, m.count, m.mean ORDER BY m.bucket`;
  return { text, values: add.values };
}

/** The bins of the sketches by bucket, merged, in ascending order. */
export function sketchStatement(source: Source): Statement {
  const add = createBuilder();
  const rollups = rollupRows(
    source,
    'u.bin, u.n FROM TABLE t CROSS JOIN LATERAL unnest(t.bins, t.bin_counts) AS u (bin, n)',
    add,
  );
  const raw = `SELECT bucket, rollup_bin(v) AS bin, count(*) AS n
    FROM (${rawRows(source, source.cover.raw, add)}) q WHERE v IS NOT NULL GROUP BY 1, 2`;
  const text = `
SELECT bucket, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts FROM (
  SELECT bucket, bin, sum(n)::bigint AS n FROM (
    ${[...rollups, raw].join('\n    UNION ALL ')}
  ) pieces GROUP BY bucket, bin
) bins GROUP BY bucket ORDER BY bucket`;
  return { text, values: add.values };
}

/** Everything by bucket from the raw readings of the range alone, percentiles by linear interpolation. */
export function exactStatement(source: Source): Statement {
  const add = createBuilder();
  const text = `
SELECT bucket, count(*) AS count, avg(v) AS mean, min(v) AS min, max(v) AS max, min(at) AS first_at, max(at) AS last_at,
  stddev_pop(v) AS deviation, percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY v) AS percentiles
FROM (${rawRows(source, [source.range], add)}) q WHERE v IS NOT NULL GROUP BY bucket ORDER BY bucket`;
  return { text, values: add.values };
}
