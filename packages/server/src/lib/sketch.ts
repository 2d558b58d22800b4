/**
 * Percentiles from the bins of a DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019). Pure.
 *
 * Guarantee: a value read back from its bin is off by at most 1 % of its magnitude; 0 is exact. A percentile is the linear
 * interpolation between the two values that it lies between (as percentile_cont does it), each off by at most 1 %.
 * The bins are made by `rollup_bin` of migration 0010; {@link binOf} is the same in JavaScript.
 */

/** Relative error of a value read back. */
export const RELATIVE_ERROR = 0.01;

const GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR);
const LN_GAMMA = Math.log(GAMMA);
/** Larger than the bin of 1e120 (13,816), so that the bins of small values stay on their sign's side. */
const OFFSET = 20_000;

/** The bin of a value; bins sort as values do. */
export function binOf(value: number): number {
  if (value === 0) return 0;
  const bin = OFFSET + Math.ceil(Math.log(Math.abs(value)) / LN_GAMMA);
  return value > 0 ? bin : -bin;
}

/** The value that stands for a bin: at most 1 % from each value in it. */
export function valueOf(bin: number): number {
  if (bin === 0) return 0;
  const value = (2 * Math.exp((Math.abs(bin) - OFFSET) * LN_GAMMA)) / (GAMMA + 1);
  return bin > 0 ? value : -value;
}

/** Bins in ascending order and how many values each holds. */
export interface Sketch {
  readonly bins: readonly number[];
  readonly counts: readonly number[];
}

/** The sketch of everything that these hold together; exact, in any order. */
export function mergeSketches(sketches: readonly Sketch[]): Sketch {
  const merged = new Map<number, number>();
  for (const { bins, counts } of sketches) {
    for (const [index, bin] of bins.entries()) merged.set(bin, (merged.get(bin) ?? 0) + (counts[index] ?? 0));
  }
  const bins = [...merged.keys()].sort((a, b) => a - b);
  return { bins, counts: bins.map((bin) => merged.get(bin) ?? 0) };
}

/**
 * The quantiles `qs` (0..1, ascending), within [min, max], which are known exactly. Null for a sketch without values.
 */
export function quantiles(sketch: Sketch, qs: readonly number[], min: number, max: number): number[] | null {
  const count = sketch.counts.reduce((sum, n) => sum + n, 0);
  if (count === 0) return null;
  const at = (rank: number): number => Math.min(max, Math.max(min, valueAt(sketch, rank)));
  return qs.map((q) => {
    const rank = q * (count - 1);
    const low = at(Math.floor(rank));
    return low + (rank - Math.floor(rank)) * (at(Math.ceil(rank)) - low);
  });
}

function valueAt(sketch: Sketch, rank: number): number {
  let passed = 0;
  for (const [index, bin] of sketch.bins.entries()) {
    passed += sketch.counts[index] ?? 0;
    if (rank < passed) return valueOf(bin);
  }
  return valueOf(sketch.bins.at(-1) ?? 0);
}
