/**
 * The proof of a device's key when it signs in (`POST /v1/auth/device`).
 *
 * Guarantee: what is signed is `tocsin-challenge:<device_id>:<nonce>` and nothing else. The nonce comes from outside; its
 * form is checked first, so that no one gets a signature over a text of their own (an envelope contains dots, which a
 * nonce cannot, and begins otherwise).
 */
import { type KeyObject, sign } from 'node:crypto';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { DeviceError } from './device-error.ts';

/** docs/protocol.md, section on people and mobile devices. */
const NONCE = /^[A-Za-z0-9_-]{22,64}$/;

/** The signature (SHA-256, P-256, r||s) as base64url. Throws a DeviceError `challenge-invalid`. */
export function signChallenge(key: KeyObject, deviceId: string, nonce: string): string {
  if (!isIdentifier(deviceId)) {
    throw new DeviceError('challenge-invalid', 'a device id is 1 to 64 of A-Z a-z 0-9 . _ -');
  }
  if (typeof nonce !== 'string' || !NONCE.test(nonce)) {
    throw new DeviceError('challenge-invalid', 'a nonce is 22 to 64 of A-Z a-z 0-9 _ -');
  }
  const text = Buffer.from(`tocsin-challenge:${deviceId}:${nonce}`, 'ascii');
  return sign('sha256', text, { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
}
