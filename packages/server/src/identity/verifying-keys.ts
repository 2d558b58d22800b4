/**
 * Public keys from JSON Web Keys (RFC 7517) that others wrote, and signatures checked with keys we chose ourselves.
 * What decides is our list: the algorithm belongs to the key, never to the token's header, and nothing that a header
 * brings along (`jwk`, `jku`, `x5c`, `crit` …) is ever used (RFC 8725 sections 3.1, 3.10).
 */
import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { compactVerify, decodeProtectedHeader } from 'jose';
import { TOKEN_ALGORITHMS, type TokenAlgorithm, type VerifyingKey } from './signing-keys.ts';

/** The header of a JWS as far as we look. */
export interface TokenHeader {
  readonly alg: TokenAlgorithm;
  readonly kid: string;
  readonly typ: string | undefined;
}

const HEADER_MEMBERS: readonly string[] = ['alg', 'kid', 'typ'];
const RSA_LEAST_BITS = 2048;

function algorithmOf(jwk: Readonly<Record<string, unknown>>): TokenAlgorithm | undefined {
  const byType = jwk['kty'] === 'EC' && jwk['crv'] === 'P-256' ? 'ES256' : jwk['kty'] === 'RSA' ? 'RS256' : undefined;
  return jwk['alg'] === undefined || jwk['alg'] === byType ? byType : undefined;
}

/**
 * The key of a JWK, or null when it is not one for checking signatures with ES256 or RS256 (2048 bits at least): another
 * `kty`, `crv` or `alg`, a `use` other than `sig`, `key_ops` without `verify`, no `kid`. Pure.
 */
export function verifyingKeyOf(jwk: Readonly<Record<string, unknown>>): VerifyingKey | null {
  const { kid, use, key_ops: operations } = jwk;
  const algorithm = algorithmOf(jwk);
  if (algorithm === undefined || typeof kid !== 'string' || kid === '') return null;
  if (use !== undefined && use !== 'sig') return null;
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return null;
  try {
    const members = ['kty', 'crv', 'x', 'y', 'n', 'e'].filter((name) => jwk[name] !== undefined);
    const publicKey = createPublicKey({
      key: Object.fromEntries(members.map((name) => [name, jwk[name]])) as JsonWebKey,
      format: 'jwk',
    });
    const bits = publicKey.asymmetricKeyDetails?.modulusLength;
    return bits !== undefined && bits < RSA_LEAST_BITS ? null : { kid, publicKey, algorithm };
  } catch {
    return null;
  }
}

/** Reads a compact JWS's protected header; null unless it has `alg` (ES256, RS256), `kid`, perhaps `typ`, and no more. Pure. */
export function readHeader(jws: string): TokenHeader | null {
  try {
    const header: Readonly<Record<string, unknown>> = { ...decodeProtectedHeader(jws) };
    const { alg, kid, typ } = header;
    const algorithm = TOKEN_ALGORITHMS.find((known) => known === alg);
    if (algorithm === undefined || typeof kid !== 'string' || kid.length > 256) return null;
    if (typ !== undefined && typeof typ !== 'string') return null;
    return Object.keys(header).every((name) => HEADER_MEMBERS.includes(name)) ? { alg: algorithm, kid, typ } : null;
  } catch {
    return null;
  }
}

/** base64url without padding whose unused bits are zero: one text for each value (RFC 4648 section 3.5). Pure. */
function isCanonical(part: string): boolean {
  return Buffer.from(part, 'base64url').toString('base64url') === part;
}

/** Checks a compact JWS with `key`; answers the payload's bytes, null when anything is wrong. */
export async function verifyCompact(jws: string, key: VerifyingKey): Promise<Uint8Array | null> {
  const header = readHeader(jws);
  if (header === null || header.alg !== key.algorithm || header.kid !== key.kid) return null;
  if (!jws.split('.').every(isCanonical)) return null;
  try {
    return (await compactVerify(jws, key.publicKey, { algorithms: [key.algorithm] })).payload;
  } catch {
    return null;
  }
}
