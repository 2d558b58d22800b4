/**
 * The frame of host metrics as it arrives (section 4 of the contract): its text, strictly, into a reading. Pure.
 *
 * Guarantee: whatever the text, it answers and never throws. What is wrong is told as places and rules, never as the value.
 */
import type { HostReading } from '@tocsin/protocol/envelope';
import { MAX_ERROR_DETAILS, type ErrorDetail } from '@tocsin/protocol/errors';
import { checkObject, type Field, type Fields, required } from '../fields.ts';
import { NUMBERS, numbersOf } from './host.ts';

/** The latest `timestamp`: its milliseconds are the last that a number holds exactly. */
export const LATEST_TIMESTAMP = 9_007_199_254_740;

/** A frame's text, read: not JSON at all, an object that breaks rules, or a reading. */
export type FrameText =
  | { readonly kind: 'malformed' }
  | { readonly kind: 'broken'; readonly errors: readonly ErrorDetail[] }
  | { readonly kind: 'frame'; readonly reading: HostReading };

const seconds: Field['check'] = (value) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= LATEST_TIMESTAMP
    ? null
    : `must be Unix seconds, a whole number from 0 to ${LATEST_TIMESTAMP}`;

/** The rules but for whose frame it is. */
const FRAME: Fields = {
  device_id: required(() => null),
  timestamp: required(seconds),
  ...NUMBERS,
};

/**
 * Reads the text of a frame that came on the topic of `deviceId`. Of a member that is there twice the last one counts, as
 * in every JSON.parse; `at` is `timestamp` in ms, absent optionals are null.
 */
export function parseFrame(text: string, deviceId: string): FrameText {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    return { kind: 'malformed' };
  }
  const errors: ErrorDetail[] = [];
  if (checkObject(raw, FRAME, '', errors)) {
    if (raw['device_id'] === deviceId)
      // Adding 0 makes 0 of -0, so that equal content has equal text.
      return { kind: 'frame', reading: { at: (raw['timestamp'] as number) * 1000 + 0, ...numbersOf(raw) } };
    errors.push({ pointer: '/device_id', detail: 'must be the device of the topic' });
  }
  return { kind: 'broken', errors: errors.slice(0, MAX_ERROR_DETAILS) };
}
