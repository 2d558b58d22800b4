/** Public keys for tests of the registry. */
import { generateKeyPairSync } from 'node:crypto';

/** The PEM of a new P-256 key. */
export function newKey(): string {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'pem', type: 'spki' }) as string;
}

/** The uncompressed point of such a PEM, in hex. */
export function hexOf(pem: string): string {
  return Buffer.from(pem.replaceAll(/-----.*?-----|\s/g, ''), 'base64')
    .subarray(-65)
    .toString('hex');
}
