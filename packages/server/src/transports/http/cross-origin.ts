/**
 * Pages of other origins (`WS_ALLOWED_ORIGINS`): a viewer that may open a socket may also sign in, refresh, ask for its session
 * and fetch keys and alerts (Fetch standard, "CORS protocol"). Only the origins on the list, never `*`; never with cookies, so
 * what a browser holds for us is worth nothing to them: they bring their own bearer.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

const PATHS = /^\/(?:v1|\.well-known)\//;
const METHODS = 'GET, POST, PATCH, DELETE';
const HEADERS = 'Authorization, Content-Type, X-API-Key, X-Device-Id, Traceparent';
const EXPOSED = 'Retry-After, RateLimit, RateLimit-Policy';
/** How long a browser remembers the answer to a preflight, seconds: ten minutes. */
const PREFLIGHT_SECONDS = '600';

/** Tells browsers what pages of other origins may do; answers true when it answered the request itself (a preflight). */
export type CrossOrigin = (request: IncomingMessage, response: ServerResponse) => boolean;

/** `origins`: those allowed beside our own, as browsers write them. */
export function createCrossOrigin(origins: ReadonlySet<string>): CrossOrigin {
  if (origins.size === 0) return () => false;
  return (request, response) => {
    if (!PATHS.test(request.url ?? '')) return false;
    response.setHeader('vary', 'Origin');
    const { origin } = request.headers;
    if (origin === undefined || !origins.has(origin)) return false;
    response.setHeader('access-control-allow-origin', origin);
    response.setHeader('access-control-expose-headers', EXPOSED);
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return false;
    response
      .writeHead(204, {
        'access-control-allow-methods': METHODS,
        'access-control-allow-headers': HEADERS,
        'access-control-max-age': PREFLIGHT_SECONDS,
        vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
      })
      .end();
    return true;
  };
}
