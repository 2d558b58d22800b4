/**
 * What the claims of an access token must say (RFC 9068, RFC 8725). Pure: the decision is a value with a named reason.
 */
import { isIdentifier } from '@tocsin/protocol/identifiers';
import type { UserRole } from '../store/ports/identity.ts';
import { OUTSIDE_SESSION, toRole, type Principal } from './principal.ts';

/** What is expected of a token. `skewMs`: how far clocks may differ. */
export interface ClaimRules {
  readonly issuer: string;
  readonly audience: string;
  readonly skewMs: number;
  /** Outside tokens need no `sid`, may name the role as `tocsin_role`, and are never a device's. */
  readonly origin: 'own' | 'outside';
}

/** Why a token is refused; each belongs to an error code. */
export const CLAIM_REFUSALS = {
  'not-claims': 'token-invalid',
  issuer: 'token-invalid',
  audience: 'token-invalid',
  subject: 'token-invalid',
  times: 'token-invalid',
  early: 'token-invalid',
  expired: 'token-expired',
  session: 'token-invalid',
  role: 'token-invalid',
  device: 'token-invalid',
} as const;

/** The outcome of {@link checkClaims}. */
export type ClaimDecision =
  | { readonly kind: 'accepted'; readonly principal: Principal }
  | { readonly kind: 'refused'; readonly reason: keyof typeof CLAIM_REFUSALS };

type Claims = Readonly<Record<string, unknown>>;

const refused = (reason: keyof typeof CLAIM_REFUSALS): ClaimDecision => ({ kind: 'refused', reason });
const isText = (value: unknown, most = 256): value is string =>
  typeof value === 'string' && value !== '' && value.length <= most;
const isTime = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0;

function parseClaims(payload: Uint8Array): Claims | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Claims) : null;
  } catch {
    return null;
  }
}

function timesReason(claims: Claims, now: number, skewMs: number): 'times' | 'early' | 'expired' | null {
  const { iat, exp, nbf } = claims;
  if (!isTime(exp) || !isTime(iat) || (nbf !== undefined && !isTime(nbf))) return 'times';
  if (now >= exp * 1000 + skewMs) return 'expired';
  return Math.max(iat, nbf ?? 0) * 1000 > now + skewMs ? 'early' : null;
}

/** Decides whether the payload of a token whose signature has been checked is good at `now` (Unix ms). Pure. */
export function checkClaims(payload: Uint8Array, rules: ClaimRules, now: number, digest: () => string): ClaimDecision {
  const claims = parseClaims(payload);
  if (claims === null) return refused('not-claims');
  if (claims['iss'] !== rules.issuer) return refused('issuer');
  const { aud } = claims;
  if (aud !== rules.audience && !(Array.isArray(aud) && aud.includes(rules.audience))) return refused('audience');
  const { sub, exp } = claims;
  if (!isText(sub)) return refused('subject');
  const wrongTime = timesReason(claims, now, rules.skewMs);
  if (wrongTime !== null) return refused(wrongTime);
  const outside = rules.origin === 'outside';
  const sessionId = outside ? `${OUTSIDE_SESSION}${digest()}` : claims['sid'];
  const tokenId = claims['jti'] ?? (outside ? sessionId : undefined);
  if (!isText(sessionId) || !isText(tokenId)) return refused('session');
  if (!outside && sessionId.startsWith(OUTSIDE_SESSION)) return refused('session');
  const scope = isText(claims['scope'], 1024) ? claims['scope'] : '';
  const common = { subject: sub, scope, sessionId, tokenId, expiresAt: Number(exp) * 1000 };
  const { device_id: deviceId } = claims;
  if (deviceId !== undefined && !outside) {
    if (!isIdentifier(deviceId)) return refused('device');
    return { kind: 'accepted', principal: { kind: 'device', deviceId, role: null, ...common } };
  }
  const role: UserRole | undefined = toRole(outside ? (claims['tocsin_role'] ?? claims['role']) : claims['role']);
  if (role === undefined) return refused('role');
  return { kind: 'accepted', principal: { kind: 'user', deviceId: null, role, ...common } };
}
