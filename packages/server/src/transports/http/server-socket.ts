/**
 * The listener below the framework: http or https with its times and sizes, and answers for what never becomes a request
 * (broken HTTP, headers too large, a request that does not arrive), as problem documents like everything else.
 * A slow or silent peer is cut: headers within 10 s, the whole request within 30 s, an idle socket after 75 s; and there
 * are never more than 20,000 connections.
 * `Date` is the time that freshness is judged by, since devices set their clocks by it.
 */
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { toProblem, type ErrorCode } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { PROBLEM_TYPE } from './problem.ts';

/** Milliseconds within which the headers of a request must be here. */
export const HEADERS_TIMEOUT_MS = 10_000;
/** Milliseconds within which a whole request must be here. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** Milliseconds that an idle connection is kept; longer than the 60 s of common load balancers. */
export const KEEP_ALIVE_MS = 72_000;
/** Milliseconds without a byte in either direction after which a connection is cut. */
export const IDLE_SOCKET_MS = 75_000;
/** Requests on one connection, after which it is closed (in an orderly way), so that clients spread anew now and then. */
export const REQUESTS_PER_SOCKET = 100_000;

/** Connections at once, viewers too; more are closed as they come. An idle one costs about 10 KB. */
export const MOST_CONNECTIONS = 20_000;

/** PEM text of the listener's certificate; with `clientCa` a client's certificate is asked for, not required. */
export interface TlsOptions {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  readonly clientCa?: string | Buffer;
}

/** How far this machine's clock may be from ours, ms, before `Date` is ours and not Node's. */
const DATE_TOLERATED_MS = 500;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** The `Date` of an answer at `now` (Unix ms), where the machine's own time would mislead; else null. Pure. */
export function dateHeader(now: number, machine: number): string | null {
  return Math.abs(now - machine) < DATE_TOLERATED_MS ? null : new Date(now).toUTCString();
}

/** A problem as a whole HTTP/1.1 answer at `now` (Unix ms) that ends the connection. */
export function rawProblem(code: ErrorCode, detail: string, now: number): string {
  const problem = toProblem({ code, detail });
  const body = JSON.stringify(problem);
  const lines = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? 'Error'}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `Date: ${new Date(now).toUTCString()}`,
    'Cache-Control: no-store',
    'Connection: close',
  ];
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

/** What a failure of the HTTP parser means. Pure. */
export function clientErrorCode(parserCode: string | undefined): ErrorCode {
  switch (parserCode) {
    case 'HPE_HEADER_OVERFLOW':
      return 'headers-too-large';
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return 'body-too-large';
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return 'request-timeout';
    default:
      return 'malformed-request';
  }
}

const DETAILS: Partial<Record<ErrorCode, string>> = {
  'headers-too-large': `The headers are over ${LIMITS.headerBytes.value} bytes`,
  'request-timeout': 'The request did not arrive in time',
};

/** Answers a connection whose request could not be read, and ends it; `now` is the time that is told, Unix ms. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Duplex, now: number): void {
  // A response that has begun cannot be followed by another one (the same test as in Node's own handler).
  const pending = (socket as { _httpMessage?: { headersSent?: boolean } | null })._httpMessage;
  if (error.code !== 'ECONNRESET' && socket.writable && pending?.headersSent !== true) {
    const code = clientErrorCode(error.code);
    socket.end(rawProblem(code, DETAILS[code] ?? 'The request is not HTTP that can be read', now));
    // Half a second to read the answer: a reset would throw it away with what is still unread.
    setTimeout(() => socket.destroy(), 500).unref();
    return;
  }
  socket.destroy();
}

/**
 * Tells our time, and refuses a request of HTTP/1.1 without Host (RFC 9112 section 3.2); Node's own refusal has no body.
 * The time is that of the request's arrival: between its sending and its answer, as a reader of `Date` takes it.
 */
function withDateAndHost(handler: Handler, now: () => number): Handler {
  return (request, response) => {
    const date = dateHeader(now(), Date.now());
    if (date !== null) response.setHeader('date', date);
    if (request.headers.host !== undefined || request.httpVersionMinor === 0) return handler(request, response);
    const body = JSON.stringify(toProblem({ code: 'malformed-request', detail: 'The header Host is missing' }));
    response
      .writeHead(400, { 'content-type': PROBLEM_TYPE, 'content-length': Buffer.byteLength(body), connection: 'close' })
      .end(body);
  };
}

/** Makes the listener, http or (with `tls`) https; `now` is the time that is told, Unix ms. Not listening yet. */
export function createListener(handler: Handler, tls: TlsOptions | undefined, now: () => number): Server {
  const common = {
    maxHeaderSize: LIMITS.headerBytes.value,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 2000,
    requireHostHeader: false,
    noDelay: true,
  };
  const guarded = withDateAndHost(handler, now);
  const server =
    tls === undefined
      ? createServer(common, guarded)
      : createSecureServer(
          {
            ...common,
            cert: tls.cert,
            key: tls.key,
            minVersion: 'TLSv1.2',
            handshakeTimeout: HEADERS_TIMEOUT_MS,
            ...(tls.clientCa === undefined ? {} : { ca: tls.clientCa, requestCert: true, rejectUnauthorized: false }),
          },
          guarded,
        );
  // An expectation that is not 100-continue counts for nothing (RFC 9110 section 10.1.1); Node's own 417 has no body.
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) =>
    server.emit('request', request, response),
  );
  server.maxRequestsPerSocket = REQUESTS_PER_SOCKET;
  server.maxConnections = MOST_CONNECTIONS;
  server.setTimeout(IDLE_SOCKET_MS);
  return server;
}
