/** Sign-in, users, API keys and JWKS through the real HTTP server and a real database. */
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, openBench, PASSWORD } from '../../identity/testing.suite.ts';
import { apiKeysRoutes } from './api-keys.ts';
import { authRoutes } from './auth.ts';
import { jwksRoutes } from './jwks.ts';
import { createHttpServer } from './server.ts';
import { usersRoutes } from './users.ts';

const ORIGIN = 'https://alarm.test';
let bench: Bench;
let app: FastifyInstance;
let admin = '';
const logged: object[] = [];

beforeAll(async () => {
  bench = await openBench();
  const { identity, clock } = bench;
  const log = { error: (fields: object) => void logged.push(fields), debug: () => undefined };
  app = await createHttpServer({
    log,
    authenticators: identity.authenticators,
    trace: () => '00-x',
    trustedProxies: ['127.0.0.1'],
  });
  await app.register(
    authRoutes({
      signIn: identity.signIn,
      refresh: identity.refresh,
      signOut: identity.signOut,
      ticket: identity.tickets.issue,
      holder: identity.holder,
      now: clock.now,
      publicOrigin: ORIGIN,
    }),
  );
  await app.register(usersRoutes(identity.users));
  await app.register(apiKeysRoutes(identity.apiKeys));
  await app.register(jwksRoutes(identity.signingKeys));
  await identity.users.create({ email: 'admin@b.test', password: PASSWORD, role: 'admin' });
  await identity.users.create({ email: 'viewer@b.test', password: PASSWORD, role: 'viewer' });
});
afterAll(async () => {
  expect(logged).toEqual([]);
  await app.close();
  await bench.close();
});
beforeEach(async () => {
  bench.clock.advance(600_000);
  admin = bodyOf(await login('admin@b.test')).access_token;
});

type Headers = Record<string, string>;
const call = (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object, headers: Headers = {}) =>
  app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
const login = (email: string, more: object = {}, headers: Headers = {}) =>
  call('POST', '/v1/auth/login', { email, password: PASSWORD, ...more }, headers);
const bearer = (token: string): Headers => ({ authorization: `Bearer ${token}` });
/** The members of the answers that are looked at. */
interface Body {
  readonly [member: string]: unknown;
  readonly access_token: string;
  readonly refresh_token: string;
  readonly ticket: string;
  readonly id: string;
  readonly key: string;
  readonly subject: string;
  readonly next: string;
  readonly items: readonly { readonly name: string }[];
}

const bodyOf = (response: { json(): unknown }): Body => response.json() as Body;
const cookieOf = (response: { headers: Record<string, unknown> }): string => {
  const cookie = response.headers['set-cookie'];
  return typeof cookie === 'string' ? cookie : '';
};

describe('login', () => {
  test('answers with a pair and is never cached', async () => {
    const response = await login('viewer@b.test');
    expect(response.statusCode).toBe(200);
    expect(Object.keys(bodyOf(response)).sort()).toEqual(['access_token', 'expires_in', 'refresh_token', 'token_type']);
    expect(bodyOf(response)).toMatchObject({ token_type: 'Bearer', expires_in: 900 });
    expect(response.headers['cache-control']).toBe('no-store');
    expect(response.headers['set-cookie']).toBeUndefined();
  });

  test('with a wrong password is 401, and says neither who nor why', async () => {
    const response = await call('POST', '/v1/auth/login', { email: 'viewer@b.test', password: 'wrong wrong wrong' });
    expect([response.statusCode, bodyOf(response).code]).toEqual([401, 'credentials-wrong']);
    expect(response.body).not.toContain('viewer@b.test');
  });

  test('that is tried too often is 429 with Retry-After, for that address only', async () => {
    const from = (address: string) => login('x@b.test', {}, { 'x-forwarded-for': address });
    let last = await from('2001:db8::1');
    for (let count = 0; count < 12; count += 1) last = await from(`2001:db8::${count}`);
    expect([last.statusCode, bodyOf(last).code]).toEqual([429, 'rate-limited']);
    expect(Number(last.headers['retry-after'])).toBeGreaterThan(0);
  });

  test.each([
    ['no password', { email: 'a@b.test' }],
    ['a password that is a list', { email: 'a@b.test', password: ['x'] }],
    ['an object for an address', { email: { $ne: null }, password: PASSWORD }],
    ['an unknown member', { email: 'a@b.test', password: PASSWORD, role: 'admin' }],
    ['another kind of session', { email: 'a@b.test', password: PASSWORD, session: 'forever' }],
    ['a huge password', { email: 'a@b.test', password: 'x'.repeat(257) }],
  ])('with %s is 422', async (_name, body) => {
    expect((await call('POST', '/v1/auth/login', body)).statusCode).toBe(422);
  });
});

