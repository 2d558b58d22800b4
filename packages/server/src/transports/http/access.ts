/**
 * Who may call a route. Each route names its {@link Access} in `config.access`; one hook in `server.ts` enforces it, and
 * a route without it stops the start. The caller is then `request.caller`.
 */

/** Roles from the least to the most. */
export const ROLES = ['viewer', 'operator', 'admin'] as const;
/** What a person may do. */
export type Role = (typeof ROLES)[number];
/** What an API key may do. */
export type Scope = 'ingest' | 'register' | 'read';

/** Who may call. `own`: the route checks by itself (ingest stages, sign-in). */
export type Access =
  | { readonly kind: 'public' }
  | { readonly kind: 'own' }
  | { readonly kind: 'api-key'; readonly scope: Scope }
  | { readonly kind: 'api-key-or-bearer' }
  | { readonly kind: 'bearer'; readonly role: Role };

/** Who called. */
export type Caller =
  | { readonly kind: 'nobody' }
  | { readonly kind: 'api-key'; readonly id: string; readonly scopes: readonly Scope[] }
  | {
      readonly kind: 'user';
      readonly id: string;
      readonly role: Role;
      readonly sessionId: string;
      /** Unix ms at which the token ends. */
      readonly expiresAt: number;
    };

/** True when `role` is at least `least`. */
export function roleAllows(role: Role, least: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(least);
}

/** What the access hook needs; both throw a RefusalError. */
export interface Authenticators {
  /** Checks the text of `X-API-Key` (undefined: missing). Constant-time; refuses with 401. */
  apiKey(key: string | undefined): Promise<Extract<Caller, { kind: 'api-key' }>>;
  /** Checks the header `Authorization` (undefined: missing), signature, type, times and session; refuses with 401. */
  bearer(authorization: string | undefined): Promise<Extract<Caller, { kind: 'user' }>>;
}

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
  }
  interface FastifyContextConfig {
    access?: Access;
  }
}
