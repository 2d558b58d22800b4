/**
 * The text form of a record's device context, the same on every backend. Pure.
 *
 * `<device number> <zone number> <zone id> <latitude> <longitude>`, parted by single spaces. What is not there is `~`, and
 * is left out at the end: a device with neither zone nor place is its number alone. Records of versions before have no
 * place; they read as such.
 */
import type { DeviceContext } from './log.ts';

/** No zone id, and no number, is written so. */
const NONE = '~';

/** Writes it. */
export function formatContext({ device, zone, zoneId, place }: DeviceContext): string {
  const ofZone = zone === null ? `${NONE} ${NONE}` : `${zone} ${zoneId ?? NONE}`;
  if (place !== undefined) return `${device} ${ofZone} ${place.latitude} ${place.longitude}`;
  return zone === null ? `${device}` : `${device} ${ofZone}`;
}

/** Reads the parts of it; null for a record that has none. */
export function parseContext(parts: readonly string[]): DeviceContext | null {
  const [device = '', zone = NONE, zoneId = NONE, latitude = NONE, longitude = NONE] = parts;
  if (device === '') return null;
  const known = {
    device: Number(device),
    zone: zone === NONE ? null : Number(zone),
    zoneId: zoneId === NONE || zoneId === '' ? null : zoneId,
  };
  if (latitude === NONE || longitude === NONE) return known;
  return { ...known, place: { latitude: Number(latitude), longitude: Number(longitude) } };
}
