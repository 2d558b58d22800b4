/** Places on the Earth and the times that waves need. Distances in km, times in ms, angles in degrees. */
import type { NetworkParameters } from '../profiles/seismic/detection.ts';

/** A place. */
export interface Place {
  readonly latitude: number;
  readonly longitude: number;
}

/** Mean radius of the Earth, km (IUGG). */
const EARTH_KM = 6371.0088;
const RADIANS = Math.PI / 180;

/** Great-circle distance, km (haversine). */
export function distanceKm(a: Place, b: Place): number {
  const north = Math.sin(((b.latitude - a.latitude) * RADIANS) / 2);
  const east = Math.sin(((b.longitude - a.longitude) * RADIANS) / 2);
  const part = north * north + Math.cos(a.latitude * RADIANS) * Math.cos(b.latitude * RADIANS) * east * east;
  return 2 * EARTH_KM * Math.asin(Math.min(1, Math.sqrt(part)));
}

/** The place `km` away in the direction `bearing`, good to a percent within some hundred km. */
export function offset(from: Place, km: number, bearing: number): Place {
  const degrees = km / (EARTH_KM * RADIANS);
  const latitude = Math.max(-89.9, Math.min(89.9, from.latitude + degrees * Math.cos(bearing * RADIANS)));
  const east = (degrees * Math.sin(bearing * RADIANS)) / Math.cos(latitude * RADIANS);
  return { latitude, longitude: ((from.longitude + east + 540) % 360) - 180 };
}

/** Travel time of the P wave over `km` on the surface, ms. */
export function pTravelMs({ depthKm, pSpeed }: NetworkParameters, km: number): number {
  return (Math.hypot(km, depthKm) / pSpeed) * 1000;
}

/** The same for the S wave. */
export function sTravelMs({ depthKm, sSpeed }: NetworkParameters, km: number): number {
  return (Math.hypot(km, depthKm) / sSpeed) * 1000;
}

/** Residual that is allowed at a travel time, ms. */
export function toleranceMs({ toleranceSeconds, toleranceShare }: NetworkParameters, travelMs: number): number {
  return toleranceSeconds * 1000 + toleranceShare * travelMs;
}
