/**
 * Stages of the original seismic client, whose message is plain JSON with a signature over `<value>:<second>`. What they
 * find goes through the same later stages as an envelope; a replay is the same sensor, value and second.
 */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { Stage } from './stage.ts';

const KEYS = new Set(['value', 'misurator_id', 'device_timestamp', 'signature_hex']);
/** Hex of a DER signature of P-256, at most. */
const SIGNATURE_HEX = /^(?:0x)?((?:[0-9a-fA-F]{2}){8,72})$/;

/** 400 when the body is not JSON, 422 when it is not a measurement. */
export const parseOriginal: Stage = (draft) => {
  let payload: unknown;
  try {
    payload = JSON.parse(draft.body);
  } catch {
    return { code: 'malformed-json', detail: 'The body is not JSON' };
  }
  const errors: ErrorDetail[] = [];
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) {
    return {
      code: 'schema',
      detail: 'The body must be an object',
      errors: [{ pointer: '', detail: 'must be an object' }],
    };
  }
  const {
    value,
    misurator_id: sensor,
    device_timestamp: timestamp,
    signature_hex: signature,
  } = payload as Record<string, unknown>;
  for (const key of Object.keys(payload)) {
    if (!KEYS.has(key)) errors.push({ pointer: `/${key.slice(0, 64)}`, detail: 'is not a known key' });
  }
  if (!Number.isSafeInteger(value)) errors.push({ pointer: '/value', detail: 'must be a whole number' });
  if (!Number.isSafeInteger(sensor) || (sensor as number) < 1) {
    errors.push({ pointer: '/misurator_id', detail: 'must be a whole number above 0' });
  }
  if (typeof timestamp !== 'number' || !Number.isFinite(timestamp) || timestamp < 0 || timestamp > 1e11) {
    errors.push({ pointer: '/device_timestamp', detail: 'must be Unix seconds' });
  }
  const hex = typeof signature === 'string' ? SIGNATURE_HEX.exec(signature)?.[1] : undefined;
  if (hex === undefined) errors.push({ pointer: '/signature_hex', detail: 'must be a signature in hex' });
  if (errors.length > 0 || hex === undefined) {
    return { code: 'schema', detail: `${errors[0]?.pointer} ${errors[0]?.detail}`, errors };
  }
  const second = Math.trunc(timestamp as number);
  const at = second * 1000;
  draft.deviceId = `m${sensor as number}`;
  draft.signed = `${value as number}:${second}`;
  draft.signature = Buffer.from(hex, 'hex');
  draft.payload = { value, at };
  draft.identity = `original:${value as number}:${second}`;
  return null;
};

/** The measurement as an envelope. The fraction of the second is not signed, so it counts for nothing. */
export const originalEnvelope: Stage = (draft) => {
  const { value, at } = draft.payload as { value: number; at: number };
  if (draft.device?.profile !== 'seismic') return { code: 'schema', detail: 'The device is not a seismic sensor' };
  draft.envelope = { id: draft.identity ?? '', at, profile: 'seismic', readings: [{ at, value }] };
  draft.record = JSON.stringify({ id: draft.identity, at, profile: 'seismic', readings: [{ at, value }] });
  return null;
};
