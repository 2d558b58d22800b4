/**
 * Checks the signature of an alert: a detached JWS (RFC 7515 appendix F), ES256, over the canonical form of the alert as
 * it was sent, without `signature`.
 *
 * Guarantee: the header is exactly `{"alg":"ES256","kid":…}`; nothing else is taken, whatever the header says.
 */
import { isObject, type ViewerAlert } from './alert-shape.ts';
import { decodeBase64Url, encodeBase64Url } from './base64url.ts';
import { canonical } from './canonical.ts';
import type { Subtle } from './environment.ts';

const ES256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
/** The server's own headers have about 80 characters. */
const HEADER_CHARACTERS = 512;

/** The public part of a key, as a JWKS has it. */
export interface AlertJwk {
  readonly kty: string;
  readonly crv: string;
  readonly x: string;
  readonly y: string;
  readonly kid: string;
}

/** The `kid` that the signature names; null when the signature cannot be one of ours. */
export function signatureKid(signature: string): string | null {
  const [encoded = ''] = signature.split('.', 1);
  const bytes = encoded.length > HEADER_CHARACTERS ? null : decodeBase64Url(encoded);
  if (bytes === null) return null;
  try {
    const header: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const fits = isObject(header) && Object.keys(header).sort().join() === 'alg,kid' && header['alg'] === 'ES256';
    return fits && typeof header['kid'] === 'string' ? header['kid'] : null;
  } catch {
    return null;
  }
}

/** Makes a key ready to check with. Rejects when it is no point of the curve. */
export function importAlertKey(subtle: Subtle, { kty, crv, x, y }: AlertJwk): Promise<unknown> {
  return subtle.importKey('jwk', { kty, crv, x, y }, ES256, false, ['verify']);
}

/** True when the alert carries a signature of the key. Never rejects. */
export async function isSignedBy(subtle: Subtle, key: unknown, alert: ViewerAlert): Promise<boolean> {
  const { signature, ...content } = alert;
  const [header = '', , encoded = ''] = signature.split('.');
  const bytes = decodeBase64Url(encoded);
  if (bytes === null) return false;
  try {
    const utf8 = new TextEncoder();
    const input = utf8.encode(`${header}.${encodeBase64Url(utf8.encode(canonical(content)))}`);
    return await subtle.verify(ES256, key, bytes, input);
  } catch {
    return false;
  }
}
