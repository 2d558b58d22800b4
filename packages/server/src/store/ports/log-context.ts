/**
 * The text form of a record's device context, the same on every backend. Pure.
 *
 * `<device number> <zone number> <zone id> <latitude> <longitude>`, parted by single spaces. What is not there is `~`, and
 * is left out at the end: a device with neither zone nor place is its number alone. Records of versions before have no
 * place; they read as such.
 *
 * Of an exercise device it is `<device number> ~ ~ ~ ~ exercise` with the rest behind, in the same form. A version that
 * does not know the word stops before it and sees a device with neither zone nor place, which has a vote nowhere: in a
 * mixed installation too, no worker makes an actual alert of it.
 */
import type { DeviceContext } from './log.ts';

/** No zone id, and no number, is written so. */
const NONE = '~';
/** What stands at the sixth place of an exercise device's text. */
const EXERCISE = 'exercise';
const EXERCISE_AT = 5;

/** Writes it. */
export function formatContext(context: DeviceContext): string {
  const rest = formatRest(context);
  const { device } = context;
  if (context.exercise === true)
    return `${device} ${NONE} ${NONE} ${NONE} ${NONE} ${EXERCISE}${rest === '' ? '' : ` ${rest}`}`;
  return rest === '' ? `${device}` : `${device} ${rest}`;
}

/** Zone and place; empty for a device with neither. */
function formatRest({ zone, zoneId, place }: DeviceContext): string {
  const ofZone = zone === null ? `${NONE} ${NONE}` : `${zone} ${zoneId ?? NONE}`;
  if (place !== undefined) return `${ofZone} ${place.latitude} ${place.longitude}`;
  return zone === null ? '' : ofZone;
}

/** Reads the parts of it; null for a record that has none. */
export function parseContext(parts: readonly string[]): DeviceContext | null {
  const device = parts[0] ?? '';
  if (device === '') return null;
  const exercise = parts[EXERCISE_AT] === EXERCISE;
  const from = exercise ? EXERCISE_AT + 1 : 1;
  const zone = parts[from] ?? NONE;
  const zoneId = parts[from + 1] ?? NONE;
  const latitude = parts[from + 2] ?? NONE;
  const longitude = parts[from + 3] ?? NONE;
  const known = {
    device: Number(device),
    zone: zone === NONE ? null : Number(zone),
    zoneId: zoneId === NONE || zoneId === '' ? null : zoneId,
  };
  const placed =
    latitude === NONE || longitude === NONE
      ? known
      : { ...known, place: { latitude: Number(latitude), longitude: Number(longitude) } };
  return exercise ? { ...placed, exercise } : placed;
}
