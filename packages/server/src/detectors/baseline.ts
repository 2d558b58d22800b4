/**
 * What is usual of a number that is counted in windows of one length: a moving mean and a moving mean deviation, and the
 * threshold that follows from them. Pure.
 *
 * Both are exponentially weighted moving averages (Roberts, Technometrics 1, 1959; NIST/SEMATECH e-Handbook 6.3.2.4). The
 * deviation is kept as RFC 6298 section 2 keeps that of round trips: the mean of |mean - x|, before x moves the mean, with
 * twice the mean's gain. The first windows weigh alike (a plain average), so that nothing hangs on the very first.
 * Once there is a threshold, what lies over it counts as the threshold: robust exponential smoothing (Gelper, Fried, Croux,
 * Journal of Forecasting 29, 2010). So a flood does not make itself usual at once; one that stays does within minutes.
 */

/** How a threshold follows from what is usual. */
export interface BaselineOptions {
  /** The least threshold. */
  readonly floor: number;
  /** Windows that are only learned from. */
  readonly warmUp: number;
}

/** What is usual, per window. */
export interface Baseline {
  /** Windows learned. */
  readonly seen: number;
  readonly mean: number;
  readonly deviation: number;
}

/** Gain of the mean: of windows of 10 s, those of the last five minutes count most. */
const GAIN = 1 / 32;
/**
 * Mean deviations over the mean, and times the mean, that are still usual; the larger one counts. For a Poisson process eight
 * mean deviations are six standard deviations; where these are small beside the mean, three times as many is the bound.
 */
const DEVIATIONS = 8;
const TIMES = 3;
/** More windows without anything change nothing that a number could show: (31/32)^4000 is 1e-55. */
const MOST_EMPTY = 4000;

/** Nothing is known yet. */
export const NOTHING_USUAL: Baseline = { seen: 0, mean: 0, deviation: 0 };

/** What a window may hold; null while there is not enough to say. */
export function thresholdOf({ floor, warmUp }: BaselineOptions, { seen, mean, deviation }: Baseline): number | null {
  return seen < warmUp ? null : Math.max(floor, TIMES * mean, mean + DEVIATIONS * deviation);
}

/** Learns a window in which `counted` were counted. */
export function learn(options: BaselineOptions, baseline: Baseline, counted: number): Baseline {
  const { seen, mean, deviation } = baseline;
  const x = Math.min(counted, thresholdOf(options, baseline) ?? counted);
  const gain = Math.max(GAIN, 1 / (seen + 1));
  const gainOfDeviation = Math.max(2 * GAIN, 1 / (seen + 1));
  return {
    seen: seen + 1,
    mean: mean + gain * (x - mean),
    // Before there is a mean there is nothing to deviate from.
    deviation: seen === 0 ? 0 : deviation + gainOfDeviation * (Math.abs(mean - x) - deviation),
  };
}

/** Learns `windows` windows in which nothing was counted. */
export function learnEmpty(options: BaselineOptions, baseline: Baseline, windows: number): Baseline {
  let learned = baseline;
  for (let n = Math.min(windows, MOST_EMPTY); n > 0; n -= 1) learned = learn(options, learned, 0);
  return { ...learned, seen: baseline.seen + windows };
}
