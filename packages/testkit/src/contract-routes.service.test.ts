/** The contract's section 3 over HTTP: who may call what, people, keys. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal, type Reply } from './contract-client.suite.ts';
import { type Contract, fresh, openContract } from './contract-system.suite.ts';
import { createDevice } from './device.ts';

let contract: Contract;
let app: Contract['app'];
let { go, admin, makeKey } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, admin, makeKey } = contract);
});
afterAll(() => app?.stop());

async function person(role: string): Promise<string> {
  const [email, password] = [`${fresh(role)}@example.org`, `correct-horse-${role}`];
  const made = await admin('POST', '/v1/users', { email, password, role });
  expect(made).toMatchObject({ status: 201, json: { email, role } });
  expect(JSON.stringify(made.json)).not.toContain('assword');
  const signedIn = await go('/v1/auth/login', { method: 'POST', body: { email, password } });
  expect(signedIn).toMatchObject({ status: 200, json: { token_type: 'Bearer', expires_in: 900 } });
  return signedIn.json.access_token;
}

describe('3. who may call what', () => {
  test('each route wants its own credential', async () => {
    const keys = {
      ingest: await makeKey(['ingest']),
      register: await makeKey(['register']),
      read: await makeKey(['read']),
    };
    const status = async (method: string, path: string, key: string, body?: object): Promise<number> =>
      (await go(path, { method, key, ...(body === undefined ? {} : { body }) })).status;
    const city = (): object => ({ city: fresh('city') });
    expect([
      await status('POST', '/zones/', keys.register, city()),
      await status('POST', '/zones/', keys.ingest, city()),
      await status('POST', '/zones/', keys.read, city()),
    ]).toEqual([201, 403, 403]);
    expect([
      await status('POST', '/misurators/', keys.register, {}),
      await status('POST', '/misurators/', keys.ingest, {}),
    ]).toEqual([422, 403]);
    expect([
      await status('POST', '/misurations/', keys.ingest, {}),
      await status('POST', '/misurations/', keys.register, {}),
    ]).toEqual([422, 403]);
    for (const path of ['/zones/', '/misurators/', '/statistics', '/zones/1/alerts']) {
      for (const key of Object.values(keys)) expect(await status('GET', path, key)).toBe(200);
      expect((await go(path, { token: app.token })).status).toBe(200);
      expectRefusal(await go(path), 401);
      expectRefusal(await go(path, { key: 'unknown-key-0000000' }), 401, 'api-key-unknown');
    }
    expectRefusal(await go('/zones/', { method: 'POST', body: city(), token: app.token }), 401, 'api-key-missing');
    for (const path of ['/v1/zones', '/v1/devices', '/v1/users', '/v1/api-keys', '/v1/alerts'])
      expectRefusal(await go(path, { key: app.apiKey }), 401);
    for (const path of [
      '/health',
      '/health/live',
      '/health/ready',
      '/docs',
      '/openapi.json',
      '/.well-known/jwks.json',
      '/internal/.well-known/jwks.json',
      '/metrics',
    ]) {
      expect((await go(path)).status).toBeLessThan(400);
    }
  });

  test('viewers read, operators write zones and devices, admins keep users and keys', async () => {
    const [viewer, operator] = [await person('viewer'), await person('operator')];
    const publicKey = createDevice('x').publicKeyPem;
    for (const path of [
      '/v1/zones',
      '/v1/devices',
      '/v1/alerts',
      '/v1/devices/sensor',
      '/v1/devices/sensor/statistics',
    ]) {
      for (const token of [viewer, operator, app.token]) expect((await go(path, { token })).status).toBe(200);
    }
    const writes: readonly (readonly [string, string, object?])[] = [
      ['POST', '/v1/zones', { id: 'roles', name: 'x' }],
      ['PATCH', '/v1/zones/roles', { name: 'y' }],
      ['POST', '/v1/devices', { id: 'roles', profile: 'seismic', publicKey }],
      ['PATCH', '/v1/devices/roles', { latitude: 1, longitude: 2 }],
      ['DELETE', '/v1/devices/roles'],
      ['DELETE', '/v1/zones/roles'],
      ['POST', '/v1/alerts', { severity: 'minor', headline: 'drill' }],
    ];
    for (const [method, path, body] of writes) {
      const sent = { method, ...(body === undefined ? {} : { body }) };
      expectRefusal(await go(path, { ...sent, token: viewer }), 403, 'role-insufficient');
      expect((await go(path, { ...sent, token: operator })).status).toBeLessThan(300);
    }
    for (const path of ['/v1/users', '/v1/api-keys']) {
      for (const token of [viewer, operator]) {
        expectRefusal(await go(path, { token }), 403, 'role-insufficient');
        expectRefusal(await go(path, { method: 'POST', token, body: { name: 'x' } }), 403, 'role-insufficient');
      }
      expect((await go(path, { token: app.token })).status).toBe(200);
    }
  });

  test('a bearer token is one that was issued here, whole and of the right type', async () => {
    const use = (authorization: string): Promise<Reply> => go('/v1/zones', { headers: { authorization } });
    const [head = '', claims = '', signature = ''] = app.token.split('.');
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const header = JSON.parse(Buffer.from(head, 'base64url').toString());
    const body = JSON.parse(Buffer.from(claims, 'base64url').toString());
    expect(header).toMatchObject({ typ: 'at+jwt', alg: 'ES256' });
    expect((await use(`bearer ${app.token}`)).status).toBe(200);
    for (const token of [
      `${head}.${claims}`,
      `${head}.${claims}.`,
      `${encode({ ...header, alg: 'none' })}.${claims}.`,
      `${encode({ ...header, alg: 'HS256' })}.${claims}.${signature}`,
      `${head}.${encode({ ...body, role: 'root' })}.${signature}`,
      `${head}.${claims}.${signature.slice(0, -2)}AA`,
      `${app.token}.x`,
      `x${app.token}`,
      'a'.repeat(9000),
    ]) {
      expectRefusal(await use(`Bearer ${token}`), 401);
    }
    for (const text of [
      'Bearer',
      'Bearer ',
      app.token,
      `Token ${app.token}`,
      `Bearer ${app.token} x`,
      `Bearer ${app.token}, Bearer ${app.token}`,
    ])
      expectRefusal(await use(text), 401);
    const [{ refresh_token: refresh }] = [
      (await go('/v1/auth/login', { method: 'POST', body: await credentials() })).json,
    ];
    expectRefusal(await use(`Bearer ${refresh}`), 401);
  });

  async function credentials(): Promise<object> {
    const [email, password] = [`${fresh('r')}@example.org`, 'correct-horse-battery'];
    await admin('POST', '/v1/users', { email, password, role: 'viewer' });
    return { email, password };
  }

  test('signing out ends the token at once', async () => {
    const token = await person('viewer');
    expect((await go('/v1/auth/session', { token })).json).toMatchObject({ role: 'viewer' });
    expect((await go('/v1/auth/logout', { method: 'POST', token })).status).toBe(204);
    expectRefusal(await go('/v1/zones', { token }), 401, 'session-revoked');
  });

  test('a revoked key counts no more, and a key is shown once', async () => {
    const made = await admin('POST', '/v1/api-keys', { name: 'short-lived', scopes: ['ingest', 'read'] });
    expect(made).toMatchObject({
      status: 201,
      json: { name: 'short-lived', scopes: ['ingest', 'read'], revokedAt: null },
    });
    const { id, key } = made.json;
    expect((await go('/statistics', { key })).status).toBe(200);
    expect((await go('/v1/api-keys', { token: app.token })).text).not.toContain(key);
    expect((await admin('DELETE', `/v1/api-keys/${id}`)).status).toBe(204);
    expectRefusal(await go('/statistics', { key }), 401, 'api-key-unknown');
    expectRefusal(await admin('DELETE', `/v1/api-keys/${id}`), 404, 'not-found');
    for (const bad of [
      {},
      { name: '' },
      { name: 'x', scopes: [] },
      { name: 'x', scopes: ['admin'] },
      { name: 'x', scopes: 'ingest' },
      { name: 'x', key: 'mine' },
      { name: 'x', scopes: ['read', 'read'] },
    ]) {
      expectRefusal(await admin('POST', '/v1/api-keys', bad), 422, 'schema');
    }
  });
});

describe('3. people', () => {
  test('a user is made, changed and deleted; a change ends the sessions', async () => {
    const [email, password] = ['Person@Example.ORG', 'a long pass phrase'];
    const made = await admin('POST', '/v1/users', { email, password, role: 'viewer' });
    expect(made).toMatchObject({ status: 201, json: { email: 'person@example.org', role: 'viewer' } });
    expectRefusal(
      await admin('POST', '/v1/users', { email: 'person@example.org', password, role: 'admin' }),
      409,
      'already-exists',
    );
    const { access_token: token } = (await go('/v1/auth/login', { method: 'POST', body: { email, password } })).json;
    expect((await go('/v1/zones', { token })).status).toBe(200);
    expect((await admin('PATCH', `/v1/users/${made.json.id}`, { role: 'operator' })).json).toMatchObject({
      role: 'operator',
    });
    expectRefusal(await go('/v1/zones', { token }), 401, 'session-revoked');
    expectRefusal(
      await go('/v1/auth/login', { method: 'POST', body: { email, password: `${password}x` } }),
      401,
      'credentials-wrong',
    );
    expectRefusal(
      await go('/v1/auth/login', { method: 'POST', body: { email: 'nobody@example.org', password } }),
      401,
      'credentials-wrong',
    );
    expect((await admin('DELETE', `/v1/users/${made.json.id}`)).status).toBe(204);
    expectRefusal(await go('/v1/auth/login', { method: 'POST', body: { email, password } }), 401, 'credentials-wrong');
    for (const bad of [
      {},
      { email, password },
      { email, role: 'viewer' },
      { email: 'x', password, role: 'viewer' },
      { email: 'a\0@b', password, role: 'viewer' },
      { email, password: 'short', role: 'viewer' },
      { email, password, role: 'root' },
      { email, password: 5, role: 'viewer' },
      { email, password, role: 'viewer', id: 'x' },
    ]) {
      expectRefusal(await admin('POST', '/v1/users', bad), 422, 'schema');
    }
  });
  test('the last admin stays', async () => {
    const { items } = (await go('/v1/users?limit=500', { token: app.token })).json;
    const [last] = items.filter((user: { role: string }) => user.role === 'admin');
    expectRefusal(await admin('DELETE', `/v1/users/${last.id}`), 409, 'last-admin');
    expectRefusal(await admin('PATCH', `/v1/users/${last.id}`, { role: 'viewer' }), 409, 'last-admin');
    expectRefusal(await admin('PATCH', `/v1/users/${last.id}`, { disabled: true }), 409, 'last-admin');
  });
});
