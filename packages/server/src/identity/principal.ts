/** Who stands behind a token, a cookie or a ticket, once it has been checked. */
import type { UserRole } from '../store/ports/identity.ts';

/** A person's or a device's standing right to act, until `expiresAt`. */
export interface Principal {
  readonly kind: 'user' | 'device';
  /** The claim `sub`: a user's id, `device:<id>`, or what an outside identity provider says. */
  readonly subject: string;
  /** Of a device's token. */
  readonly deviceId: string | null;
  /** Of a person's token. */
  readonly role: UserRole | null;
  readonly scope: string;
  /** The claim `sid`; of an outside token {@link OUTSIDE_SESSION} and its digest, which no store knows. */
  readonly sessionId: string;
  /** The claim `jti`. */
  readonly tokenId: string;
  /** Unix ms. */
  readonly expiresAt: number;
}

/** How the session ids of outside tokens begin. */
export const OUTSIDE_SESSION = 'outside.';

/** The roles that a token may name. */
export const USER_ROLES: readonly UserRole[] = ['admin', 'operator', 'viewer'];

/** The role of that name, or undefined. Pure. */
export function toRole(value: unknown): UserRole | undefined {
  return USER_ROLES.find((role) => role === value);
}