describe('the cookie', () => {
  test('is HttpOnly, SameSite=Strict, Secure on https, and holds the access token', async () => {
    const response = await login('viewer@b.test', { session: 'cookie' }, { origin: ORIGIN });
    const token = bodyOf(response).access_token;
    expect(cookieOf(response)).toBe(
      `tocsin_session=${token}; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict; Secure`,
    );
  });

  test('is not given to a page of another origin', async () => {
    const response = await login('viewer@b.test', { session: 'cookie' }, { origin: 'https://evil.test' });
    expect([response.statusCode, bodyOf(response).code]).toEqual([403, 'origin-forbidden']);
  });

  test('opens session, ticket and logout for our own pages, nothing for others and no other route', async () => {
    const token = bodyOf(await login('admin@b.test', { session: 'cookie' })).access_token;
    const cookie = `a=b; tocsin_session=${token}`;
    expect((await call('GET', '/v1/auth/session', undefined, { cookie })).statusCode).toBe(200);
    expect((await call('GET', '/v1/auth/session', undefined, { cookie, origin: 'https://evil.test' })).statusCode).toBe(
      403,
    );
    for (const url of ['/v1/auth/ticket', '/v1/auth/logout']) {
      expect((await call('POST', url, {}, { cookie })).statusCode).toBe(403);
      expect((await call('POST', url, {}, { cookie, origin: 'https://evil.test' })).statusCode).toBe(403);
      expect((await call('POST', url, {}, { cookie, origin: 'null' })).statusCode).toBe(403);
    }
    expect((await call('GET', '/v1/users', undefined, { cookie, origin: ORIGIN })).statusCode).toBe(401);
    expect((await call('POST', '/v1/auth/ticket', {}, { cookie, origin: ORIGIN })).statusCode).toBe(200);
    const out = await call('POST', '/v1/auth/logout', {}, { cookie, origin: ORIGIN });
    expect([out.statusCode, cookieOf(out)]).toEqual([
      204,
      'tocsin_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure',
    ]);
    expect(bodyOf(await call('GET', '/v1/auth/session', undefined, { cookie })).code).toBe('session-revoked');
  });

  test('is renewed by a refresh that carries it', async () => {
    const pair = bodyOf(await login('viewer@b.test', { session: 'cookie' }));
    const cookie = `tocsin_session=${pair.access_token}`;
    const response = await call('POST', '/v1/auth/refresh', { refresh_token: pair.refresh_token }, { cookie });
    expect(cookieOf(response)).toContain(`tocsin_session=${bodyOf(response).access_token}; `);
    const without = await call('POST', '/v1/auth/refresh', { refresh_token: bodyOf(response).refresh_token });
    expect(cookieOf(without)).toBe('');
  });
});

