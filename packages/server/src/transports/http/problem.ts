/**
 * From an error to an answer: every refusal leaves as `application/problem+json` (RFC 9457) of a row of the table ERRORS.
 *
 * Guarantees: no message of an unexpected error, no stack and no value from the request reaches the client; `Retry-After`
 * on 429 and 503, a challenge on 401 (RFC 9110 section 11.6.1), `Cache-Control: no-store` always.
 */
import {
  ERRORS,
  MAX_ERROR_DETAILS,
  toProblem,
  type ErrorCode,
  type ErrorDetail,
  type Problem,
  type Refusal,
} from '@tocsin/protocol/errors';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CodedError } from '../../lib/coded-error.ts';

/** The media type of a problem. */
export const PROBLEM_TYPE = 'application/problem+json';

/** What the framework refuses by itself, as rows of the table. */
const FRAMEWORK_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'content-type',
  FST_ERR_ROUTE_MISSING_CONTENT_TYPE: 'content-type',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed-json',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed-json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed-request',
  FST_ERR_BAD_URL: 'malformed-parameter',
  FST_ERR_MAX_PARAM_LENGTH: 'not-found',
  FST_ERR_NOT_FOUND: 'not-found',
};

/** Errors of the parts below that mean "not now". */
const CODED: Readonly<Record<string, ErrorCode>> = {
  'store-unavailable': 'store-unavailable',
  overloaded: 'overloaded',
  draining: 'draining',
};

/** The challenge of a 401 (RFC 6750 section 3). */
const CHALLENGES: Partial<Record<ErrorCode, string>> = {
  'token-invalid': 'Bearer realm="tocsin", error="invalid_token"',
  'token-expired': 'Bearer realm="tocsin", error="invalid_token"',
  'token-type': 'Bearer realm="tocsin", error="invalid_token"',
  'session-revoked': 'Bearer realm="tocsin", error="invalid_token"',
  'api-key-missing': 'ApiKey realm="tocsin"',
  'api-key-unknown': 'ApiKey realm="tocsin"',
};

/** The most characters of a pointer; a key of the peer's may be as long as a body. */
const POINTER_CHARACTERS = 256;

