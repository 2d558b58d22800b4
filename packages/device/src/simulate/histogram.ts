/**
 * Durations in buckets whose width grows with the value, as HdrHistogram does it: 64 buckets for each doubling.
 *
 * Guarantees: a quantile is within 1 % of the exact one (or 1 µs); count, least and greatest are exact; merging is exact.
 * Durations beyond 35 minutes count as that. Size: 1,728 numbers, whatever was recorded.
 */

/** A histogram as it travels between processes: only the buckets that hold something. Milliseconds. */
export interface HistogramRecord {
  readonly buckets: readonly (readonly [index: number, count: number])[];
  readonly least: number;
  readonly greatest: number;
}

/** Durations, in milliseconds. */
export interface Histogram {
  add(ms: number): void;
  merge(other: HistogramRecord): void;
  readonly count: number;
  readonly greatest: number;
  /** The value that the share `q` (0 to 1) of all is not above; 0 without values. */
  quantile(q: number): number;
  record(): HistogramRecord;
}

const BITS = 6;
const PER_OCTAVE = 2 ** BITS;
const MOST_MICROSECONDS = 2 ** 31 - 1;
const SIZE = (31 - BITS + 2) * PER_OCTAVE;

/** The bucket of a duration in whole µs. Exact below 64 µs. */
function indexOf(microseconds: number): number {
  if (microseconds < PER_OCTAVE) return microseconds;
  const shift = 31 - Math.clz32(microseconds) - BITS;
  return shift * PER_OCTAVE + (microseconds >>> shift);
}

/** The middle of a bucket, µs. */
function middleOf(index: number): number {
  if (index < 2 * PER_OCTAVE) return index;
  const shift = Math.floor(index / PER_OCTAVE) - 1;
  const from = (index - shift * PER_OCTAVE) * 2 ** shift;
  return from + (2 ** shift - 1) / 2;
}

/** An empty one. */
export function createHistogram(): Histogram {
  const counts = new Float64Array(SIZE);
  let count = 0;
  let least = Infinity;
  let greatest = 0;
  return {
    add(ms) {
      const value = Math.max(0, ms);
      const index = indexOf(Math.min(MOST_MICROSECONDS, Math.round(value * 1000)));
      counts[index] = (counts[index] ?? 0) + 1;
      count += 1;
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    },
    merge(other) {
      for (const [index, more] of other.buckets) {
        counts[index] = (counts[index] ?? 0) + more;
        count += more;
      }
      if (other.buckets.length === 0) return;
      least = Math.min(least, other.least);
      greatest = Math.max(greatest, other.greatest);
    },
    get count() {
      return count;
    },
    get greatest() {
      return greatest;
    },
    quantile(q) {
      if (count === 0) return 0;
      const rank = Math.max(1, Math.ceil(Math.min(1, Math.max(0, q)) * count));
      let seen = 0;
      let index = -1;
      while (seen < rank) {
        index += 1;
        seen += counts[index] ?? 0;
      }
      return Math.min(greatest, Math.max(least, middleOf(index) / 1000));
    },
    record() {
      const buckets: [number, number][] = [];
      for (const [index, held] of counts.entries()) if (held > 0) buckets.push([index, held]);
      return { buckets, least: count === 0 ? 0 : least, greatest };
    },
  };
}

/** The histogram of a record. */
export function histogramOf(record: HistogramRecord): Histogram {
  const histogram = createHistogram();
  histogram.merge(record);
  return histogram;
}
