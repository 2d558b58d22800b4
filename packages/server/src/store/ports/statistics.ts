/**
 * Statistics of readings: what the store answers and how its rollups grow.
 *
 * Guarantees: an answer is one snapshot; every reading committed before it counts once, rolled up or not. Ranges are
 * over the readings' own time `at`, Unix ms, from inclusive, to exclusive.
 * Where retention has dropped readings the resolution is 5 minutes: such a stretch of 5 minutes counts as a whole in
 * the range that its start lies in.
 * Failure: `store-unavailable`.
 */
import type { ProfileName } from '@tocsin/protocol/envelope';

/** Readings of one device, of one zone (as it was when they arrived), or of everybody. */
export type StatisticsScope = 'device' | 'zone' | 'all';

/** A number that readings carry: in the column `value`, or as a member of `fields`. */
export interface MeasuredField {
  readonly profile: ProfileName;
  readonly field: string;
  readonly isMain: boolean;
}

/** Whose readings, and what of them. `number` is 0 for everybody. Field null: readings of every profile are counted, nothing more. */
export interface StatisticsTarget {
  readonly scope: StatisticsScope;
  readonly number: number;
  readonly field: MeasuredField | null;
}

/** A range of `at`; `width` in ms cuts it into buckets that start at multiples of the width. */
export interface StatisticsRange {
  readonly from: number;
  readonly to: number;
  readonly width: number | null;
}

/** How values lie. */
export type Distribution =
  /** p50, p95, p99 by linear interpolation. */
  | { readonly kind: 'exact'; readonly percentiles: readonly number[] }
  /** A DDSketch: bins in ascending order and how many values each holds. */
  | { readonly kind: 'sketch'; readonly bins: readonly number[]; readonly counts: readonly number[] };

/** The values of one bucket (start `from`, null without a width). Buckets without values are absent. */
export interface StatisticsPart {
  readonly from: number | null;
  readonly count: number;
  readonly mean: number;
  readonly min: number;
  readonly max: number;
  /** Of the population. */
  readonly standardDeviation: number;
  readonly firstAt: number;
  readonly lastAt: number;
  readonly distribution: Distribution;
}

/** What the store made of a query. */
export type StatisticsAnswer =
  | { readonly kind: 'parts'; readonly parts: readonly StatisticsPart[] }
  /** More buckets than allowed lie between the first and the last reading of the range. */
  | { readonly kind: 'too-many-buckets'; readonly buckets: number }
  /** Buckets that are no multiple of 5 minutes, over too many readings or over dropped ones. */
  | { readonly kind: 'too-fine' };

/** Bounds of a query. */
export interface StatisticsBounds {
  /** Up to so many readings percentiles are exact. */
  readonly exactReadings: number;
  /** Up to so many readings buckets need not be multiples of 5 minutes. */
  readonly fineReadings: number;
  readonly buckets: number;
}

/** A device as statistics know it. */
export interface StatisticsDevice {
  readonly number: number;
  readonly profile: ProfileName;
}

/** A zone as statistics know it, with the profiles of its devices. */
export interface StatisticsZone {
  readonly number: number;
  readonly profiles: readonly ProfileName[];
}

/** The reading side. */
export interface StatisticsStore {
  /** The device (revoked ones too), or null. */
  device(id: string): Promise<StatisticsDevice | null>;
  /** The zone, or null. */
  zone(id: string): Promise<StatisticsZone | null>;
  /** Answers for each target, in the order given, all from one snapshot. */
  read(
    targets: readonly StatisticsTarget[],
    range: StatisticsRange,
    bounds: StatisticsBounds,
  ): Promise<StatisticsAnswer[]>;
}

/** What became of one stretch. `until`: readings received before it are rolled up now. */
export type RollupOutcome =
  | { readonly kind: 'rolled'; readonly until: number; readonly readings: number }
  /** Another process is at it. */
  | { readonly kind: 'busy' };

/** The growing side. */
export interface RollupStore {
  /**
   * Rolls up the readings received from the marker on, at most `stretchMs` of arrival and nothing at or after
   * `completeUntil` (before which every reading must be committed): sums and marker in one transaction, one process at a time.
   */
  roll(completeUntil: number, stretchMs: number, fields: readonly MeasuredField[]): Promise<RollupOutcome>;
  /**
   * Brings the block indexes of the readings of these days up to date. PostgreSQL leaves that to its next vacuum, and till
   * then every look at the newest readings would scan a good part of the day.
   */
  indexNewest(from: number, until: number): Promise<void>;
  /**
   * To be called before readings received before `before` are dropped: answers up to where they may be (at most the
   * marker: what is not rolled up must stay; a whole UTC day) and notes it, so that from then on no answer needs them.
   */
  release(before: number): Promise<number>;
}
