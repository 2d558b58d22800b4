/**
 * Signatures of what viewers and devices are told: a detached JWS `<header>..<signature>` (RFC 7515 appendix F), ES256
 * (RFC 7518 section 3.4, r||s of 64 bytes) over the canonical form (RFC 8785) of the object without `signature`.
 *
 * Guarantees: the header is exactly {"alg":"ES256","kid":…}; `verify` accepts nothing else, whatever the header says.
 */
import { createPublicKey, type JsonWebKey, type KeyObject, sign, verify } from 'node:crypto';
import type { Alert } from '@tocsin/protocol/alert';
import { canonical } from '../lib/canonical-json.ts';

/** A key to sign with: P-256, and the id by which the JWKS knows its public half. */
export interface Signer {
  readonly kid: string;
  readonly privateKey: KeyObject;
}

/** A public key as the JWKS shows it. */
export interface PublicJwk {
  readonly kty?: string;
  readonly crv?: string;
  readonly x?: string;
  readonly y?: string;
  readonly kid?: string;
}

const SIGNATURE_BYTES = 64;
/** Our own headers have about 80 characters. */
const HEADER_CHARACTERS = 512;
const DETACHED = /^([A-Za-z0-9_-]+)\.\.([A-Za-z0-9_-]+)$/;

function signingInput(header: string, content: object): Buffer {
  return Buffer.from(`${header}.${Buffer.from(canonical(content)).toString('base64url')}`, 'ascii');
}

/** Signs a JSON object that has no `signature` yet. Throws `not-canonical` when it is not JSON. */
export function signDetached(content: object, signer: Signer): string {
  const header = Buffer.from(JSON.stringify({ alg: 'ES256', kid: signer.kid })).toString('base64url');
  const signature = sign('sha256', signingInput(header, content), {
    key: signer.privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  return `${header}..${signature.toString('base64url')}`;
}

/** Signs one revision of an alert; answers it whole. */
export function signAlert(alert: Omit<Alert, 'signature'>, signer: Signer): Alert {
  return { ...alert, signature: signDetached(alert, signer) };
}

/** True when `signature` is one of `content` by the key, which must be P-256; a `kid` of the key must match the header's. */
export function verifyDetached(content: object, signature: string, jwk: PublicJwk): boolean {
  const [, header, encoded] = DETACHED.exec(signature) ?? [];
  if (header === undefined || encoded === undefined || header.length > HEADER_CHARACTERS) return false;
  const bytes = Buffer.from(encoded, 'base64url');
  // The re-encoding refuses a second spelling of the same bytes.
  if (bytes.length !== SIGNATURE_BYTES || bytes.toString('base64url') !== encoded) return false;
  if (!headerFits(header, jwk.kid)) return false;
  const key = publicKey(jwk);
  return key !== null && verify('sha256', signingInput(header, content), { key, dsaEncoding: 'ieee-p1363' }, bytes);
}

/** True when the alert, as it was received, carries a signature of the key. */
export function verifyAlert(alert: Alert, jwk: PublicJwk): boolean {
  const { signature, ...content } = alert;
  return typeof signature === 'string' && verifyDetached(content, signature, jwk);
}

function headerFits(encoded: string, kid: string | undefined): boolean {
  let header: unknown;
  try {
    header = JSON.parse(Buffer.from(encoded, 'base64url').toString('utf8'));
  } catch {
    return false;
  }
  if (typeof header !== 'object' || header === null || Object.keys(header).sort().join() !== 'alg,kid') return false;
  const { alg, kid: named } = header as { alg: unknown; kid: unknown };
  return alg === 'ES256' && typeof named === 'string' && (kid === undefined || named === kid);
}

const keys = new WeakMap<PublicJwk, KeyObject>();

function publicKey(jwk: PublicJwk): KeyObject | null {
  if (jwk.kty !== 'EC' || jwk.crv !== 'P-256') return null;
  const known = keys.get(jwk);
  if (known !== undefined) return known;
  const { kty, crv, x, y } = jwk;
  try {
    const key = createPublicKey({ key: { kty, crv, x, y } as JsonWebKey, format: 'jwk' });
    keys.set(jwk, key);
    return key;
  } catch {
    return null;
  }
}