/** One failure of a schema as the validator reports it. */
interface SchemaFailure {
  readonly instancePath?: string;
  readonly keyword?: string;
  readonly message?: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

function escapePointer(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

function keysOf(failure: SchemaFailure): readonly string[] | undefined {
  const { params } = failure;
  const named = params?.['additionalProperties'] ?? params?.['unevaluatedProperties'] ?? params?.['requiredProperties'];
  return Array.isArray(named) ? named.filter((key): key is string => typeof key === 'string') : undefined;
}

/** Turns failures of a schema into at most 20 pointers (RFC 6901) with what is wrong there. Pure. */
export function schemaDetails(failures: readonly SchemaFailure[]): ErrorDetail[] {
  const details: ErrorDetail[] = [];
  const add = (pointer: string, detail: string): void => {
    const short = pointer.length > POINTER_CHARACTERS ? `${pointer.slice(0, POINTER_CHARACTERS)}…` : pointer;
    if (
      details.length < MAX_ERROR_DETAILS &&
      !details.some((other) => other.pointer === short && other.detail === detail)
    ) {
      details.push({ pointer: short, detail });
    }
  };
  for (const failure of failures) {
    const path = failure.instancePath ?? '';
    const keys = keysOf(failure);
    if (failure.keyword === 'boolean') add(path, 'is not known here');
    else if (failure.keyword === 'pattern') add(path, 'has characters that are not allowed here');
    else if (keys === undefined) add(path, failure.message ?? 'is not allowed');
    else
      for (const key of keys)
        add(`${path}/${escapePointer(key)}`, failure.keyword === 'required' ? 'is missing' : 'is not known here');
  }
  return details;
}

interface ValidationError {
  readonly validation: readonly SchemaFailure[];
  readonly validationContext?: string;
}

function isValidationError(error: unknown): error is ValidationError {
  return typeof error === 'object' && error !== null && Array.isArray((error as { validation?: unknown }).validation);
}

function validationRefusal(error: ValidationError, body: unknown): Refusal {
  if (error.validationContext !== 'body') {
    const errors = schemaDetails(error.validation);
    const first = errors[0];
    const where = first === undefined ? '' : `: ${first.pointer.slice(1)} ${first.detail}`;
    return { code: 'malformed-parameter', detail: `A parameter is malformed${where}`, errors };
  }
  if (body === undefined) return { code: 'malformed-json', detail: 'A JSON body is needed' };
  return { code: 'schema', detail: 'The content breaks the schema', errors: schemaDetails(error.validation) };
}

/** The refusal that an error means; null for an error that nobody expected. `body` is the request's, parsed. Pure. */
export function refusalOf(error: unknown, body?: unknown): Refusal | null {
  if (error instanceof RefusalError) return error.refusal;
  if (isValidationError(error)) return validationRefusal(error, body);
  if (error instanceof CodedError) {
    const code = CODED[error.code];
    return code === undefined ? null : { code, detail: ERRORS[code].title };
  }
  const framework = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined;
  const code = typeof framework === 'string' ? FRAMEWORK_CODES[framework] : undefined;
  return code === undefined ? null : { code, detail: ERRORS[code].title };
}

/** Seconds of `Retry-After`: what the refusal says, rounded up; else 1 where the status calls for the header; null elsewhere. */
export function retryAfterSeconds(refusal: Refusal): number | null {
  if (refusal.retryAfterMs !== undefined) return Math.max(1, Math.ceil(refusal.retryAfterMs / 1000));
  const status: number = ERRORS[refusal.code].status;
  return status === 429 || status === 503 ? 1 : null;
}

/**
 * `RateLimit` and `RateLimit-Policy` of a 429 (draft-ietf-httpapi-ratelimit-headers, sections 3 and 4): nothing is left,
 * and when there will be something again.
 */
export function rateLimitFields({ quota }: Refusal, seconds: number): readonly (readonly [string, string])[] {
  const { name, quota: units, windowSeconds } = quota ?? { name: 'default', quota: 1, windowSeconds: seconds };
  return [
    ['ratelimit-policy', `"${name}";q=${units};w=${windowSeconds}`],
    ['ratelimit', `"${name}";r=0;t=${seconds}`],
  ];
}

/** Answers with the problem of `refusal`; `extra` members are added to the document (RFC 9457 section 3.2). */
export function sendProblem(
  reply: FastifyReply,
  refusal: Refusal,
  extra?: Readonly<Record<string, unknown>>,
): FastifyReply {
  const problem: Problem = toProblem(refusal);
  const seconds = retryAfterSeconds(refusal);
  if (seconds !== null) reply.header('retry-after', String(seconds));
  if (problem.status === 429 && seconds !== null) {
    for (const [name, value] of rateLimitFields(refusal, seconds)) reply.header(name, value);
  }
  if (problem.status === 401) reply.header('www-authenticate', CHALLENGES[refusal.code] ?? 'Bearer realm="tocsin"');
  reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
  // The framework closes after a body that it refused: what is still on its way would then reset the connection, and with
  // it the answer. Open, the rest is read and thrown away until the time of the request is over.
  reply.removeHeader('connection');
  const document = extra === undefined ? problem : { ...problem, ...extra };
  return reply.code(problem.status).type(PROBLEM_TYPE).serializer(String).send(JSON.stringify(document));
}

/** What the error handler logs to. */
export interface ProblemLog {
  error(fields: object, message: string): void;
}

/** Builds the handler of every error: refusals as they are, the rest logged with its trace and answered with `internal`. */
export function createErrorHandler(
  log: ProblemLog,
): (error: unknown, request: FastifyRequest, reply: FastifyReply) => FastifyReply {
  return (error, request, reply) => {
    const refusal = refusalOf(error, request.body);
    if (refusal !== null) return sendProblem(reply, refusal);
    log.error(
      { err: error, traceparent: request.traceparent, method: request.method, route: request.routeOptions.url },
      'request failed',
    );
    return sendProblem(reply, { code: 'internal', detail: ERRORS.internal.title });
  };
}
