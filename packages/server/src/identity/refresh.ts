/**
 * What a refresh token may be exchanged for (wire section 6). Pure: the caller holds the session's lock and acts.
 *
 * Each token is used once. The same one again within 10 s, while its successor is unused, means that the answer was lost:
 * the same successor. Anything else that comes twice means that two hold it: the whole family ends (RFC 9700 section 4.14).
 */
import { createHmac, timingSafeEqual, type KeyObject } from 'node:crypto';
import type { RefreshTokenRow, SessionRow } from '../store/ports/identity.ts';

/** How long a lost answer may be asked for again, ms. */
export const REPEAT_MS = 10_000;

/** The outcome of {@link decideRefresh}. */
export type RefreshDecision =
  | { readonly kind: 'rotate' }
  | { readonly kind: 'repeat' }
  | { readonly kind: 'reuse' }
  | { readonly kind: 'refused'; readonly reason: 'unknown' | 'revoked' | 'expired' | 'fingerprint' };

/** What {@link decideRefresh} looks at. */
export interface RefreshFacts {
  readonly session: SessionRow | null;
  readonly token: RefreshTokenRow | null;
  /** The row of `token.successor`, when there is one. */
  readonly successor: RefreshTokenRow | null;
  /** SHA-256 of the fingerprint that came with it. */
  readonly fingerprintHash: Buffer | null;
}

function fingerprintFits(session: SessionRow, given: Buffer | null): boolean {
  const bound = session.fingerprintHash;
  return bound === null || (given !== null && given.length === bound.length && timingSafeEqual(given, bound));
}

/** Decides about a refresh at `now` (Unix ms). A wrong fingerprint is refused before anything may be revoked. Pure. */
export function decideRefresh(
  { session, token, successor, fingerprintHash }: RefreshFacts,
  now: number,
): RefreshDecision {
  if (session === null || token === null) return { kind: 'refused', reason: 'unknown' };
  if (session.revokedAt !== null) return { kind: 'refused', reason: 'revoked' };
  if (!fingerprintFits(session, fingerprintHash)) return { kind: 'refused', reason: 'fingerprint' };
  if (now >= session.expiresAt || now >= token.expiresAt) return { kind: 'refused', reason: 'expired' };
  if (token.usedAt === null) return { kind: 'rotate' };
  const lost = now - token.usedAt <= REPEAT_MS && successor !== null && successor.usedAt === null;
  return { kind: lost ? 'repeat' : 'reuse' };
}

/** The token that follows `token`: found again from it, so that the store needs only hashes. Pure. */
export function successorOf(token: string, key: KeyObject): string {
  return createHmac('sha256', key).update('successor:').update(token).digest('base64url');
}
