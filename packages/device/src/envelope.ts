/**
 * Envelopes as devices sign them: a compact JWS (RFC 7515) with ES256 (RFC 7518 section 3.4: P-256, SHA-256, r||s).
 *
 * Guarantees: the header has exactly `alg` and `kid`, in that order; what the server would refuse for its form (id, number
 * of readings, size, numbers that JSON cannot write) is an {@link EnvelopeError} here, before anything is signed.
 */
import { type KeyObject, sign } from 'node:crypto';
import type { ProfileName } from '@tocsin/protocol/envelope';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { LIMITS } from '@tocsin/protocol/limits';

/** What an envelope holds. Times are Unix ms; `at` is the moment of signing. */
export interface EnvelopeContent {
  readonly id: string;
  readonly at: number;
  readonly profile: ProfileName;
  /** 1 to 500 readings, as the profile wants them. */
  readonly readings: readonly object[];
}

/** An envelope that no server would take. `rule` names what it breaks. */
export class EnvelopeError extends Error {
  override readonly name = 'EnvelopeError';
  readonly rule: 'id' | 'at' | 'readings' | 'number' | 'size';

  constructor(rule: EnvelopeError['rule'], message: string) {
    super(message);
    this.rule = rule;
  }
}

/** Signs envelopes of one device. */
export interface Signer {
  readonly deviceId: string;
  /** The compact JWS. Throws an {@link EnvelopeError}. */
  seal(content: EnvelopeContent): string;
}

/** Builds the {@link Signer} of a device; `key` is its private P-256 key. */
export function createSigner(deviceId: string, key: KeyObject): Signer {
  if (!isIdentifier(deviceId)) throw new EnvelopeError('id', 'a device id is 1 to 64 of A-Z a-z 0-9 . _ -');
  if (key.type !== 'private' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new TypeError('the key of a device is a private P-256 key');
  }
  const header = Buffer.from(JSON.stringify({ alg: 'ES256', kid: deviceId })).toString('base64url');
  return {
    deviceId,
    seal: (content) => {
      check(content);
      const { id, at, profile, readings } = content;
      const payload = Buffer.from(JSON.stringify({ id, at, profile, readings }, finite)).toString('base64url');
      const signed = `${header}.${payload}`;
      const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
      const sealed = `${signed}.${signature.toString('base64url')}`;
      if (sealed.length > LIMITS.bodyBytes.value) {
        throw new EnvelopeError(
          'size',
          `an envelope has at most ${LIMITS.bodyBytes.value} bytes, not ${sealed.length}`,
        );
      }
      return sealed;
    },
  };
}

function check({ id, at, readings }: EnvelopeContent): void {
  if (!isIdentifier(id)) throw new EnvelopeError('id', 'an envelope id is 1 to 64 of A-Z a-z 0-9 . _ -');
  if (!Number.isSafeInteger(at) || at < 0) throw new EnvelopeError('at', 'at is Unix milliseconds, a whole number');
  const most = LIMITS.readingsPerEnvelope.value;
  if (readings.length < 1 || readings.length > most) {
    throw new EnvelopeError('readings', `an envelope has 1 to ${most} readings, not ${readings.length}`);
  }
}

/** JSON would write NaN and Infinity as null, silently. */
function finite(key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new EnvelopeError('number', `${key} is ${value}, which JSON cannot carry`);
  }
  return value;
}
