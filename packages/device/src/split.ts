/**
 * Readings into envelopes: as few as fit the bounds of the wire. Pure.
 * Guarantee: every envelope has 1 to 500 readings and, signed, at most 256 KiB; order is kept; nothing is lost.
 */
import type { ProfileName } from '@tocsin/protocol/envelope';
import { LIMITS } from '@tocsin/protocol/limits';
import { DeviceError } from './device-error.ts';

/** The readings of one envelope. */
export interface Part {
  readonly count: number;
  /** Their array as JSON. */
  readonly readings: string;
}

/** Longest id, largest time and the names around them. */
const PAYLOAD_FRAME: number = JSON.stringify({ id: 'x'.repeat(64), at: 8.64e15, profile: '', readings: [] }).length;
/** A signature of 64 bytes and two dots. */
const SIGNATURE_FRAME = 86 + 2;

/** The most bytes that an envelope's array of readings may have as JSON. */
export function readingsRoom(deviceId: string, profile: ProfileName): number {
  const header = Math.ceil((JSON.stringify({ alg: 'ES256', kid: deviceId }).length * 4) / 3);
  const payload = Math.floor(((LIMITS.bodyBytes.value - SIGNATURE_FRAME - header) * 3) / 4);
  return payload - PAYLOAD_FRAME - profile.length;
}

/** Splits. Throws `reading-invalid` or `reading-too-large`, naming the reading by its place. */
export function splitReadings(readings: readonly object[], room: number): Part[] {
  // Callers without types may pass anything.
  const isList: boolean = Array.isArray(readings);
  if (!isList || readings.length === 0) {
    throw new DeviceError('reading-invalid', 'a report has at least one reading');
  }
  const parts: Part[] = [];
  let texts: string[] = [];
  let bytes = 2;
  const close = (): void => {
    if (texts.length > 0) parts.push({ count: texts.length, readings: `[${texts.join(',')}]` });
    texts = [];
    bytes = 2;
  };
  for (const [index, reading] of readings.entries()) {
    const text = readingText(reading, index);
    const size = Buffer.byteLength(text) + 1;
    if (size + 2 > room) {
      throw new DeviceError(
        'reading-too-large',
        `reading ${index} has ${size - 1} bytes as JSON, at most ${room - 3} fit`,
      );
    }
    if (texts.length === LIMITS.readingsPerEnvelope.value || bytes + size > room) close();
    texts.push(text);
    bytes += size;
  }
  close();
  return parts;
}

function readingText(reading: object, index: number): string {
  const refuse = (why: string): DeviceError => new DeviceError('reading-invalid', `reading ${index} ${why}`);
  let text: string | undefined;
  try {
    text = JSON.stringify(reading, (key, value: unknown) => {
      if (typeof value === 'number' && !Number.isFinite(value)) throw refuse(`has ${value} as ${key}`);
      return value;
    });
  } catch (error) {
    // A cycle, a bigint, a getter that throws.
    throw error instanceof DeviceError ? error : refuse('cannot be written as JSON');
  }
  if (text === undefined || !text.startsWith('{')) throw refuse('is no object');
  return text;
}
