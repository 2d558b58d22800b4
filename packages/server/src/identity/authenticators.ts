/**
 * From a header to a caller, for the access hook of HTTP (`Authenticators` in transports/http/access.ts, by structure).
 * Failure: RefusalErrors of status 401; 403 `role-insufficient` for a device's token where a person's is needed.
 */
import { refuse } from '@tocsin/protocol/refusal-error';
import type { ApiKeyScope, UserRole } from '../store/ports/identity.ts';
import type { ApiKeys } from './api-keys.ts';
import type { Principal } from './principal.ts';
import type { Tokens } from './tokens.ts';

/** A program. */
export interface KeyCaller {
  readonly kind: 'api-key';
  readonly id: string;
  readonly scopes: readonly ApiKeyScope[];
}

/** A person. */
export interface UserCaller {
  readonly kind: 'user';
  readonly id: string;
  readonly role: UserRole;
  readonly sessionId: string;
  /** Unix ms. */
  readonly expiresAt: number;
}

/** Checks credentials of HTTP requests. */
export interface HttpAuthenticators {
  /** The text of `X-API-Key`. */
  apiKey(key: string | undefined): Promise<KeyCaller>;
  /** The text of `Authorization`. */
  bearer(authorization: string | undefined): Promise<UserCaller>;
}

/** The token in an `Authorization` header (RFC 6750 section 2.1); refuses `credentials-missing` and `token-invalid`. */
export function bearerToken(authorization: string | undefined): string {
  if (authorization === undefined || authorization === '') throw refuse('credentials-missing');
  const token = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(authorization)?.[1];
  if (token === undefined) throw refuse('token-invalid', 'The header Authorization is not "Bearer <token>"');
  return token;
}

/** The person behind a principal; a device's is refused with `role-insufficient`. */
export function requireUser(principal: Principal): UserCaller {
  const { kind, role, subject: id, sessionId, expiresAt } = principal;
  if (kind !== 'user' || role === null) throw refuse('role-insufficient', 'A token of a person is needed here');
  return { kind: 'user', id, role, sessionId, expiresAt };
}

/** Builds the authenticators. */
export function createAuthenticators(parts: {
  readonly apiKeys: Pick<ApiKeys, 'check'>;
  readonly tokens: Pick<Tokens, 'verify'>;
}): HttpAuthenticators {
  return {
    async apiKey(text) {
      if (text === undefined || text === '') throw refuse('api-key-missing');
      const key = await parts.apiKeys.check(text);
      if (key === null) throw refuse('api-key-unknown');
      return { kind: 'api-key', id: key.id, scopes: key.scopes };
    },
    bearer: async (authorization) => requireUser(await parts.tokens.verify(bearerToken(authorization))),
  };
}
