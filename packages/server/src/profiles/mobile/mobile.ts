/** Phones: the payload of a heartbeat (section 6 of the contract), with an optional `at`. */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { MobileReading, Reading } from '@tocsin/protocol/envelope';
import { boolean, checkObject, numbers, numberWithin, optional, required, time, type Fields } from '../fields.ts';
import type { Measured, Profile } from '../profile.ts';

const finite = numberWithin(-Infinity, Infinity);
const HEARTBEAT: Fields = {
  at: optional(time),
  accelerometer: required(numbers(3, 3)),
  gyroscope: required(numbers(3, 3)),
  overlay: required(finite),
  proximity: required(finite),
  touch_event: optional(boolean),
  motion_delta: optional(finite),
  device_admin_enabled: optional(boolean),
  accessibility_enabled: optional(boolean),
  platform: optional((value) => (value === 'android' || value === 'ios' ? null : 'must be android or ios')),
};

function parse(raw: unknown, signedAt: number, pointer: string, errors: ErrorDetail[]): Reading | null {
  if (!checkObject(raw, HEARTBEAT, pointer, errors)) return null;
  const heartbeat = raw as Partial<MobileReading>;
  return {
    at: heartbeat.at ?? signedAt,
    accelerometer: heartbeat.accelerometer ?? [],
    gyroscope: heartbeat.gyroscope ?? [],
    overlay: heartbeat.overlay ?? 0,
    proximity: heartbeat.proximity ?? 0,
    touch_event: heartbeat.touch_event ?? false,
    motion_delta: heartbeat.motion_delta ?? 0,
    device_admin_enabled: heartbeat.device_admin_enabled ?? true,
    accessibility_enabled: heartbeat.accessibility_enabled ?? true,
    platform: heartbeat.platform ?? 'android',
  };
}

/** Heartbeats have no main number of their own: the trust score that detectors give them is one. */
function measure(reading: Reading): Measured {
  const { overlay, proximity, motion_delta } = reading as MobileReading;
  return { value: null, fields: { overlay, proximity, motion_delta } };
}

/** The mobile profile. */
export const mobileProfile: Profile = { name: 'mobile', parse, measure, notice: () => [], watchers: [] };
