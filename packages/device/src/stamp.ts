/**
 * The time of readings that say none: the moment of their report, by the server's clock. Pure.
 * Guarantee: a reading that has an `at` is never changed, and neither are the caller's objects.
 */
import type { ProfileName } from '@tocsin/protocol/envelope';
import { DeviceError } from './device-error.ts';

/** The places of the readings that want a time. Callers without types may pass anything; it is refused later. */
export function untimedPlaces(readings: readonly object[]): ReadonlySet<number> {
  const isList: boolean = Array.isArray(readings);
  if (!isList) return new Set();
  return new Set(readings.flatMap((reading, index) => (isUntimed(reading) ? [index] : [])));
}

function isUntimed(reading: unknown): boolean {
  if (typeof reading !== 'object' || reading === null || Array.isArray(reading)) return false;
  // What writes itself as JSON is not ours to copy.
  if ('toJSON' in reading) return false;
  return (reading as { readonly at?: unknown }).at === undefined;
}

/**
 * The readings, those at `places` with `at` (Unix ms). Throws `reading-invalid` for a waveform packet there: it began
 * before it was reported, and only the app knows when.
 */
export function stampReadings(
  profile: ProfileName,
  readings: readonly object[],
  places: ReadonlySet<number>,
  at: number,
): readonly object[] {
  if (places.size === 0) return readings;
  return readings.map((reading, index) => {
    if (!places.has(index)) return reading;
    if (profile === 'seismic' && 'rate' in reading) {
      const why = `reading ${index} is a waveform packet and needs the time of its first sample`;
      throw new DeviceError('reading-invalid', why);
    }
    return { ...reading, at };
  });
}
