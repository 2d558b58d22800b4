/**
 * Earthquakes as waves that run through the places of stations: when the P and the S wave pass, and how strong. Pure.
 *
 * Speeds: P 6.5 km/s, S 3.75 km/s (the crust's; P over S = 1.73). Peaks: Cua & Heaton (2009, "Characterizing average
 * properties of southern California ground motion amplitudes and envelopes", EERL), horizontal acceleration on rock.
 */
import { createRandom, type Random } from './random.ts';

/** A place, in degrees. */
export interface Place {
  readonly latitude: number;
  readonly longitude: number;
}

/** An earthquake. `originMs` counts from the start of the run. */
export interface Earthquake extends Place {
  readonly originMs: number;
  readonly magnitude: number;
  readonly depthKm: number;
}

/** What a station feels of it. Times count from the start of the run, ms; peaks in m/s². */
export interface Felt {
  readonly pMs: number;
  readonly sMs: number;
  readonly pPeak: number;
  readonly sPeak: number;
}

/** Which earthquakes there are. */
export interface EarthquakePlan {
  /** The same seed: the same earthquakes. */
  readonly seed: string;
  /** The first one, ms after the start. */
  readonly firstMs: number;
  /** From one to the next, ms. */
  readonly everyMs: number;
  /** How many; null: as long as the run lasts. */
  readonly count: number | null;
  readonly leastMagnitude: number;
  readonly mostMagnitude: number;
  /** Sources lie at most this far from one of these places, km. */
  readonly around: readonly Place[];
  readonly withinKm: number;
}

const EARTH_KM = 6371.0088;
const RADIANS = Math.PI / 180;
const P_KM_S = 6.5;
const S_KM_S = 3.75;
const DEPTH_KM = 15;
/** Below this peak of the P wave a station feels nothing, m/s². */
const FELT_LEAST = 0.003;
/** Coefficients of Cua & Heaton: log10 of the peak in cm/s² = a M - b (R + C) - d log10(R + C) + e. */
const PEAKS = {
  p: { a: 0.72, b: 3.3e-3, c1: 1.6, c2: 1.05, d: 1.2, e: -1.06 },
  s: { a: 0.733, b: 7.216e-4, c1: 1.16, c2: 0.96, d: 1.48, e: -0.4202 },
} as const;

/** Great-circle distance, km (haversine). */
export function distanceKm(a: Place, b: Place): number {
  const north = Math.sin(((b.latitude - a.latitude) * RADIANS) / 2);
  const east = Math.sin(((b.longitude - a.longitude) * RADIANS) / 2);
  const part = north ** 2 + Math.cos(a.latitude * RADIANS) * Math.cos(b.latitude * RADIANS) * east ** 2;
  return 2 * EARTH_KM * Math.asin(Math.min(1, Math.sqrt(part)));
}

/** The place some km north and east; good to a percent within some hundred km, away from the poles. */
export function placeBeside(from: Place, northKm: number, eastKm: number): Place {
  const latitude = Math.max(-89, Math.min(89, from.latitude + northKm / (EARTH_KM * RADIANS)));
  const longitude = from.longitude + eastKm / (EARTH_KM * RADIANS * Math.cos(latitude * RADIANS));
  return { latitude: round(latitude), longitude: round(((longitude + 540) % 360) - 180) };
}

/** A place at most `km` away, every spot alike likely. */
export function placeWithin(from: Place, km: number, random: Random): Place {
  const away = km * Math.sqrt(random.uniform());
  const bearing = 2 * Math.PI * random.uniform();
  return placeBeside(from, away * Math.cos(bearing), away * Math.sin(bearing));
}

/** When earthquake `n` begins, ms of the run; null when there is none. */
export function originOf({ firstMs, everyMs, count }: EarthquakePlan, n: number): number | null {
  return count !== null && n >= count ? null : firstMs + n * everyMs;
}

/** Earthquake `n` of the plan, from its own stream of chance: all processes see the same. */
export function earthquakeOf(plan: EarthquakePlan, n: number): Earthquake {
  const random = createRandom(`${plan.seed}/earthquake/${n}`);
  const centre = plan.around[random.integer(plan.around.length)] ?? { latitude: 0, longitude: 0 };
  const magnitude = plan.leastMagnitude + random.uniform() * (plan.mostMagnitude - plan.leastMagnitude);
  return {
    ...placeWithin(centre, plan.withinKm, random),
    originMs: plan.firstMs + n * plan.everyMs,
    magnitude: Math.round(magnitude * 10) / 10,
    depthKm: DEPTH_KM,
  };
}

/** What a station at `place` feels; null when that is nothing. */
export function feel(earthquake: Earthquake, place: Place): Felt | null {
  const km = Math.hypot(distanceKm(earthquake, place), earthquake.depthKm);
  const pPeak = peak('p', earthquake.magnitude, km);
  if (pPeak < FELT_LEAST) return null;
  return {
    pMs: earthquake.originMs + (km / P_KM_S) * 1000,
    sMs: earthquake.originMs + (km / S_KM_S) * 1000,
    pPeak,
    sPeak: peak('s', earthquake.magnitude, km),
  };
}

/** m/s² at `km` from the source. */
function peak(wave: 'p' | 's', magnitude: number, km: number): number {
  const { a, b, c1, c2, d, e } = PEAKS[wave];
  const far = km + c1 * Math.exp(c2 * (magnitude - 5)) * (Math.atan(magnitude - 5) + 1.4);
  return 10 ** (a * magnitude - b * far - d * Math.log10(far) + e - 2);
}

function round(degrees: number): number {
  return Math.round(degrees * 1e5) / 1e5;
}
