import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { ERRORS } from '@tocsin/protocol/errors';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { afterEach, describe, expect, test } from 'vitest';
import { CodedError } from '../../lib/coded-error.ts';
import type { Access, Authenticators } from './access.ts';
import { registerDocs } from './docs.ts';
import { healthRoutes } from './health.ts';
import { createHttpServer, type HttpServerOptions } from './server.ts';

const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
/** What the answers of these tests may hold. */
interface Answer {
  readonly kind: string;
  readonly code: string;
  readonly address: string;
  readonly openapi: string;
  readonly paths: object;
  readonly errors: readonly object[];
}

const open: FastifyInstance[] = [];
const logged: object[] = [];

const authenticators: Authenticators = {
  apiKey: async (key) => {
    if (key === undefined) throw refuse('api-key-missing');
    if (key !== 'good') throw refuse('api-key-unknown');
    return { kind: 'api-key', id: 'k', scopes: ['ingest'] };
  },
  bearer: async (authorization) => {
    if (authorization === undefined) throw refuse('credentials-missing');
    return { kind: 'user', id: 'u', role: 'viewer', sessionId: 's', expiresAt: 0 };
  },
};

async function server(options: Partial<HttpServerOptions> = {}): Promise<FastifyInstance> {
  const log = { error: (fields: object) => void logged.push(fields), debug: () => {} };
  const app = await createHttpServer({ log, authenticators, trace: (header) => header ?? TRACE, ...options });
  open.push(app);
  return app;
}

function route(app: FastifyInstance, access: Access, url = '/thing'): void {
  app.get(url, { config: { access } }, (request) => request.caller);
}

async function raw(app: FastifyInstance, bytes: string): Promise<string> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => {});
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString();
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((app) => app.close()));
  logged.length = 0;
});

const body = Type.Object(
  { name: Type.String(), count: Type.Optional(Type.Integer()) },
  { additionalProperties: false },
);
const query = Type.Object(
  { limit: Type.Optional(Type.String({ pattern: '^\\d+$' })) },
  { additionalProperties: false },
);
const PUBLIC = { access: { kind: 'public' } } as const;

async function withThings(): Promise<FastifyInstance> {
  const app = await server();
  app.post('/v1/things', { config: PUBLIC, schema: { body, querystring: query } }, (request) => request.body as object);
  app.get('/v1/things/:id', { config: PUBLIC }, (request) => request.params as object);
  app.delete('/v1/things/:id', { config: PUBLIC }, (_request, reply) => reply.code(204).send());
  return app;
}

const post = (payload: string, type = 'application/json', url = '/v1/things') =>
  ({ method: 'POST', url, payload, headers: { 'content-type': type } }) as const;

