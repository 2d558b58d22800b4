/**
 * Statistics of a device, a zone and everybody: which field is meant, what the answer looks like.
 *
 * Guarantees: up to 100,000 readings of a range everything is exact; beyond that count, mean, extremes, standard
 * deviation and times are exact and percentiles within 1 %. Readings committed before the call are counted.
 * Bound: a few questions are read at once, so that no number of them takes the connections that alarms and ingest need.
 * Failure: refusals `not-found`, `malformed-parameter`, `overloaded` when too many wait; `store-unavailable` of the store.
 */
import { PROFILES, type ProfileName } from '@tocsin/protocol/envelope';
import { LIMITS } from '@tocsin/protocol/limits';
import { RefusalError, refuse } from '@tocsin/protocol/refusal-error';
import { hasCode } from '../lib/coded-error.ts';
import { createGate } from '../lib/gate.ts';
import type {
  MeasuredField,
  StatisticsAnswer,
  StatisticsBounds,
  StatisticsPart,
  StatisticsStore,
  StatisticsTarget,
} from '../store/ports/statistics.ts';
import { chooseField } from './statistics-fields.ts';
import { quantiles } from '../lib/sketch.ts';

/** What is asked: `from` inclusive, `to` exclusive, Unix ms of the readings' own time; absent: no bound. */
export interface StatisticsQuery {
  readonly from?: number;
  readonly to?: number;
  readonly field?: string;
  /** Seconds; buckets start at multiples of it since 1970. */
  readonly bucket?: number;
}

/** The answer; all but `count` null when `count` is 0. Times are Unix ms, the standard deviation is the population's. */
export interface Statistics {
  readonly count: number;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly standardDeviation: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  readonly firstAt: number | null;
  readonly lastAt: number | null;
}

/** One bucket with its start. */
export interface StatisticsBucket extends Statistics {
  readonly from: number;
}

/** One answer, or with `bucket` the buckets that hold readings, oldest first. */
export type StatisticsResult = Statistics | readonly StatisticsBucket[];

/** The services behind the routes. */
export interface StatisticsService {
  device(id: string, query: StatisticsQuery): Promise<StatisticsResult>;
  zone(id: string, query: StatisticsQuery): Promise<StatisticsResult>;
  /** Without `field`: `count`, `firstAt` and `lastAt` of the readings of every profile, the rest of seismic `value`. */
  everything(query: StatisticsQuery): Promise<StatisticsResult>;
}

/** Bounds of a query as they are in service; tests choose smaller ones. */
export const STATISTICS_BOUNDS: StatisticsBounds = {
  exactReadings: 100_000,
  fineReadings: 1_000_000,
  buckets: LIMITS.statisticsBuckets.value,
};

/** Questions that are read at once (of the pool's 20 connections), and that may wait. */
const AT_ONCE = 4;
const WAITING_MOST = 200;
const RETRY_AFTER_MS = 1000;

/** No reading lies beyond: times are numbers, exact to the ms. */
const END_OF_TIME: number = Number.MAX_SAFE_INTEGER;
const PERCENTILES = [0.5, 0.95, 0.99];

/** Builds the service. */
export function createStatistics(
  store: StatisticsStore,
  bounds: StatisticsBounds = STATISTICS_BOUNDS,
): StatisticsService {
  const gate = createGate(AT_ONCE, WAITING_MOST);
  const ask = async (query: StatisticsQuery, ...targets: StatisticsTarget[]): Promise<StatisticsPart[][]> => {
    const { from = -END_OF_TIME, to = END_OF_TIME, bucket } = query;
    if (from > to) throw refuse('malformed-parameter', 'from must not be after to');
    const width = bucket === undefined ? null : bucket * 1000;
    const answers = await gate(() => store.read(targets, { from, to, width }, bounds)).catch(turnedAway);
    return answers.map((answer) => partsOf(answer, bounds));
  };
  return {
    async device(id, query) {
      const device = await store.device(id);
      if (device === null) throw refuse('not-found', 'There is no such device');
      const field = pick([device.profile], query.field);
      const [parts = []] = await ask(query, { scope: 'device', number: device.number, field });
      return show(parts, query);
    },
    async zone(id, query) {
      const zone = await store.zone(id);
      if (zone === null) throw refuse('not-found', 'There is no such zone');
      const field = pick(query.field === undefined ? zone.profiles : PROFILES, query.field);
      const [parts = []] = await ask(query, { scope: 'zone', number: zone.number, field });
      return show(parts, query);
    },
    async everything(query) {
      const values: StatisticsTarget = { scope: 'all', number: 0, field: pick(PROFILES, query.field) };
      if (query.field !== undefined) return show((await ask(query, values))[0] ?? [], query);
      const [parts = [], counts = []] = await ask(query, values, { scope: 'all', number: 0, field: null });
      return showCounted(parts, counts, query);
    },
  };
}

function turnedAway(error: unknown): never {
  if (!hasCode(error, 'gate-full')) throw error;
  const detail = 'Too many ask for statistics at once';
  throw new RefusalError({ code: 'overloaded', detail, retryAfterMs: RETRY_AFTER_MS });
}

function pick(profiles: readonly ProfileName[], name: string | undefined): MeasuredField {
  const choice = chooseField(profiles, name);
  if (choice.kind === 'field') return choice.field;
  throw refuse('malformed-parameter', `field must be one of ${choice.known.join(', ')}`);
}

function partsOf(answer: StatisticsAnswer, bounds: StatisticsBounds): StatisticsPart[] {
  switch (answer.kind) {
    case 'parts':
      return [...answer.parts];
    case 'too-many-buckets':
      throw refuse(
        'malformed-parameter',
        `bucket makes ${answer.buckets} buckets of this range, at most ${bounds.buckets} are allowed: choose a wider one, or from and to`,
      );
    case 'too-fine':
      throw refuse(
        'malformed-parameter',
        `bucket must be a multiple of 300 where the range holds more than ${bounds.fineReadings} readings or reaches behind the readings kept: choose one, or from and to`,
      );
  }
}

const NOTHING: Statistics = {
  count: 0,
  mean: null,
  min: null,
  max: null,
  standardDeviation: null,
  p50: null,
  p95: null,
  p99: null,
  firstAt: null,
  lastAt: null,
};

function show(parts: readonly StatisticsPart[], query: StatisticsQuery): StatisticsResult {
  if (query.bucket !== undefined) return parts.map((part) => ({ from: part.from ?? 0, ...summary(part) }));
  const [part] = parts;
  return part === undefined ? NOTHING : summary(part);
}

function showCounted(
  parts: readonly StatisticsPart[],
  counts: readonly StatisticsPart[],
  query: StatisticsQuery,
): StatisticsResult {
  const values = new Map(parts.map((part) => [part.from, part]));
  const counted = counts.map(({ from, count, firstAt, lastAt }) => {
    const part = values.get(from);
    return { from: from ?? 0, ...(part === undefined ? NOTHING : summary(part)), count, firstAt, lastAt };
  });
  if (query.bucket !== undefined) return counted;
  const [only] = counted;
  if (only === undefined) return NOTHING;
  const { from: _from, ...statistics } = only;
  return statistics;
}

function summary(part: StatisticsPart): Statistics {
  const { count, mean, min, max, standardDeviation, firstAt, lastAt, distribution } = part;
  const percentiles =
    distribution.kind === 'exact' ? distribution.percentiles : quantiles(distribution, PERCENTILES, min, max);
  const [p50 = null, p95 = null, p99 = null] = percentiles ?? [];
  return { count, mean, min, max, standardDeviation, p50, p95, p99, firstAt, lastAt };
}
