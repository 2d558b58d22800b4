/**
 * Every refusal that leaves the server, in one table: code, HTTP status, title.
 * Guarantee: no other code is ever sent; `docs/errors.md` and a test list exactly these rows.
 */

/** One row of the table of refusals. */
export interface ErrorRow {
  /** HTTP status. */
  readonly status: number;
  /** Short text for people; the same for every occurrence. */
  readonly title: string;
}

/** The table of refusals by code. Order: status, then code. */
export const ERRORS = {
  'malformed-json': { status: 400, title: 'The body is not JSON' },
  'malformed-jws': { status: 400, title: 'The body is not a compact JWS of the accepted form' },
  'malformed-request': { status: 400, title: 'The request is not HTTP that can be read' },
  'malformed-parameter': { status: 400, title: 'A parameter is malformed' },
  'device-id-missing': { status: 400, title: 'The header X-Device-Id is missing' },
  'api-key-missing': { status: 401, title: 'An API key is needed' },
  'api-key-unknown': { status: 401, title: 'The API key is not known' },
  'credentials-missing': { status: 401, title: 'A bearer token is needed' },
  'credentials-wrong': { status: 401, title: 'The credentials are wrong' },
  'token-invalid': { status: 401, title: 'The token is not valid' },
  'token-expired': { status: 401, title: 'The token has expired' },
  'token-type': { status: 401, title: 'The token is of another type' },
  'session-revoked': { status: 401, title: 'The session has ended' },
  'signature-invalid': { status: 401, title: 'The signature does not check' },
  'subscription-required': { status: 402, title: 'A subscription is needed' },
  'scope-insufficient': { status: 403, title: 'The API key lacks the scope' },
  'role-insufficient': { status: 403, title: 'The role does not allow this' },
  'device-unknown': { status: 403, title: 'The device is not registered' },
  'device-inactive': { status: 403, title: 'The device is not active' },
  'device-quarantined': { status: 403, title: 'The device is quarantined' },
  'device-revoked': { status: 403, title: 'The device is revoked' },
  'device-mismatch': { status: 403, title: 'The credential belongs to another device' },
  'envelope-stale': { status: 403, title: 'The envelope was signed too long ago' },
  'envelope-future': { status: 403, title: 'The envelope was signed in the future' },
  'origin-forbidden': { status: 403, title: 'The origin is not allowed' },
  'not-found': { status: 404, title: 'There is no such thing' },
  'method-not-allowed': { status: 405, title: 'The method is not allowed here' },
  'request-timeout': { status: 408, title: 'The request took too long to arrive' },
  replay: { status: 409, title: 'This envelope is already durable' },
  'id-conflict': { status: 409, title: 'The id is in use with other content' },
  'already-exists': { status: 409, title: 'It exists already' },
  'limit-reached': { status: 409, title: 'There are as many as there may be' },
  'last-admin': { status: 409, title: 'The last admin cannot go' },
  'zone-in-use': { status: 409, title: 'Devices still belong to the zone' },
  'transition-forbidden': { status: 409, title: 'The alert cannot go to that state' },
  'body-too-large': { status: 413, title: 'The body is too large' },
  'content-type': { status: 415, title: 'The content type is not accepted here' },
  schema: { status: 422, title: 'The content breaks the schema' },
  'device-blocked': { status: 423, title: 'The device is blocked' },
  'upgrade-required': { status: 426, title: 'This path speaks WebSocket only' },
  'device-cap': { status: 429, title: 'As many devices report as may at once' },
  'rate-limited': { status: 429, title: 'Too many requests' },
  'headers-too-large': { status: 431, title: 'The request headers are too large' },
  internal: { status: 500, title: 'Something failed here; it was logged' },
  overloaded: { status: 503, title: 'Overloaded; nothing was accepted' },
  'store-unavailable': { status: 503, title: 'The store does not answer; nothing was accepted' },
  starting: { status: 503, title: 'The server is starting; nothing was accepted' },
  draining: { status: 503, title: 'The server is ending; nothing was accepted' },
} as const;

/** A code of {@link ERRORS}. */
export type ErrorCode = keyof typeof ERRORS;

/** One place in a request that broke a rule. `pointer` is a JSON pointer (RFC 6901). */
export interface ErrorDetail {
  readonly pointer: string;
  readonly detail: string;
}

/** The limit that was met: `quota` units in `windowSeconds` (the draft of the RateLimit header fields, section 2). */
export interface Quota {
  /** Which limit, in a word. */
  readonly name: string;
  readonly quota: number;
  readonly windowSeconds: number;
}

/** A decision not to do something, as a value. `retryAfterMs` becomes `Retry-After` (rounded up to seconds). */
export interface Refusal {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly errors?: readonly ErrorDetail[];
  readonly retryAfterMs?: number;
  /** Of `rate-limited`: becomes `RateLimit-Policy`. */
  readonly quota?: Quota;
}

/** The most entries of `errors[]` that a problem carries. */
export const MAX_ERROR_DETAILS = 20;

/** The body of a refusal: RFC 9457 problem details. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly errors?: readonly ErrorDetail[];
}

/** Builds the problem document (RFC 9457) of a refusal. */
export function toProblem(refusal: Refusal): Problem {
  const row: ErrorRow = ERRORS[refusal.code];
  return {
    type: `urn:tocsin:error:${refusal.code}`,
    title: row.title,
    status: row.status,
    code: refusal.code,
    detail: refusal.detail,
    ...(refusal.errors === undefined ? {} : { errors: refusal.errors.slice(0, MAX_ERROR_DETAILS) }),
  };
}
