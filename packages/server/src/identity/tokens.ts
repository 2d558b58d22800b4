/**
 * Access tokens: signed JWTs (RFC 7519) in the profile of RFC 9068.
 *
 * Guarantees: the header has exactly `alg`, `kid`, `typ` = `at+jwt`; the algorithm is the key's; issuer, audience and times
 * are checked with at most 30 s of skew; the session behind our own tokens lives (checked at most 1 s ago). Tokens of an
 * outside identity provider follow the same rules, without a session of ours.
 * Failure: a RefusalError `token-invalid`, `token-type`, `token-expired` or `session-revoked`; `store-unavailable` when the
 * session cannot be looked up.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse, type RefusalError } from '@tocsin/protocol/refusal-error';
import { SignJWT } from 'jose';
import type { Clock } from '../lib/clock.ts';
import type { UserRole } from '../store/ports/identity.ts';
import { createCheckedSignatures } from './checked-signatures.ts';
import { checkClaims, CLAIM_REFUSALS, type ClaimRules } from './claims.ts';
import { newId } from '../lib/ulid.ts';
import type { OutsideKeys } from './outside-keys.ts';
import type { Principal } from './principal.ts';
import { sha256 } from './secrets.ts';
import type { SigningKeys, VerifyingKey } from './signing-keys.ts';
import { readHeader, verifyCompact } from './verifying-keys.ts';

/** The type in a token's header (RFC 9068 section 2.1). */
const TOKEN_TYPE = 'at+jwt';
const MOST_SKEW_SECONDS = 30;

/** What a new token says. */
export interface TokenSubject {
  readonly subject: string;
  readonly sessionId: string;
  readonly scope: string;
  readonly role: UserRole | null;
  readonly deviceId: string | null;
}

/** A new token. `expiresAt` is Unix ms. */
export interface IssuedToken {
  readonly accessToken: string;
  readonly expiresAt: number;
}

/** Issues and checks access tokens. */
export interface Tokens {
  issue(subject: TokenSubject): Promise<IssuedToken>;
  /** Checks everything, the session too. */
  verify(jwt: string): Promise<Principal>;
}

/** What {@link createTokens} needs. */
export interface TokenOptions {
  readonly keys: Pick<SigningKeys, 'current' | 'tokenKey'>;
  readonly outside?: OutsideKeys | undefined;
  readonly sessionAlive: (sessionId: string) => boolean | Promise<boolean>;
  readonly clock: Clock;
  readonly issuer: string;
  readonly audience: string;
  /** 0 to 30. */
  readonly skewSeconds: number;
  readonly accessTokenMs: number;
}

/** Tokens whose signature is not checked again while they are used: some 10 MB. */
const SIGNATURES_KEPT = 20_000;

const invalid = (): RefusalError => refuse('token-invalid');

/** Builds the service of access tokens. */
export function createTokens(options: TokenOptions): Tokens {
  const { keys, outside, clock, issuer, audience } = options;
  const skewMs = Math.min(Math.max(options.skewSeconds, 0), MOST_SKEW_SECONDS) * 1000;
  const rules = { issuer, audience, skewMs };
  const checked = createCheckedSignatures(SIGNATURES_KEPT);

  const keyOf = async (kid: string): Promise<[VerifyingKey, ClaimRules['origin']] | null> => {
    const own = await keys.tokenKey(kid);
    if (own !== null) return [own, 'own'];
    const other = (await outside?.find(kid)) ?? null;
    return other === null ? null : [other, 'outside'];
  };

  return {
    async issue(subject) {
      const key = keys.current('token');
      const issuedAt = Math.floor(clock.now() / 1000);
      const expires = issuedAt + Math.floor(options.accessTokenMs / 1000);
      const accessToken = await new SignJWT({
        client_id: 'tocsin',
        sid: subject.sessionId,
        scope: subject.scope,
        ...(subject.role === null ? {} : { role: subject.role }),
        ...(subject.deviceId === null ? {} : { device_id: subject.deviceId }),
      })
        .setProtectedHeader({ alg: key.algorithm, kid: key.kid, typ: TOKEN_TYPE })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(subject.subject)
        .setIssuedAt(issuedAt)
        .setExpirationTime(expires)
        .setJti(newId(clock.now()))
        .sign(key.privateKey);
      return { accessToken, expiresAt: expires * 1000 };
    },
    async verify(jwt) {
      const header = jwt.length <= LIMITS.tokenCharacters.value ? readHeader(jwt) : null;
      if (header === null) throw invalid();
      // RFC 9068 section 4: `at+jwt` or `application/at+jwt`, in any case (RFC 7515 section 4.1.9).
      if (header.typ?.toLowerCase().replace(/^application\//, '') !== TOKEN_TYPE) throw refuse('token-type');
      const found = await keyOf(header.kid);
      if (found === null) throw invalid();
      const [key, origin] = found;
      const digest = sha256(jwt).toString('base64url');
      const payload = checked.get(digest, key) ?? (await verifyCompact(jwt, key));
      if (payload === null) throw invalid();
      checked.set(digest, key, payload);
      const decision = checkClaims(payload, { ...rules, origin }, clock.now(), () => digest);
      if (decision.kind === 'refused') throw refuse(CLAIM_REFUSALS[decision.reason]);
      if (origin === 'own' && !(await options.sessionAlive(decision.principal.sessionId)))
        throw refuse('session-revoked');
      return decision.principal;
    },
  };
}
