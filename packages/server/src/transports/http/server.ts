/**
 * The HTTP server: one place for limits, times, credentials, headers and refusals, so that a route is only its own work.
 *
 * Guarantees: every error is a problem document of the table ERRORS; bodies over 256 KiB, headers over 16 KiB, unknown
 * keys, `__proto__` in JSON and content types nobody registered are refused; a route without `config.access` or with an
 * open schema stops the start; nothing internal leaves.
 * Order of a request: headers -> draining -> credentials (401, 403) -> body (415, 413, 400) -> schema (422, 400) -> route.
 * Paths are exact: `/zones/` (original client) and `/zones` are two paths, and so are upper and lower case.
 * Routes that answer with `config.headers: 'bare'` and check by themselves (`own`) run no hook.
 */
import { isUtf8 } from 'node:buffer';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { ERRORS } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { Authenticators, Caller } from './access.ts';
import { createAddressReader } from './address.ts';
import { createErrorHandler, refusalOf, sendProblem } from './problem.ts';
import { type AnswerHook, createMethodTable, createRouteRegistrar, type MethodTable } from './server-routes.ts';
import { answerClientError, createListener, type TlsOptions } from './server-socket.ts';
import { compileValidator } from './validation.ts';

/** The part of the program's log that the server writes to. */
export interface HttpLog {
  error(fields: object, message: string): void;
  debug(fields: object, message: string): void;
  isLevelEnabled?(level: string): boolean;
}

/** What {@link createHttpServer} needs. */
export interface HttpServerOptions {
  readonly log: HttpLog;
  readonly authenticators: Authenticators;
  /** Continues the W3C `traceparent` of a request or starts a new one. */
  readonly trace: (traceparent: string | undefined) => string;
  /** Addresses and CIDRs whose `X-Forwarded-For` counts. */
  readonly trustedProxies?: readonly string[];
  /** Present: https. */
  readonly tls?: TlsOptions;
  /** The outside reaches us by https (a proxy may end it): HSTS is sent. Default: whether `tls` is there. */
  readonly https?: boolean;
  /** The time that freshness is judged by, Unix ms; answers tell it as `Date`. Default: this machine's. */
  readonly now?: () => number;
  /** Origins whose pages may call us, beside our own; none when absent. */
  readonly origins?: ReadonlySet<string>;
  /** True while the server ends. */
  readonly draining?: () => boolean;
  /** Hears of every answer but those of `bare` routes; `route` is the pattern, '' where none fits. */
  readonly answered?: (method: string, route: string, status: number, seconds: number) => void;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** W3C traceparent of this request, made on first use. */
    readonly traceparent: string;
    /** The peer's address, through trusted proxies. */
    readonly clientAddress: string;
  }
}

const NOBODY: Caller = { kind: 'nobody' };
const callers = new WeakMap<FastifyRequest, Caller>();
const traces = new WeakMap<FastifyRequest, string>();

function decorate(app: FastifyInstance, options: HttpServerOptions): void {
  const readAddress = createAddressReader(options.trustedProxies ?? []);
  app.decorateRequest('caller', {
    getter(this: FastifyRequest): Caller {
      return callers.get(this) ?? NOBODY;
    },
    setter(this: FastifyRequest, caller: Caller): void {
      callers.set(this, caller);
    },
  });
  app.decorateRequest('traceparent', {
    getter(this: FastifyRequest): string {
      const known = traces.get(this);
      if (known !== undefined) return known;
      const header = this.headers['traceparent'];
      const traceparent = options.trace(typeof header === 'string' ? header : undefined);
      traces.set(this, traceparent);
      return traceparent;
    },
  });
  app.decorateRequest('clientAddress', {
    getter(this: FastifyRequest): string {
      return readAddress(this.raw.socket.remoteAddress, this.headers['x-forwarded-for']);
    },
  });
}

/** JSON only (RFC 8259: UTF-8), and an empty body is no body: clients send the content type with a DELETE or an empty POST too. */
function acceptJsonOnly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) done(null, undefined);
    else if (!isUtf8(body as Buffer)) done(refuse('malformed-json', 'The body is not UTF-8'));
    else void parse(request, body.toString('utf8'), done);
  });
}

function answerUnknown(methods: MethodTable): (request: FastifyRequest, reply: FastifyReply) => FastifyReply {
  return (request, reply) => {
    const path = request.url.split('?', 1)[0] ?? '';
    const allowed = methods.allowed(path);
    if (allowed.length === 0) return sendProblem(reply, { code: 'not-found', detail: 'There is nothing at this path' });
    reply.header('allow', allowed.join(', '));
    return sendProblem(reply, { code: 'method-not-allowed', detail: `This path allows ${allowed.join(', ')}` });
  };
}

/** The hook that tells metrics and log of answers; null when nobody listens. */
function answerHook({ log, answered }: HttpServerOptions): AnswerHook | null {
  const debug = log.isLevelEnabled?.('debug') === true;
  if (!debug && answered === undefined) return null;
  return (request, reply, done) => {
    const { method, routeOptions } = request;
    answered?.(method, routeOptions.url ?? '', reply.statusCode, reply.elapsedTime / 1000);
    if (debug) {
      const { traceparent } = request;
      const fields = { method, route: routeOptions.url, status: reply.statusCode, ms: reply.elapsedTime, traceparent };
      log.debug(fields, 'answered');
    }
    done();
  };
}

/** Builds the server, not listening yet; routes are registered next, then `listen`. */
export async function createHttpServer(options: HttpServerOptions): Promise<FastifyInstance> {
  const methods = createMethodTable();
  const habits = {
    now: options.now ?? Date.now,
    https: options.https ?? options.tls !== undefined,
    ...(options.origins === undefined ? {} : { origins: options.origins }),
  };
  const app: FastifyInstance = fastify({
    serverFactory: (handler) => createListener(handler, options.tls, habits),
    bodyLimit: LIMITS.bodyBytes.value,
    clientErrorHandler: (error, socket) => answerClientError(error, socket, habits),
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: {
      ignoreTrailingSlash: false,
      ignoreDuplicateSlashes: false,
      caseSensitive: true,
      maxParamLength: 512,
    },
    frameworkErrors: (error, _request, reply) => {
      sendProblem(reply, refusalOf(error) ?? { code: 'internal', detail: ERRORS.internal.title });
    },
  });
  decorate(app, options);
  acceptJsonOnly(app);
  app.setValidatorCompiler(compileValidator);
  // Response schemas are documentation; what a route answers is sent as it is, never cut or converted.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler(createErrorHandler(options.log));
  app.addHook(
    'onRoute',
    createRouteRegistrar({
      authenticators: options.authenticators,
      methods,
      draining: options.draining ?? (() => false),
      onAnswer: answerHook(options),
    }),
  );
  app.setNotFoundHandler(answerUnknown(methods));
  return app;
}
