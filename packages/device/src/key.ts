/** The P-256 keys of devices (FIPS 186-5): made, and in the forms that the server takes a public key in. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';

/** A new private key. */
export function createKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

/** The public key of `key` as PEM (SubjectPublicKeyInfo), for `POST /v1/devices`. */
export function publicKeyPem(key: KeyObject): string {
  return String(createPublicKey(key).export({ type: 'spki', format: 'pem' }));
}