describe('refresh, session, logout, ticket', () => {
  test('a refresh gives a new pair, and a replayed one ends the session', async () => {
    const first = bodyOf(await login('viewer@b.test'));
    const second = bodyOf(
      await call('POST', '/v1/auth/refresh', { refresh_token: first.refresh_token, fingerprint: 'any' }),
    );
    expect(second.refresh_token).not.toBe(first.refresh_token);
    bench.clock.advance(10_001);
    const replay = await call('POST', '/v1/auth/refresh', { refresh_token: first.refresh_token });
    expect([replay.statusCode, bodyOf(replay).code]).toEqual([401, 'session-revoked']);
    const session = await call('GET', '/v1/auth/session', undefined, bearer(second.access_token));
    expect([session.statusCode, bodyOf(session).code]).toEqual([401, 'session-revoked']);
  });

  test('the session says who the token belongs to', async () => {
    const response = await call('GET', '/v1/auth/session', undefined, bearer(admin));
    expect(bodyOf(response)).toMatchObject({
      role: 'admin',
      deviceId: null,
      scope: 'api',
      expiresAt: Math.floor(bench.clock.now() / 1000) * 1000 + 900_000,
    });
    expect(response.body).not.toContain(admin);
  });

  test.each([
    ['no header', {}, 'credentials-missing'],
    ['another scheme', { authorization: 'Basic YTpi' }, 'token-invalid'],
    ['no token', { authorization: 'Bearer ' }, 'token-invalid'],
    ['two tokens', { authorization: 'Bearer a.b.c, Bearer d.e.f' }, 'token-invalid'],
    ['a cookie of another name', { cookie: 'xtocsin_session=a.b.c' }, 'credentials-missing'],
  ])('with %s they are 401', async (_name, headers, code) => {
    for (const [method, url] of [
      ['GET', '/v1/auth/session'],
      ['POST', '/v1/auth/logout'],
      ['POST', '/v1/auth/ticket'],
    ] as const) {
      const response = await call(method, url, undefined, headers);
      expect([response.statusCode, bodyOf(response).code]).toEqual([401, code]);
    }
  });

  test('logout without a body ends the session; a second one is 401', async () => {
    const token = bodyOf(await login('viewer@b.test')).access_token;
    expect((await call('POST', '/v1/auth/logout', undefined, bearer(token))).statusCode).toBe(204);
    expect(bodyOf(await call('POST', '/v1/auth/logout', undefined, bearer(token))).code).toBe('session-revoked');
  });

  test('logout for a device by a token that is not its own is 403 and ends nothing', async () => {
    for (const body of [{ device_id: 'd1' }, { block: true }, { device_id: 'd1', block: true }]) {
      const response = await call('POST', '/v1/auth/logout', body, bearer(admin));
      expect([response.statusCode, bodyOf(response).code]).toEqual([403, 'device-mismatch']);
    }
    expect((await call('GET', '/v1/auth/session', undefined, bearer(admin))).statusCode).toBe(200);
  });

  test('a ticket is for the user of the token, once', async () => {
    const response = await call('POST', '/v1/auth/ticket', undefined, bearer(admin));
    expect(bodyOf(response).ticket).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(bodyOf(response)['expires_in']).toBe(30);
    expect(await bench.identity.tickets.redeem(bodyOf(response).ticket)).toMatchObject({ kind: 'user', role: 'admin' });
    await expect(bench.identity.tickets.redeem(bodyOf(response).ticket)).rejects.toMatchObject({
      refusal: { code: 'token-invalid' },
    });
  });
});