describe('refusals', () => {
  test.each([
    ['text that is no JSON', post('{'), 'malformed-json'],
    ['no body', { method: 'POST', url: '/v1/things' } as const, 'malformed-json'],
    ['an empty body with a content type', post(''), 'malformed-json'],
    ['a __proto__ key', post('{"__proto__":{"x":1},"name":"a"}'), 'malformed-json'],
    ['a constructor.prototype key', post('{"constructor":{"prototype":{"x":1}},"name":"a"}'), 'malformed-json'],
    ['an unknown query parameter', post('{"name":"a"}', 'application/json', '/v1/things?wat=1'), 'malformed-parameter'],
    [
      'a malformed query parameter',
      post('{"name":"a"}', 'application/json', '/v1/things?limit=x'),
      'malformed-parameter',
    ],
    ['another content type', post('{"name":"a"}', 'text/plain'), 'content-type'],
    ['a broken content type', post('{"name":"a"}', 'wat'), 'content-type'],
    ['a body over 256 KiB', post(`"${'x'.repeat(262_144)}"`), 'body-too-large'],
    ['a number where text belongs', post('{"name":1}'), 'schema'],
    ['text where a number belongs', post('{"name":"a","count":"1"}'), 'schema'],
    ['an unknown key', post('{"name":"a","wat":1}'), 'schema'],
    ['null', post('null'), 'schema'],
    ['an unknown path', { method: 'GET', url: '/nowhere' } as const, 'not-found'],
    ['a path with one slash more', { method: 'GET', url: '/v1/things/a/' } as const, 'not-found'],
    ['a path that cannot be decoded', { method: 'GET', url: '/v1/things/%ff' } as const, 'malformed-parameter'],
    ['a path with an endless parameter', { method: 'GET', url: `/v1/things/${'x'.repeat(600)}` } as const, 'not-found'],
    ['another method', { method: 'PUT', url: '/v1/things/a' } as const, 'method-not-allowed'],
  ])('%s is a problem of the table', async (_name, request, code) => {
    const app = await withThings();
    const answer = await app.inject(request as object);
    const row = ERRORS[code as keyof typeof ERRORS];
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json<Answer>()).toMatchObject({
      type: `urn:tocsin:error:${code}`,
      code,
      status: row.status,
      title: row.title,
    });
    expect(answer.statusCode).toBe(row.status);
    expect(answer.headers['cache-control']).toBe('no-store');
  });

  test('a schema failure points at each place, at most 20', async () => {
    const app = await withThings();
    const two = (await app.inject(post('{"count":1.5,"a/b":1}'))).json<Answer>();
    expect(two.errors).toEqual(
      expect.arrayContaining([
        { pointer: '/name', detail: 'is missing' },
        { pointer: '/a~1b', detail: 'is not known here' },
        { pointer: '/count', detail: 'must be integer' },
      ]),
    );
    expect(two.errors).toHaveLength(3);
    const keys = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`k${index}`, 1]));
    expect((await app.inject(post(JSON.stringify({ name: 'a', ...keys })))).json<Answer>().errors).toHaveLength(20);
  });

  test('405 names what the path allows', async () => {
    const app = await withThings();
    expect((await app.inject({ method: 'PATCH', url: '/v1/things/a' })).headers['allow']).toBe('DELETE, GET, HEAD');
    expect((await app.inject({ method: 'GET', url: '/v1/things?limit=1' })).headers['allow']).toBe('POST');
  });

  test('a DELETE with a content type and no body is taken', async () => {
    const app = await withThings();
    const headers = { 'content-type': 'application/json' };
    expect((await app.inject({ method: 'DELETE', url: '/v1/things/a', headers })).statusCode).toBe(204);
  });

  test('an unexpected error says nothing outside and is logged with its trace', async () => {
    const app = await server();
    app.get('/fails', { config: PUBLIC }, () => {
      throw new Error('password=hunter2');
    });
    const answer = await app.inject({ url: '/fails', headers: { traceparent: TRACE } });
    expect(answer.statusCode).toBe(500);
    expect(answer.body).not.toContain('hunter2');
    expect(answer.json<Answer>().code).toBe('internal');
    expect(logged).toEqual([expect.objectContaining({ traceparent: TRACE, route: '/fails' })]);
  });

  test('a store that is away is 503 with Retry-After', async () => {
    const app = await server();
    app.get('/fails', { config: PUBLIC }, async () => {
      throw new CodedError('store-unavailable', 'connect ECONNREFUSED');
    });
    const answer = await app.inject({ url: '/fails' });
    expect(answer.statusCode).toBe(503);
    expect(answer.headers['retry-after']).toBe('1');
    expect(answer.body).not.toContain('ECONNREFUSED');
  });

  test.each([
    ['headers over 16 KiB', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`, 431, 'headers-too-large'],
    ['what is no HTTP', 'wat\r\n\r\n', 400, 'malformed-request'],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
      'malformed-request',
    ],
    ['a request without Host', 'GET / HTTP/1.1\r\n\r\n', 400, 'malformed-request'],
    ['a request with two', 'GET / HTTP/1.1\r\nHost: a\r\nHOST: b\r\n\r\n', 400, 'malformed-request'],
  ])('%s is a problem too, and the end of the connection', async (_name, bytes, status, code) => {
    const text = await raw(await withThings(), bytes);
    expect(text).toContain(`HTTP/1.1 ${status}`);
    expect(text.toLowerCase()).toContain('content-type: application/problem+json');
    expect(text).toContain(`"code":"${code}"`);
  });
});

describe('access', () => {
  test('a route without an access rule stops the start', async () => {
    const app = await server();
    expect(() => app.get('/thing', () => 'x')).toThrow(/config\.access/);
  });

  test('a route whose schema is open for unknown keys stops the start', async () => {
    const app = await server();
    const schema = { body: Type.Object({ a: Type.String() }) };
    expect(() => app.post('/thing', { config: PUBLIC, schema }, () => 'x')).toThrow(/additionalProperties/);
  });

  test.each([
    [{ kind: 'public' }, {}, 200, 'nobody'],
    [{ kind: 'own' }, {}, 200, 'nobody'],
    [{ kind: 'api-key', scope: 'ingest' }, {}, 401, 'api-key-missing'],
    [{ kind: 'api-key', scope: 'ingest' }, { 'x-api-key': 'bad' }, 401, 'api-key-unknown'],
    [{ kind: 'api-key', scope: 'register' }, { 'x-api-key': 'good' }, 403, 'scope-insufficient'],
    [{ kind: 'api-key', scope: 'ingest' }, { 'x-api-key': 'good' }, 200, 'api-key'],
    [{ kind: 'api-key-or-bearer' }, {}, 401, 'credentials-missing'],
    [{ kind: 'api-key-or-bearer' }, { 'x-api-key': 'good' }, 200, 'api-key'],
    [{ kind: 'api-key-or-bearer' }, { authorization: 'Bearer x' }, 200, 'user'],
    [{ kind: 'bearer', role: 'viewer' }, {}, 401, 'credentials-missing'],
    [{ kind: 'bearer', role: 'viewer' }, { authorization: 'Bearer x' }, 200, 'user'],
    [{ kind: 'bearer', role: 'operator' }, { authorization: 'Bearer x' }, 403, 'role-insufficient'],
  ] as [Access, Record<string, string>, number, string][])(
    '%j with %j answers %i',
    async (access, headers, status, word) => {
      const app = await server();
      route(app, access);
      const answer = await app.inject({ url: '/thing', headers });
      expect(answer.statusCode).toBe(status);
      expect(status === 200 ? answer.json<Answer>().kind : answer.json<Answer>().code).toBe(word);
      expect(answer.headers['www-authenticate'] !== undefined).toBe(status === 401);
    },
  );

  test('credentials are asked for before the body is looked at', async () => {
    const app = await server();
    app.post('/thing', { config: { access: { kind: 'bearer', role: 'viewer' } }, schema: { body } }, () => 'x');
    expect((await app.inject(post('{', 'application/json', '/thing'))).statusCode).toBe(401);
  });

  test('while the server ends, only public routes answer', async () => {
    const app = await server({ draining: () => true });
    route(app, { kind: 'public' }, '/open');
    route(app, { kind: 'own' });
    expect((await app.inject('/open')).statusCode).toBe(200);
    expect((await app.inject('/thing')).json<Answer>().code).toBe('draining');
  });
});

describe('answers', () => {
  test('JSON is not cached, framed or guessed at, and names no software', async () => {
    const app = await server();
    route(app, { kind: 'public' });
    const { headers } = await app.inject({ url: '/thing', headers: { traceparent: TRACE } });
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      traceparent: TRACE,
    });
    expect(headers['content-security-policy']).toContain("default-src 'none'");
    expect(headers['x-powered-by']).toBeUndefined();
    expect(headers['server']).toBeUndefined();
    expect(headers['strict-transport-security']).toBeUndefined();
  });

  test('the address is the proxy’s word only when the proxy is trusted', async () => {
    const ask = async (trustedProxies: string[]): Promise<string> => {
      const app = await server({ trustedProxies });
      app.get('/address', { config: PUBLIC }, (request) => ({ address: request.clientAddress }));
      const headers = { 'x-forwarded-for': '9.9.9.9, 203.0.113.7' };
      return (await app.inject({ url: '/address', headers, remoteAddress: '10.0.0.1' })).json<Answer>().address;
    };
    expect(await ask([])).toBe('10.0.0.1');
    expect(await ask(['10.0.0.0/8'])).toBe('203.0.113.7');
  });
});

describe('operations', () => {
  test('ready is 503 with its checks while the server is not', async () => {
    for (const status of ['starting', 'draining', 'store-unavailable'] as const) {
      const app = await server();
      healthRoutes(app, { ready: () => ({ status, checks: { store: 'away' } }), metrics: () => 'a 1\n' });
      const answer = await app.inject('/health/ready');
      expect(answer.statusCode).toBe(503);
      expect(answer.json<Answer>()).toMatchObject({ code: status, checks: { store: 'away' } });
    }
  });

  test('ready, live and metrics answer without credentials', async () => {
    const app = await server();
    healthRoutes(app, { ready: () => ({ status: 'degraded', checks: {} }), metrics: () => 'a 1\n' });
    expect((await app.inject('/health/ready')).json<Answer>()).toEqual({ status: 'degraded', checks: {} });
    expect((await app.inject('/health/live')).json<Answer>()).toEqual({ status: 'ok' });
    const metrics = await app.inject('/metrics');
    expect([metrics.body, metrics.headers['content-type']]).toEqual([
      'a 1\n',
      'text/plain; version=0.0.4; charset=utf-8',
    ]);
  });

  test('the documentation lists the routes and its page renders under a CSP', async () => {
    const app = await server();
    await registerDocs(app, { version: '0.1.0', publicUrl: 'http://localhost' });
    healthRoutes(app, { ready: () => ({ status: 'ok', checks: {} }), metrics: () => '' });
    await app.ready();
    const document = (await app.inject('/openapi.json')).json<Answer>();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toContain('/health/ready');
    const page = await app.inject({ url: '/docs/' });
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-type']).toContain('text/html');
    expect(page.headers['content-security-policy']).toContain('script-src');
  });
});
