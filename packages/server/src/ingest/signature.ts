/**
 * P-256 signatures over SHA-256 (ECDSA, FIPS 186-5), 64 bytes r||s (IEEE P1363) or else DER.
 *
 * r||s is turned into DER first: OpenSSL checks that form strictly, and on Node 24 it is the faster one.
 */
import { type KeyObject, verify } from 'node:crypto';
import type { Stage } from './stage.ts';

const RAW_BYTES = 64;
const HALF = 32;

/** DER (X.690) of a 64-byte r||s signature; anything of another length is answered as it is. */
export function toDer(signature: Buffer): Buffer {
  if (signature.length !== RAW_BYTES) return signature;
  const r = integer(signature.subarray(0, HALF));
  const s = integer(signature.subarray(HALF));
  return Buffer.concat([Buffer.from([0x30, r.length + s.length]), r, s]);
}

/** DER INTEGER of an unsigned big-endian number: no leading zeros but the one that keeps it positive. */
function integer(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const digits = bytes.subarray(start);
  const padding = (digits[0] ?? 0) >= 0x80 ? [0] : [];
  return Buffer.concat([Buffer.from([0x02, digits.length + padding.length, ...padding]), digits]);
}

/** Checks a signature over `text` (ASCII) on the thread pool; false for anything that is not one. */
export function verifySignature(text: string, key: KeyObject, signature: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    try {
      verify('sha256', Buffer.from(text, 'latin1'), key, toDer(signature), (error, good) =>
        resolve(error === null && good),
      );
    } catch {
      resolve(false);
    }
  });
}

/** The same on this thread, at once. */
export function verifyNow(text: string, key: KeyObject, signature: Buffer): boolean {
  try {
    return verify('sha256', Buffer.from(text, 'latin1'), key, toDer(signature));
  } catch {
    return false;
  }
}

/** Checks a signature over ASCII text. */
export type CheckSignature = (text: string, key: KeyObject, signature: Buffer) => Promise<boolean>;

/** Stage: 401 unless the device's registered key made the signature. */
export function checkSignature(check: CheckSignature): Stage {
  return async ({ signed, signature, device }) => {
    const key = device?.key ?? null;
    const good = signed !== null && signature !== null && key !== null && (await check(signed, key, signature));
    return good
      ? null
      : { code: 'signature-invalid', detail: 'The signature does not check against the key of the device' };
  };
}
