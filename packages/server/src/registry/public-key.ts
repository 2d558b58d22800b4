/**
 * Public keys of devices as people paste them, in one canonical form: DER SubjectPublicKeyInfo of an uncompressed point
 * on P-256 (RFC 5480). A private key pasted by mistake is refused, and no part of any key is ever echoed.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';

/** SubjectPublicKeyInfo of P-256 up to the point: ecPublicKey, prime256v1, BIT STRING. */
const PREFIX: Buffer = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');

/** Why a text is no public key of a device. */
export type KeyFault = 'form' | 'private' | 'curve';

/** What is wrong, for people. */
export const KEY_FAULTS: Readonly<Record<KeyFault, string>> = {
  form: 'must be a P-256 public key: PEM, hex of its DER SubjectPublicKeyInfo, of its uncompressed point, or of x and y',
  private: 'is a private key; send the public one, and replace this key: it has left its device',
  curve: 'is not a point of the curve P-256',
};

/** A key in canonical form, or why not. */
export type ParsedKey = { readonly der: Buffer } | { readonly fault: KeyFault };

/** DER of a PEM block `PUBLIC KEY`, of hex DER, or made of the hex point; null for another form. */
function toDer(text: string): Buffer | null {
  const pem = /^-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----$/.exec(text);
  if (pem?.[1] !== undefined) return Buffer.from(pem[1], 'base64');
  if (!/^(?:[0-9a-fA-F]{2})+$/.test(text)) return null;
  const bytes = Buffer.from(text, 'hex');
  if (bytes.length === 64) return Buffer.concat([PREFIX, Buffer.from([4]), bytes]);
  if (bytes.length === 65 && bytes[0] === 4) return Buffer.concat([PREFIX, bytes]);
  return bytes[0] === 0x30 ? bytes : null;
}

/** True for hex DER that begins like PKCS #8 or SEC 1: SEQUENCE, INTEGER version. */
function looksPrivate(text: string): boolean {
  return /PRIVATE/i.test(text) || /"d"\s*:/.test(text) || /^30(?:[0-7][0-9a-f]|81..|82....)02010[01]/i.test(text);
}

/** Parses a public key (see the head). Pure. */
export function parsePublicKey(input: string): ParsedKey {
  const text = input.trim();
  if (looksPrivate(text)) return { fault: 'private' };
  const der = toDer(text);
  // OpenSSL passes over what follows the key; the one length of a P-256 key (short form) does not.
  if (der === null || der[1] !== der.length - 2) return { fault: 'form' };
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
      return { fault: 'form' };
    const { x = '', y = '' } = key.export({ format: 'jwk' });
    return { der: Buffer.concat([PREFIX, Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]) };
  } catch {
    // The parser refuses a point off the curve, and what is no SubjectPublicKeyInfo at all.
    return {
      fault: der.length === PREFIX.length + 65 && der.subarray(0, PREFIX.length).equals(PREFIX) ? 'curve' : 'form',
    };
  }
}

/** The key of a canonical DER; throws on another. */
export function keyObject(der: Buffer): KeyObject {
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

/** A canonical DER as PEM (RFC 7468). */
export function toPem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN PUBLIC KEY-----\n${lines.join('\n')}\n-----END PUBLIC KEY-----\n`;
}
