/**
 * The listener below the framework: http or https with its times and sizes, and answers for what never becomes a request
 * (broken HTTP, headers too large, a request that does not arrive), as problem documents like everything else.
 * A slow or silent peer is cut: headers within 10 s, the whole request within 30 s, an idle socket after 75 s; and there
 * are never more than 20,000 connections.
 * `Date` is the time that freshness is judged by, since devices set their clocks by it. Where the outside comes by https,
 * every answer carries HSTS (RFC 6797), refusals below the framework too.
 * Certificates can be replaced while it listens ({@link replaceCertificates}): open sockets stay as they are.
 */
import { constants } from 'node:crypto';
import { createServer, IncomingMessage, STATUS_CODES, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { type SecureContextOptions, Server as TlsServer } from 'node:tls';
import { toProblem, type ErrorCode } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { createCrossOrigin } from './cross-origin.ts';
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

/**
 * What browsers are told to keep to https by: a year, the value of RFC 6797 section 6.1.1. Other hosts of the domain are not
 * ours to speak for (`includeSubDomains`), nor is a list that one leaves only after months (`preload`).
 */
export const STRICT_TRANSPORT = 'max-age=31536000';

/** How a listener answers below the framework. */
export interface ListenerHabits {
  /** The outside comes by https, here or at a proxy: HSTS is sent. */
  readonly https: boolean;
  /** The time that is told, Unix ms. */
  readonly now: () => number;
  /** Origins whose pages may call us, beside our own; none when absent. */
  readonly origins?: ReadonlySet<string>;
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** The `Date` of an answer at `now` (Unix ms), where the machine's own time would mislead; else null. Pure. */
export function dateHeader(now: number, machine: number): string | null {
  return Math.abs(now - machine) < DATE_TOLERATED_MS ? null : new Date(now).toUTCString();
}

/** A problem as a whole HTTP/1.1 answer that ends the connection. */
export function rawProblem(
  code: ErrorCode,
  detail: string,
  { https, now }: Pick<ListenerHabits, 'https' | 'now'>,
): string {
  const problem = toProblem({ code, detail });
  const body = JSON.stringify(problem);
  const lines = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? 'Error'}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `Date: ${new Date(now()).toUTCString()}`,
    'Cache-Control: no-store',
    ...(https ? [`Strict-Transport-Security: ${STRICT_TRANSPORT}`] : []),
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

/** Answers a connection whose request could not be read, and ends it. */
export function answerClientError(
  error: NodeJS.ErrnoException,
  socket: Duplex,
  habits: Pick<ListenerHabits, 'https' | 'now'>,
): void {
  // A response that has begun cannot be followed by another one (the same test as in Node's own handler).
  const pending = (socket as { _httpMessage?: { headersSent?: boolean } | null })._httpMessage;
  if (error.code !== 'ECONNRESET' && socket.writable && pending?.headersSent !== true) {
    const code = clientErrorCode(error.code);
    socket.end(rawProblem(code, DETAILS[code] ?? 'The request is not HTTP that can be read', habits));
    // Half a second to read the answer: a reset would throw it away with what is still unread.
    setTimeout(() => socket.destroy(), 500).unref();
    return;
  }
  socket.destroy();
}

/** What is wrong with the headers Host of a request of HTTP/1.1 (RFC 9112 section 3.2), or null. Pure. */
export function hostProblem({
  rawHeaders,
  httpVersionMinor,
}: Pick<IncomingMessage, 'rawHeaders' | 'httpVersionMinor'>): string | null {
  if (httpVersionMinor === 0) return null;
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index];
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  if (hosts === 1) return null;
  return hosts === 0 ? 'The header Host is missing' : 'There is more than one header Host';
}

/**
 * Tells our time and HSTS, and refuses a request without exactly one Host (RFC 9112 section 3.2); Node's own refusal has no
 * body. The time is that of the request's arrival: between its sending and its answer, as a reader of `Date` takes it.
 */
function withGround(handler: Handler, { https, now, origins }: ListenerHabits): Handler {
  const crossOrigin = createCrossOrigin(origins ?? new Set());
  return (request, response) => {
    if (https) response.setHeader('strict-transport-security', STRICT_TRANSPORT);
    const date = dateHeader(now(), Date.now());
    if (date !== null) response.setHeader('date', date);
    const detail = hostProblem(request);
    if (detail === null) return crossOrigin(request, response) ? undefined : handler(request, response);
    const body = JSON.stringify(toProblem({ code: 'malformed-request', detail }));
    response
      .writeHead(400, { 'content-type': PROBLEM_TYPE, 'content-length': Buffer.byteLength(body), connection: 'close' })
      .end(body);
  };
}

/** What of the TLS options of a listener belongs to certificates: all of a context that is made anew with them. */
export function secureContext({ cert, key, clientCa }: TlsOptions): SecureContextOptions {
  // Renegotiation (TLS 1.2) could show another certificate than the one that was verified, and costs us more than the peer.
  const secureOptions = constants.SSL_OP_NO_RENEGOTIATION;
  return { cert, key, minVersion: 'TLSv1.2', secureOptions, ...(clientCa === undefined ? {} : { ca: clientCa }) };
}

/**
 * Gives a listening https server other certificates, for handshakes from now on; open sockets keep theirs. Session tickets
 * of before are not taken any more: each context of Node has ticket keys of its own, so no ticket outlives a client CA.
 * `clientCa` must be there exactly when it was at the start. Throws where OpenSSL refuses them; then nothing has changed.
 */
export function replaceCertificates(server: Server, tls: TlsOptions): void {
  if (!(server instanceof TlsServer)) throw new TypeError('this server has no certificates');
  server.setSecureContext(secureContext(tls));
}

/** WebSocket among the protocols of `Upgrade`. */
const WEBSOCKET = /(?:^|,)[ \t]*websocket[ \t]*(?:,|$)/i;

/**
 * A request that asks for another protocol than WebSocket is a plain one: a server may ignore that wish (RFC 9110 section 7.8).
 * Node takes every `Upgrade` for a handshake once somebody listens for one, and what asks for HTTP/2 on the way (`Upgrade: h2c`,
 * as Java's HttpClient does unasked) would never reach its route. Node sets `upgrade` before and after it has the headers.
 */
class Request extends IncomingMessage {
  declare asksForUpgrade: boolean;

  get upgrade(): boolean {
    return this.asksForUpgrade && (this.method === 'CONNECT' || WEBSOCKET.test(this.headers.upgrade ?? ''));
  }

  set upgrade(asked: boolean | null) {
    this.asksForUpgrade = asked === true;
  }
}

/** Makes the listener, http or (with `tls`) https. Not listening yet. */
export function createListener(handler: Handler, tls: TlsOptions | undefined, habits: ListenerHabits): Server {
  const common = {
    IncomingMessage: Request,
    maxHeaderSize: LIMITS.headerBytes.value,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 2000,
    requireHostHeader: false,
    noDelay: true,
  };
  const guarded = withGround(handler, habits);
  const server =
    tls === undefined
      ? createServer(common, guarded)
      : createSecureServer(
          {
            ...common,
            ...secureContext(tls),
            handshakeTimeout: HEADERS_TIMEOUT_MS,
            ...(tls.clientCa === undefined ? {} : { requestCert: true, rejectUnauthorized: false }),
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