describe('users and API keys', () => {
  test('are for admins alone', async () => {
    const viewer = bodyOf(await login('viewer@b.test')).access_token;
    for (const url of ['/v1/users', '/v1/api-keys']) {
      expect((await call('GET', url)).statusCode).toBe(401);
      expect(bodyOf(await call('GET', url, undefined, bearer(viewer))).code).toBe('role-insufficient');
      expect((await call('GET', url, undefined, bearer(admin))).statusCode).toBe(200);
    }
  });

  test('users are made, shown, changed and deleted', async () => {
    const made = await call(
      'POST',
      '/v1/users',
      { email: 'New@b.test', password: PASSWORD, role: 'operator' },
      bearer(admin),
    );
    expect([made.statusCode, Object.keys(bodyOf(made)).sort()]).toEqual([
      201,
      ['createdAt', 'disabledAt', 'email', 'id', 'role'],
    ]);
    const url = `/v1/users/${bodyOf(made).id}`;
    expect(bodyOf(await call('GET', url, undefined, bearer(admin)))).toEqual(bodyOf(made));
    const again = await call(
      'POST',
      '/v1/users',
      { email: 'new@B.test', password: PASSWORD, role: 'viewer' },
      bearer(admin),
    );
    expect([again.statusCode, bodyOf(again).code]).toEqual([409, 'already-exists']);
    expect(bodyOf(await call('PATCH', url, { disabled: true }, bearer(admin))).disabledAt).toBe(bench.clock.now());
    expect((await login('new@b.test')).statusCode).toBe(401);
    expect((await call('PATCH', url, {}, bearer(admin))).statusCode).toBe(422);
    expect((await call('PATCH', url, { id: 'x' }, bearer(admin))).statusCode).toBe(422);
    expect((await call('DELETE', url, undefined, bearer(admin))).statusCode).toBe(204);
    expect((await call('GET', url, undefined, bearer(admin))).statusCode).toBe(404);
  });

  test('the last admin stays', async () => {
    const { subject } = bodyOf(await call('GET', '/v1/auth/session', undefined, bearer(admin)));
    const response = await call('DELETE', `/v1/users/${subject}`, undefined, bearer(admin));
    expect([response.statusCode, bodyOf(response).code]).toEqual([409, 'last-admin']);
  });

  test('a key is shown when it is made and never again, and is refused once revoked', async () => {
    const made = await call('POST', '/v1/api-keys', { name: 'gateway', scopes: ['register', 'ingest'] }, bearer(admin));
    expect([made.statusCode, bodyOf(made).scopes]).toEqual([201, ['ingest', 'register']]);
    const { id, key } = bodyOf(made);
    expect(await bench.identity.authenticators.apiKey(key)).toEqual({
      kind: 'api-key',
      id,
      scopes: ['ingest', 'register'],
    });
    expect((await call('GET', '/v1/api-keys', undefined, bearer(admin))).body).not.toContain(key);
    expect((await call('DELETE', `/v1/api-keys/${id}`, undefined, bearer(admin))).statusCode).toBe(204);
    expect((await call('DELETE', `/v1/api-keys/${id}`, undefined, bearer(admin))).statusCode).toBe(404);
    await expect(bench.identity.authenticators.apiKey(key)).rejects.toMatchObject({
      refusal: { code: 'api-key-unknown' },
    });
    await expect(bench.identity.authenticators.apiKey(undefined)).rejects.toMatchObject({
      refusal: { code: 'api-key-missing' },
    });
  });

  test.each([
    [{}],
    [{ name: '' }],
    [{ name: 'a\u0000b' }],
    [{ name: 'a', scopes: [] }],
    [{ name: 'a', scopes: ['admin'] }],
  ])('a key from %j is 422', async (body) => {
    expect((await call('POST', '/v1/api-keys', body, bearer(admin))).statusCode).toBe(422);
  });

  test('are listed newest first by a cursor that goes on', async () => {
    for (const name of ['a', 'b', 'c']) {
      await call('POST', '/v1/api-keys', { name }, bearer(admin));
      bench.clock.advance(1);
    }
    const first = bodyOf(await call('GET', '/v1/api-keys?limit=2', undefined, bearer(admin)));
    expect(first.items.map((item) => item.name)).toEqual(['c', 'b']);
    const second = bodyOf(await call('GET', `/v1/api-keys?limit=1&cursor=${first.next}`, undefined, bearer(admin)));
    expect(second.items.map((item) => item.name)).toEqual(['a']);
  });
});

test('the JWKS is public, cached for a minute, and the same at both paths', async () => {
  const [one, two] = [
    await call('GET', '/.well-known/jwks.json'),
    await call('GET', '/internal/.well-known/jwks.json'),
  ];
  expect(one.headers['cache-control']).toContain('max-age=60');
  expect(bodyOf(one)).toEqual(bodyOf(two));
  expect(bodyOf(one).keys).toHaveLength(3);
  expect(one.body).not.toContain('"d"');
});
