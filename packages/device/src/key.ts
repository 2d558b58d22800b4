/**
 * The P-256 keys of devices (FIPS 186-5): made, kept in a file, and in the forms that the server takes a public key in.
 *
 * Guarantee of the file: PKCS#8 PEM, mode 0600, whole and on the disk before it is used; never overwritten. Failure: a
 * DeviceError that names the path and the rule, never the content.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { open } from 'node:fs/promises';
import { createOnce } from './create-once.ts';
import { DeviceError, diskError, systemCode } from './device-error.ts';

/** A key file larger than this is none. */
const KEY_FILE_BYTES = 16_384;
/** Read or write for group or others. */
const OPEN_TO_OTHERS = 0o077;

/** A new private key. */
export function createKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

/** The public key of `key` as PEM (SubjectPublicKeyInfo), for `POST /v1/devices`. */
export function publicKeyPem(key: KeyObject): string {
  return String(createPublicKey(key).export({ type: 'spki', format: 'pem' }));
}

/** The public key of `key` as the hex of its uncompressed point (130 digits, SEC 1 section 2.3.3), for `POST /misurators/`. */
export function publicKeyHex(key: KeyObject): string {
  const { x = '', y = '' } = createPublicKey(key).export({ format: 'jwk' });
  return `04${Buffer.from(x, 'base64url').toString('hex')}${Buffer.from(y, 'base64url').toString('hex')}`;
}

/**
 * The private key in the file at `path`; where there is none, a new one is made and kept there. Two processes at once
 * end with the same key. Rejects with `key-file-open`, `key-file-invalid`, `disk-full` or `folder-unusable`.
 */
export async function loadOrCreateKey(path: string): Promise<KeyObject> {
  const kept = await loadKey(path);
  if (kept !== null) return kept;
  const made = createKey();
  const pem = String(made.export({ type: 'pkcs8', format: 'pem' }));
  const mine = await createOnce(path, pem).catch((error: unknown) => {
    throw diskError(path, error);
  });
  if (mine) return made;
  const other = await loadKey(path);
  if (other !== null) return other;
  throw new DeviceError('folder-unusable', `${path} came and went while a key was made`);
}

/** Null when there is no such file. Mode and content are those of one opened file. */
async function loadKey(path: string): Promise<KeyObject | null> {
  const file = await open(path, 'r').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw diskError(path, error);
  });
  if (file === null) return null;
  try {
    const { mode, size } = await file.stat();
    // Windows has no such modes.
    if (process.platform !== 'win32' && (mode & OPEN_TO_OTHERS) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0');
      throw new DeviceError('key-file-open', `${path} has mode ${shown}; a private key must be 0600`);
    }
    if (size > KEY_FILE_BYTES) throw invalid(path);
    return parseKey(path, await file.readFile('utf8'));
  } catch (error) {
    throw diskError(path, error);
  } finally {
    await file.close();
  }
}

function parseKey(path: string, pem: string): KeyObject {
  const key = readPem(pem);
  if (key === null || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw invalid(path);
  return key;
}

function readPem(pem: string): KeyObject | null {
  try {
    return createPrivateKey(pem);
  } catch {
    // The library's message may quote the content.
    return null;
  }
}

function invalid(path: string): DeviceError {
  return new DeviceError('key-file-invalid', `${path} holds no private P-256 key; expected is PKCS#8 as PEM`);
}
