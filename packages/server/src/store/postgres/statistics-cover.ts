/**
 * Which rows answer for a range of time: whole days and whole stretches of 5 minutes from the rollups, the rest from raw
 * readings. Pure.
 *
 * Guarantee: the covers of [a, b) and [b, c) together hold every reading of [a, c) once.
 */

/** Width of a row of `rollups`, ms. */
export const FIVE_MINUTES_MS = 300_000;
/** Width of a row of `rollup_days`, ms. */
export const DAY_MS = 86_400_000;

/** From inclusive, to exclusive. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** Spans by source; together they are the range (but see `lostUntil` of {@link coverRange}). */
export interface Cover {
  readonly days: readonly Span[];
  readonly fiveMinutes: readonly Span[];
  readonly raw: readonly Span[];
}

/** What {@link coverRange} cuts. */
export interface CoverQuery extends Span {
  /** Buckets that no row may straddle, or null. */
  readonly width: number | null;
  /** Raw readings before this (a multiple of 5 minutes) may be gone. */
  readonly lostUntil: number;
}

/**
 * Cuts a range. Before `lostUntil` there is no raw reading to cut at: a stretch of 5 minutes there counts as a whole in
 * the range that its start lies in.
 */
export function coverRange(query: CoverQuery): Cover {
  const { width, lostUntil } = query;
  const from = query.from < lostUntil ? ceil(query.from, FIVE_MINUTES_MS) : query.from;
  const to = query.to < lostUntil ? ceil(query.to, FIVE_MINUTES_MS) : query.to;
  const raw = (...spans: Span[]): Span[] => spans.filter((span) => span.from < span.to);
  if (width !== null && width % FIVE_MINUTES_MS !== 0) return { days: [], fiveMinutes: [], raw: raw({ from, to }) };
  const five: Span = { from: ceil(from, FIVE_MINUTES_MS), to: floor(to, FIVE_MINUTES_MS) };
  if (five.from >= five.to) return { days: [], fiveMinutes: [], raw: raw({ from, to }) };
  const edges = raw({ from, to: five.from }, { from: five.to, to });
  const day: Span = { from: ceil(five.from, DAY_MS), to: floor(five.to, DAY_MS) };
  if (day.from >= day.to || (width !== null && width % DAY_MS !== 0))
    return { days: [], fiveMinutes: [five], raw: edges };
  const fiveMinutes = raw({ from: five.from, to: day.from }, { from: day.to, to: five.to });
  return { days: [day], fiveMinutes, raw: edges };
}

function floor(at: number, unit: number): number {
  return Math.floor(at / unit) * unit;
}

function ceil(at: number, unit: number): number {
  return Math.ceil(at / unit) * unit;
}
