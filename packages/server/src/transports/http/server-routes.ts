/**
 * What every route gets by being registered: its access rule as hooks of its own (a route without one stops the start),
 * its answer headers, and a place in the table from which 405 knows what a path allows.
 *
 * A route with `config.access` `own` or `public` and `config.headers` `bare` runs no hook at all: that is the hot path.
 */
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { refuse } from '@tocsin/protocol/refusal-error';
import { roleAllows, type Access, type Authenticators, type Caller } from './access.ts';
import { closesItsKeys } from './validation.ts';

/** Which headers the answers of a route carry: `api` all for JSON, `page` those of web pages, `bare` the fewest. */
export type HeaderSet = 'api' | 'page' | 'bare';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Default `api`. */
    headers?: HeaderSet;
  }
}

/** Answer headers for JSON: nothing in them may be run, framed, cached or guessed at. */
export const API_HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

/** Answer headers for web pages; scripts and styles only from files of ours. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'origin-agent-cluster': '?1',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-dns-prefetch-control': 'off',
  'x-frame-options': 'DENY',
};

type Hook = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void;

function headerHook(set: HeaderSet): Hook | null {
  if (set === 'bare') return null;
  const headers = set === 'page' ? PAGE_HEADERS : API_HEADERS;
  return (request, reply, done) => {
    reply.headers(headers);
    if (set === 'api') reply.header('traceparent', request.traceparent);
    done();
  };
}

/** Checks the credentials of a request against a rule; refuses 401 or 403. */
export async function authenticate(
  request: FastifyRequest,
  access: Access,
  authenticators: Authenticators,
): Promise<Caller> {
  const { headers } = request;
  const key = headers['x-api-key'];
  const apiKey = typeof key === 'string' ? key : undefined;
  switch (access.kind) {
    case 'public':
    case 'own':
      return { kind: 'nobody' };
    case 'api-key': {
      const caller = await authenticators.apiKey(apiKey);
      if (!caller.scopes.includes(access.scope))
        throw refuse('scope-insufficient', `The API key lacks the scope ${access.scope}`);
      return caller;
    }
    case 'api-key-or-bearer':
      if (apiKey === undefined && headers.authorization === undefined)
        throw refuse('credentials-missing', 'An API key or a bearer token is needed');
      return apiKey === undefined ? authenticators.bearer(headers.authorization) : authenticators.apiKey(apiKey);
    case 'bearer': {
      const caller = await authenticators.bearer(headers.authorization);
      if (!roleAllows(caller.role, access.role)) throw refuse('role-insufficient', `The role ${access.role} is needed`);
      return caller;
    }
  }
}

function accessHook(access: Access, authenticators: Authenticators): Hook | null {
  if (access.kind === 'public' || access.kind === 'own') return null;
  return (request, _reply, done) => {
    authenticate(request, access, authenticators).then(
      (caller) => {
        request.caller = caller;
        done();
      },
      (error: unknown) => done(error as Error),
    );
  };
}

/** Where a path's methods are looked up for 405. */
export interface MethodTable {
  add(method: string, pattern: string): void;
  /** Methods that a path knows, sorted; empty when the path is not known. */
  allowed(path: string): string[];
}

/** Builds an empty {@link MethodTable}. Patterns as the router writes them: `/a/:id/b`, `/docs/*`. */
export function createMethodTable(): MethodTable {
  const patterns = new Map<string, Set<string>>();
  return {
    add(method, pattern) {
      const methods = patterns.get(pattern) ?? new Set();
      patterns.set(pattern, methods.add(method));
    },
    allowed(path) {
      const segments = path.split('/');
      const methods = new Set<string>();
      for (const [pattern, known] of patterns) {
        if (matches(pattern.split('/'), segments)) for (const method of known) methods.add(method);
      }
      return [...methods].sort();
    },
  };
}

function matches(pattern: readonly string[], segments: readonly string[]): boolean {
  for (const [index, part] of pattern.entries()) {
    if (part === '*') return segments.length > index;
    const segment = segments[index];
    if (segment === undefined) return false;
    if (part.startsWith(':') ? segment === '' : part !== segment) return false;
  }
  return pattern.length === segments.length;
}

/** What {@link createRouteRegistrar} needs. */
export interface RegistrarOptions {
  readonly authenticators: Authenticators;
  readonly methods: MethodTable;
  /** True while the server ends: what is not public is refused with `draining`. */
  readonly draining: () => boolean;
  /** Runs after each answer but those of `bare` routes, where a hook would cost more than it tells. */
  readonly onAnswer: AnswerHook | null;
}

/** What hears of answers. */
export type AnswerHook = (request: FastifyRequest, reply: FastifyReply, done: () => void) => void;

function requireClosedSchemas(route: RouteOptions): void {
  const { body, querystring } = route.schema ?? {};
  if (closesItsKeys(body) && closesItsKeys(querystring)) return;
  throw new Error(
    `the schema of ${String(route.method)} ${route.url} does not say what happens to unknown keys (additionalProperties)`,
  );
}

/** Builds the `onRoute` hook. It throws, which stops the start, on a route without `config.access`. */
export function createRouteRegistrar(options: RegistrarOptions): (route: RouteOptions) => void {
  const refuseWhileDraining: Hook = (_request, _reply, done) => {
    if (options.draining()) done(refuse('draining'));
    else done();
  };
  return (route) => {
    const access = route.config?.access ?? (route.url.startsWith('/docs') ? ({ kind: 'public' } as const) : undefined);
    if (access === undefined) throw new Error(`the route ${String(route.method)} ${route.url} has no config.access`);
    requireClosedSchemas(route);
    for (const method of [route.method].flat()) options.methods.add(method, route.url);
    const set = route.config?.headers ?? (route.url.startsWith('/docs') ? 'page' : 'api');
    const bare = set === 'bare';
    const hooks = [
      headerHook(set),
      access.kind === 'public' || bare ? null : refuseWhileDraining,
      accessHook(access, options.authenticators),
    ].filter((hook) => hook !== null);
    const own = route.onRequest === undefined ? [] : [route.onRequest].flat();
    if (hooks.length > 0) route.onRequest = [...hooks, ...own] as NonNullable<RouteOptions['onRequest']>;
    if (options.onAnswer !== null && !bare) route.onResponse = options.onAnswer;
  };
}
