/**
 * Magnitude and intensity from peak accelerations: coarse, with its uncertainty. Relation of Cua & Heaton (2009,
 * "Characterizing average properties of southern California ground motion amplitudes and envelopes", EERL; used by the
 * Virtual Seismologist of ShakeAlert and SeisComP): horizontal peak acceleration on rock, cm/s², for P and S waves,
 * log A = a M - b (R + C) - d log(R + C) + e with C = c1 exp(c2 (M - 5)) (atan(M - 5) + 1.4).
 */

/** A peak at a distance from the source, km; of the P wave alone, or after the S wave. */
export interface PeakAt {
  readonly amplitude: number;
  readonly km: number;
  readonly phase: 'P' | 'S';
}

/** An estimate; `uncertainty` is one standard deviation. */
export interface Magnitude {
  readonly value: number;
  readonly uncertainty: number;
  readonly name: MagnitudeClass;
}

/** Classes of the USGS, by whole units from 4 up. */
export type MagnitudeClass = 'minor' | 'light' | 'moderate' | 'strong' | 'major' | 'great';

interface Coefficients {
  readonly a: number;
  readonly b: number;
  readonly c1: number;
  readonly c2: number;
  readonly d: number;
  readonly e: number;
}

const WAVES: Readonly<Record<'P' | 'S', Coefficients>> = {
  P: { a: 0.72, b: 3.3e-3, c1: 1.6, c2: 1.05, d: 1.2, e: -1.06 },
  S: { a: 0.733, b: 7.216e-4, c1: 1.16, c2: 0.96, d: 1.48, e: -0.4202 },
};
/** Standard deviation of log A of both, in units of magnitude: 0.31 / 0.73. */
const SCATTER = 0.42;
/** What more stations do not improve: place and depth are coarse, the source has its own strength. */
const SYSTEMATIC = 0.4;
const [LEAST, MOST] = [2, 9];
/** No estimate above: the relation was fitted to 2 to 7.3, and such peaks are rather a wrong unit than a larger earthquake. */
const LARGEST = 8.5;
const CM = 100;

/** Expected log10 of the peak, cm/s², of an earthquake of magnitude `m` at a hypocentral distance. */
export function expectedLogPeak(m: number, km: number, phase: 'P' | 'S'): number {
  const { a, b, c1, c2, d, e } = WAVES[phase];
  const saturated = Math.hypot(km, 3) + c1 * Math.exp(c2 * (m - 5)) * (Math.atan(m - 5) + 1.4);
  return a * m - b * saturated - d * Math.log10(saturated) + e;
}

/** The magnitude of one peak: the relation rises with it, so bisection finds it. */
function magnitudeAt({ amplitude, km, phase }: PeakAt): number {
  const wanted = Math.log10(Math.max(1e-6, amplitude) * CM);
  let [low, high] = [LEAST, MOST];
  for (let i = 0; i < 24; i += 1) {
    const middle = (low + high) / 2;
    if (expectedLogPeak(middle, km, phase) < wanted) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Median over the stations. Null without any, and where the relation ends. */
export function estimateMagnitude(peaks: readonly PeakAt[]): Magnitude | null {
  const values = peaks.map(magnitudeAt).sort((one, two) => one - two);
  const value = values[values.length >>> 1];
  if (value === undefined || value > LARGEST) return null;
  const uncertainty = Math.hypot(SYSTEMATIC, SCATTER / Math.sqrt(values.length));
  return { value: round(value), uncertainty: round(uncertainty), name: classOf(value) };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function classOf(value: number): MagnitudeClass {
  const names: readonly MagnitudeClass[] = ['minor', 'light', 'moderate', 'strong', 'major', 'great'];
  return names[Math.max(0, Math.min(5, Math.floor(round(value)) - 3))] ?? 'minor';
}

/** Modified Mercalli intensity of a peak acceleration, m/s² (Worden et al. 2012, BSSA 102, 204-221, eq. 3). */
export function intensityOf(amplitude: number): number {
  const log = Math.log10(Math.max(1e-6, amplitude) * CM);
  return Math.max(1, Math.min(10, log <= 1.57 ? 1.78 + 1.55 * log : -1.6 + 3.7 * log));
}
