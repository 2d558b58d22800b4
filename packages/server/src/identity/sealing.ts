/**
 * Private keys at rest: AES-256-GCM (NIST SP 800-38D) under the cluster's sealing key, with what the key is for as
 * associated data, so that a sealed key cannot be moved to another row. Form: nonce (12) | ciphertext | tag (16).
 * Failure: `unseal` throws a CodedError `cluster-secret-wrong` when anything does not fit.
 */
import { createCipheriv, createDecipheriv, randomBytes, type KeyObject } from 'node:crypto';
import { CodedError } from '../lib/coded-error.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts `plain`; `context` must be given again to open it. */
export function seal(key: KeyObject, plain: Buffer, context: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(context, 'utf8'));
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Opens what {@link seal} made with the same key and context. */
export function unseal(key: KeyObject, sealed: Buffer, context: string): Buffer {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(context, 'utf8'));
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new CodedError(
      'cluster-secret-wrong',
      `A key in the store does not open with this CLUSTER_SECRET (${context})`,
      { cause },
    );
  }
}
