/**
 * Where a person's token comes from on the routes under `/v1/auth`: the header `Authorization`, else the cookie.
 *
 * The cookie `tocsin_session` holds the access token, for browsers that open WebSockets. Over HTTP it counts on three
 * routes alone (session, logout, ticket), against forged requests of other sites: it is SameSite=Strict, and a POST must
 * carry an `Origin` equal to that of PUBLIC_URL. It lives as long as the refresh token, so that a refresh still sees it
 * and renews it; the token inside ends after ACCESS_TOKEN_MINUTES as ever.
 */
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyRequest } from 'fastify';

/** The name of the cookie. */
export const SESSION_COOKIE = 'tocsin_session';

/** The most of a `Cookie` header that is looked at, characters. */
const COOKIE_CHARACTERS = 16_384;

/** The value of our cookie in a `Cookie` header; undefined when there is none. The first one counts. Pure. */
export function readSessionCookie(header: string | undefined): string | undefined {
  if (header === undefined || header.length > COOKIE_CHARACTERS) return undefined;
  for (const pair of header.split(';')) {
    const equals = pair.indexOf('=');
    if (equals !== -1 && pair.slice(0, equals).trim() === SESSION_COOKIE) return pair.slice(equals + 1).trim();
  }
  return undefined;
}

/** A `Set-Cookie` header (RFC 6265). `maxAgeSeconds` 0 removes the cookie. Pure. */
export function sessionCookie(value: string, maxAgeSeconds: number, secure: boolean): string {
  const age = Math.max(0, Math.floor(maxAgeSeconds));
  return `${SESSION_COOKIE}=${value}; Path=/; Max-Age=${age}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`;
}

/** Refuses `origin-forbidden` when a request says that it comes from elsewhere; `must`: when it does not say. */
export function requireOwnOrigin(request: FastifyRequest, publicOrigin: string, must: boolean): void {
  const { origin } = request.headers;
  if (origin === undefined ? must : origin !== publicOrigin) {
    throw refuse('origin-forbidden', 'The session cookie counts only for requests from the origin of PUBLIC_URL');
  }
}

/** The text of `Authorization` for a request: its own, or made from the cookie; undefined when there is neither. */
export function carriedAuthorization(request: FastifyRequest, publicOrigin: string): string | undefined {
  const { authorization, cookie } = request.headers;
  if (authorization !== undefined) return authorization;
  const token = readSessionCookie(cookie);
  if (token === undefined) return undefined;
  requireOwnOrigin(request, publicOrigin, request.method !== 'GET');
  return `Bearer ${token}`;
}
