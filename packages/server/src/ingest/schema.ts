/** Stage: the payload is an envelope of the device's profile, and every reading keeps its rules. */
import type { ErrorDetail, Refusal } from '@tocsin/protocol/errors';
import { MAX_ERROR_DETAILS } from '@tocsin/protocol/errors';
import { type Envelope, type ProfileName, PROFILES, type Reading } from '@tocsin/protocol/envelope';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { LIMITS } from '@tocsin/protocol/limits';
import type { IngestDevice, Stage } from './stage.ts';

/** Checks one raw reading of a profile (see `profiles/profile.ts`). */
export type ParseReading = (raw: unknown, signedAt: number, pointer: string, errors: ErrorDetail[]) => Reading | null;

const KEYS = new Set(['id', 'at', 'profile', 'readings']);

/** 422 with the places and rules that are broken; one bad reading refuses the whole envelope. */
export function checkSchema(profiles: Readonly<Record<ProfileName, ParseReading>>): Stage {
  return (draft) => {
    const { device, payload } = draft;
    if (device === null) return broken([{ pointer: '', detail: 'comes from no device' }]);
    const errors: ErrorDetail[] = [];
    const envelope = parseEnvelope(payload, device, profiles, draft.receivedAt, errors);
    if (envelope === null) return broken(errors);
    draft.envelope = envelope;
    draft.identity = envelope.id;
    return null;
  };
}

function broken(errors: readonly ErrorDetail[]): Refusal {
  const first = errors[0];
  const detail =
    first === undefined ? 'The envelope breaks the schema' : `${first.pointer || 'The payload'} ${first.detail}`;
  return { code: 'schema', detail, errors };
}

function parseEnvelope(
  payload: unknown,
  device: IngestDevice,
  profiles: Readonly<Record<ProfileName, ParseReading>>,
  receivedAt: number,
  errors: ErrorDetail[],
): Envelope | null {
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) {
    errors.push({ pointer: '', detail: 'must be an object' });
    return null;
  }
  const { id, at, profile, readings } = payload as Record<string, unknown>;
  for (const key of Object.keys(payload)) {
    if (!KEYS.has(key)) errors.push({ pointer: `/${key.slice(0, 64)}`, detail: 'is not a known key' });
  }
  if (!isIdentifier(id)) errors.push({ pointer: '/id', detail: 'must be 1 to 64 of A-Z a-z 0-9 . _ -' });
  if (!Number.isSafeInteger(at) || (at as number) < 0) {
    errors.push({ pointer: '/at', detail: 'must be Unix milliseconds, a whole number' });
  }
  if (!PROFILES.some((name) => name === profile)) {
    errors.push({ pointer: '/profile', detail: `must be one of ${PROFILES.join(', ')}` });
  } else if (profile !== device.profile) {
    errors.push({ pointer: '/profile', detail: `must be the profile of the device, ${device.profile}` });
  }
  if (!Array.isArray(readings) || readings.length < 1 || readings.length > LIMITS.readingsPerEnvelope.value) {
    errors.push({ pointer: '/readings', detail: `must be 1 to ${LIMITS.readingsPerEnvelope.value} readings` });
  }
  if (errors.length > 0) return null;
  const checked = parseReadings(readings as unknown[], at as number, profiles[device.profile], receivedAt, errors);
  return errors.length > 0 ? null : { id: id as string, at: at as number, profile: device.profile, readings: checked };
}

function parseReadings(
  raw: readonly unknown[],
  signedAt: number,
  parse: ParseReading,
  receivedAt: number,
  errors: ErrorDetail[],
): Reading[] {
  const readings: Reading[] = [];
  for (let i = 0; i < raw.length && errors.length < MAX_ERROR_DETAILS; i += 1) {
    const pointer = `/readings/${i}`;
    const reading = parse(raw[i], signedAt, pointer, errors);
    if (reading === null) continue;
    if (reading.at > receivedAt + LIMITS.readingAheadMs.value) {
      errors.push({ pointer: `${pointer}/at`, detail: 'lies more than 30 s ahead of the server' });
    } else if (reading.at < receivedAt - LIMITS.readingBehindMs.value) {
      errors.push({ pointer: `${pointer}/at`, detail: 'lies more than 7 days back' });
    }
    readings.push(reading);
  }
  return readings;
}
