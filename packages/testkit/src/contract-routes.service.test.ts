/** The contract's section 3 over HTTP beside the envelope: who may what, zones, devices, people, keys, lists, statistics. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, expectRefusal, openRaw, type Reply } from './contract-client.ts';
import { type Contract, envelope, fresh, openContract } from './contract-system.ts';
import { createDevice } from './device.ts';

let contract: Contract;
let app: Contract['app'];
let { go, admin, register, makeKey, sendJson, counted } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, admin, register, makeKey, sendJson, counted } = contract);
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

/** All pages of a list. */
async function pages(path: string, limit: number): Promise<{ items: Record<string, unknown>[]; sizes: number[] }> {
  const items: Record<string, unknown>[] = [];
  const sizes: number[] = [];
  for (let cursor = ''; ; ) {
    const { status, json } = await go(`${path}${path.includes('?') ? '&' : '?'}limit=${limit}${cursor}`, { token: app.token });
    expect(status).toBe(200);
    expect(Object.keys(json).sort()).toEqual(['items', 'next']);
    items.push(...json.items);
    sizes.push(json.items.length);
    if (json.next === null) return { items, sizes };
    expect(typeof json.next).toBe('string');
    cursor = `&cursor=${encodeURIComponent(json.next)}`;
  }
}

describe('3. who may call what', () => {
  test('each route wants its own credential', async () => {
    const keys = { ingest: await makeKey(['ingest']), register: await makeKey(['register']), read: await makeKey(['read']) };
    const status = async (method: string, path: string, key: string, body?: object): Promise<number> =>
      (await go(path, { method, key, ...(body === undefined ? {} : { body }) })).status;
    const city = (): object => ({ city: fresh('city') });
    expect([await status('POST', '/zones/', keys.register, city()), await status('POST', '/zones/', keys.ingest, city()), await status('POST', '/zones/', keys.read, city())]).toEqual([201, 403, 403]);
    expect([await status('POST', '/misurators/', keys.register, {}), await status('POST', '/misurators/', keys.ingest, {})]).toEqual([422, 403]);
    expect([await status('POST', '/misurations/', keys.ingest, {}), await status('POST', '/misurations/', keys.register, {})]).toEqual([422, 403]);
    for (const path of ['/zones/', '/misurators/', '/statistics', '/zones/1/alerts']) {
      for (const key of Object.values(keys)) expect(await status('GET', path, key)).toBe(200);
      expect((await go(path, { token: app.token })).status).toBe(200);
      expectRefusal(await go(path), 401);
      expectRefusal(await go(path, { key: 'unknown-key-0000000' }), 401, 'api-key-unknown');
    }
    expectRefusal(await go('/zones/', { method: 'POST', body: city(), token: app.token }), 401, 'api-key-missing');
    for (const path of ['/v1/zones', '/v1/devices', '/v1/users', '/v1/api-keys', '/v1/alerts']) expectRefusal(await go(path, { key: app.apiKey }), 401);
    for (const path of ['/health', '/health/live', '/health/ready', '/docs', '/openapi.json', '/.well-known/jwks.json', '/internal/.well-known/jwks.json', '/metrics']) {
      expect((await go(path)).status).toBeLessThan(400);
    }
  });

  test('viewers read, operators write zones and devices, admins keep users and keys', async () => {
    const [viewer, operator] = [await person('viewer'), await person('operator')];
    const publicKey = createDevice('x').publicKeyPem;
    for (const path of ['/v1/zones', '/v1/devices', '/v1/alerts', '/v1/devices/sensor', '/v1/devices/sensor/statistics']) {
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
    for (const text of ['Bearer', 'Bearer ', app.token, `Token ${app.token}`, `Bearer ${app.token} x`, `Bearer ${app.token}, Bearer ${app.token}`]) expectRefusal(await use(text), 401);
    const [{ refresh_token: refresh }] = [(await go('/v1/auth/login', { method: 'POST', body: await credentials() })).json];
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
    expect(made).toMatchObject({ status: 201, json: { name: 'short-lived', scopes: ['ingest', 'read'], revokedAt: null } });
    const { id, key } = made.json;
    expect((await go('/statistics', { key })).status).toBe(200);
    expect((await go('/v1/api-keys', { token: app.token })).text).not.toContain(key);
    expect((await admin('DELETE', `/v1/api-keys/${id}`)).status).toBe(204);
    expectRefusal(await go('/statistics', { key }), 401, 'api-key-unknown');
    expectRefusal(await admin('DELETE', `/v1/api-keys/${id}`), 404, 'not-found');
    for (const bad of [{}, { name: '' }, { name: 'x', scopes: [] }, { name: 'x', scopes: ['admin'] }, { name: 'x', scopes: 'ingest' }, { name: 'x', key: 'mine' }, { name: 'x', scopes: ['read', 'read'] }]) {
      expectRefusal(await admin('POST', '/v1/api-keys', bad), 422, 'schema');
    }
  });
});

describe('3. zones and devices', () => {
  test('a zone is made, read, renamed, listed and deleted', async () => {
    const made = await admin('POST', '/v1/zones', { id: 'Z.1_a-b', name: 'Città ☃' });
    expect(made).toMatchObject({ status: 201, json: { id: 'Z.1_a-b', name: 'Città ☃' } });
    expect(made.headers['location']).toBe('/v1/zones/Z.1_a-b');
    expect((await admin('GET', '/v1/zones/Z.1_a-b')).json).toEqual(made.json);
    expectRefusal(await admin('POST', '/v1/zones', { id: 'Z.1_a-b', name: 'again' }), 409, 'already-exists');
    expect((await admin('PATCH', '/v1/zones/Z.1_a-b', { name: 'other' })).json).toEqual({ ...made.json, name: 'other' });
    expect((await admin('PATCH', '/v1/zones/Z.1_a-b', {})).json).toEqual({ ...made.json, name: 'other' });
    await register('in-zone', 'seismic', { zoneId: 'Z.1_a-b' });
    expectRefusal(await admin('DELETE', '/v1/zones/Z.1_a-b'), 409, 'zone-in-use');
    await admin('DELETE', '/v1/devices/in-zone');
    expect((await admin('DELETE', '/v1/zones/Z.1_a-b')).status).toBe(204);
    expectRefusal(await admin('GET', '/v1/zones/Z.1_a-b'), 404, 'not-found');
    expectRefusal(await admin('DELETE', '/v1/zones/Z.1_a-b'), 404, 'not-found');
    expectRefusal(await admin('PATCH', '/v1/zones/Z.1_a-b', { name: 'x' }), 404, 'not-found');
    for (const bad of [{}, { id: 'x' }, { name: 'x' }, { id: '', name: 'x' }, { id: 'a/b', name: 'x' }, { id: 'x'.repeat(65), name: 'x' }, { id: 5, name: 'x' }, { id: 'x', name: '' }, { id: 'x', name: 'a\0b' }, { id: 'x', name: 'a\nb' }, { id: 'x', name: 'x'.repeat(201) }, { id: 'x', name: 'x', more: 1 }, { id: 'x', name: null }, [], 'x', null, 5]) {
      const body = JSON.stringify(bad);
      expectRefusal(await go('/v1/zones', { method: 'POST', token: app.token, body, headers: { 'content-type': 'application/json' } }), 422, 'schema');
    }
    for (const bad of [{ id: 'y' }, { name: '' }, { name: 5 }]) expectRefusal(await admin('PATCH', '/v1/zones/Z.1_a-b', bad), 422, 'schema');
  });

  test('every form of a key is taken, and answered as PEM', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const der = publicKey.export({ type: 'spki', format: 'der' });
    const pem = String(publicKey.export({ type: 'spki', format: 'pem' }));
    const hex = der.toString('hex');
    for (const text of [pem, pem.trim(), pem.replaceAll('\n', '\r\n'), hex, hex.toUpperCase(), hex.slice(-130), hex.slice(-128)]) {
      const made = await admin('POST', '/v1/devices', { id: fresh('form'), profile: 'host', publicKey: text });
      expect(made.status).toBe(201);
      expect(made.json.publicKey.trim()).toBe(pem.trim());
    }
    const other = (curve: string): string => String(generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ type: 'spki', format: 'pem' }));
    const rsa = String(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'pem' }));
    const secret = String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
    for (const text of ['', 'x', hex.slice(2), hex.slice(-126), `${hex}00`, '04'.padEnd(130, '0'), 'f'.repeat(128), other('P-384'), other('secp256k1'), rsa.slice(0, 1024), secret, 'z'.repeat(128)]) {
      const reply = await admin('POST', '/v1/devices', { id: fresh('form'), profile: 'host', publicKey: text });
      expectRefusal(reply, 422, 'schema');
      expect(reply.json.errors[0].pointer).toBe('/publicKey');
      if (text.length > 60) expect(reply.text).not.toContain(text.slice(30, 60));
    }
  });

  test('a device is made, changed in part, revoked for good, and its readings stay', async () => {
    await admin('POST', '/v1/zones', { id: 'home', name: 'home' });
    const made = await register('life', 'seismic', { zoneId: 'home', latitude: 42.5, longitude: 13.5, ownerId: 'owner-1' });
    const shown = (await admin('GET', '/v1/devices/life')).json;
    expect(shown).toMatchObject({ id: 'life', profile: 'seismic', zoneId: 'home', latitude: 42.5, longitude: 13.5, ownerId: 'owner-1', standing: 'active' });
    expect((await sendJson(envelope(), made)).status).toBe(202);
    await counted('/v1/zones/home/statistics', 1);
    const changed = await admin('PATCH', '/v1/devices/life', { latitude: -1, longitude: 180 });
    expect(changed.json).toMatchObject({ zoneId: 'home', latitude: -1, longitude: 180, ownerId: 'owner-1' });
    expect((await admin('PATCH', '/v1/devices/life', { zoneId: null, ownerId: null })).json).toMatchObject({ zoneId: null, ownerId: null, latitude: -1 });
    for (const bad of [{ id: 'x' }, { profile: 'host' }, { latitude: 91, longitude: 0 }, { latitude: 5 }, { latitude: null, longitude: 5 }, { longitude: '5', latitude: 5 }, { zoneId: 'nowhere' }, { standing: 'revoked' }, { standing: 'x' }, { publicKey: 'x' }, { createdAt: 1 }]) {
      expectRefusal(await admin('PATCH', '/v1/devices/life', bad), 422, 'schema');
    }
    const next = createDevice('life');
    expect((await admin('PATCH', '/v1/devices/life', { publicKey: next.publicKeyPem })).status).toBe(200);
    expectRefusal(await sendJson(envelope(), made), 401, 'signature-invalid');
    expect((await sendJson(envelope(), next)).status).toBe(202);
    await counted('/v1/devices/life/statistics', 2);
    expect((await admin('DELETE', '/v1/devices/life')).status).toBe(204);
    expect((await admin('GET', '/v1/devices/life')).json).toMatchObject({ standing: 'revoked' });
    expectRefusal(await sendJson(envelope(), next), 403, 'device-revoked');
    expectRefusal(await admin('POST', '/v1/devices', { id: 'life', profile: 'seismic', publicKey: next.publicKeyPem }), 409, 'already-exists');
    expectRefusal(await admin('PATCH', '/v1/devices/life', { standing: 'active' }), 403, 'device-revoked');
    expect((await admin('DELETE', '/v1/devices/life')).status).toBe(204);
    await counted('/v1/devices/life/statistics', 2);
    await counted('/v1/zones/home/statistics', 1);
  });

  test('a device that names what is not there or has half a place is 422', async () => {
    const { publicKeyPem: publicKey } = createDevice('x');
    const good = { id: 'never', profile: 'seismic', publicKey };
    for (const [bad, pointer] of [
      [{ zoneId: 'nowhere' }, '/zoneId'],
      [{ latitude: 5 }, '/longitude'],
      [{ longitude: 5 }, '/latitude'],
      [{ latitude: 90.1, longitude: 0 }, '/latitude'],
      [{ latitude: 0, longitude: -180.1 }, '/longitude'],
      [{ profile: 'toaster' }, '/profile'],
      [{ id: '../x' }, '/id'],
      [{ id: undefined }, '/id'],
      [{ publicKey: undefined }, '/publicKey'],
      [{ standing: 'active' }, '/standing'],
      [{ ownerId: 'a b' }, '/ownerId'],
    ] as const) {
      const reply = await admin('POST', '/v1/devices', { ...good, ...bad });
      expectRefusal(reply, 422, 'schema');
      expect(reply.json.errors.map((entry: { pointer: string }) => entry.pointer)).toContain(pointer);
    }
    expectRefusal(await admin('GET', '/v1/devices/never'), 404, 'not-found');
    expectRefusal(await admin('DELETE', '/v1/devices/never'), 404, 'not-found');
  });

  test('near and bbox go by the great circle', async () => {
    const places: Record<string, [number, number]> = { rome: [41.9, 12.5], laquila: [42.35, 13.4], fiji: [-17.8, 178], samoa: [-13.8, -172], pole: [89.9, 0], far: [89.9, 180] };
    await admin('POST', '/v1/zones', { id: 'globe', name: 'globe' });
    for (const [id, [latitude, longitude]] of Object.entries(places)) await register(id, 'seismic', { zoneId: 'globe', latitude, longitude });
    const find = async (query: string): Promise<unknown> => (await go(`/v1/devices?zone=globe&${query}`, { token: app.token })).json.items.map((item: { id: string }) => item.id).sort();
    const distance = (a: [number, number], b: [number, number]): number => {
      const [f1, l1, f2, l2] = [...a, ...b].map((degrees) => (degrees * Math.PI) / 180) as [number, number, number, number];
      const h = Math.sin((f2 - f1) / 2) ** 2 + Math.cos(f1) * Math.cos(f2) * Math.sin((l2 - l1) / 2) ** 2;
      return 2 * 6371008.8 * Math.asin(Math.sqrt(h));
    };
    const between = distance([41.9, 12.5], [42.35, 13.4]);
    expect(await find(`near=41.9,12.5&radius=${between + 0.01}`)).toEqual(['laquila', 'rome']);
    expect(await find(`near=41.9,12.5&radius=${between - 0.01}`)).toEqual(['rome']);
    expect(await find('near=41.9,12.5&radius=0')).toEqual(['rome']);
    expect(await find('near=90,0&radius=12000')).toEqual(['far', 'pole']);
    expect(await find(`near=-17.8,178&radius=${distance([-17.8, 178], [-13.8, -172]) + 1}`)).toEqual(['fiji', 'samoa']);
    expect(await find('bbox=12,41,14,43')).toEqual(['laquila', 'rome']);
    expect(await find('bbox=170,-20,-170,-10')).toEqual(['fiji', 'samoa']);
    expect(await find('bbox=-180,-90,180,90')).toHaveLength(6);
    expect(await find('bbox=12.5,41.9,12.5,41.9')).toEqual(['rome']);
    expect((await pages('/v1/devices?zone=globe&bbox=-180,-90,180,90', 4)).sizes).toEqual([4, 2]);
    for (const query of ['near=1,2', 'radius=5', 'near=1&radius=5', 'near=1,2,3&radius=5', 'near=91,0&radius=5', 'near=0,181&radius=5', 'near=a,b&radius=5', 'near=1,2&radius=-1', 'near=1,2&radius=x', 'near=1,2&radius=1e999', 'bbox=1,2,3', 'bbox=0,10,5,5', 'bbox=0,0,0,0,0', 'bbox=,,,', 'near=1,2&radius=5&bbox=0,0,1,1', 'near=NaN,0&radius=1', 'zone=%00', 'profile=x', 'standing=x', 'other=1', 'limit=5&limit=6']) {
      expectRefusal(await go(`/v1/devices?${query}`, { token: app.token }), 400, 'malformed-parameter');
    }
  });
});

describe('3. lists', () => {
  test('newest first, 50 when no limit is said, at most 500, every item once', async () => {
    const ids = Array.from({ length: 120 }, (_, i) => `page-${String(i).padStart(3, '0')}`);
    for (const id of ids) expect((await admin('POST', '/v1/zones', { id, name: id })).status).toBe(201);
    const first = await go('/v1/zones', { token: app.token });
    expect(first.json.items).toHaveLength(50);
    expect(first.json.items.slice(0, 3).map((item: { id: string }) => item.id)).toEqual(['page-119', 'page-118', 'page-117']);
    const { items, sizes } = await pages('/v1/zones', 40);
    expect(sizes.slice(0, 3)).toEqual([40, 40, 40]);
    expect(items.slice(0, 120).map(({ id }) => id)).toEqual([...ids].reverse());
    expect(new Set(items.map(({ id }) => id)).size).toBe(items.length);
    expect((await pages('/v1/zones', 500)).sizes).toEqual([items.length]);
    for (const query of ['limit=0', 'limit=501', 'limit=-1', 'limit=x', 'limit=', 'limit=1.5', 'limit=1e2', 'cursor=', 'cursor=x', 'cursor=%00', `cursor=${'A'.repeat(2000)}`, 'cursor=WyJ4Il0', 'cursor=W251bGxd', 'offset=5', '__proto__=1']) {
      expectRefusal(await go(`/v1/zones?${query}`, { token: app.token }), 400, 'malformed-parameter');
    }
  });
  test.each(['/v1/zones', '/v1/devices', '/v1/users', '/v1/api-keys', '/v1/alerts'])('%s answers items and next, and an object 201', async (path) => {
    const { json } = await go(`${path}?limit=1`, { token: app.token });
    expect(Object.keys(json).sort()).toEqual(['items', 'next']);
    expectRefusal(await go(`${path}?limit=501`, { token: app.token }), 400, 'malformed-parameter');
  });
  test('an item that is deleted between two pages moves nothing', async () => {
    const { json } = await go('/v1/zones?limit=2', { token: app.token });
    const before = (await go(`/v1/zones?limit=2&cursor=${json.next}`, { token: app.token })).json;
    expect((await admin('DELETE', `/v1/zones/${json.items[1].id}`)).status).toBe(204);
    expect((await go(`/v1/zones?limit=2&cursor=${json.next}`, { token: app.token })).json).toEqual(before);
  });
});

describe('3. people', () => {
  test('a user is made, changed and deleted; a change ends the sessions', async () => {
    const [email, password] = ['Person@Example.ORG', 'a long pass phrase'];
    const made = await admin('POST', '/v1/users', { email, password, role: 'viewer' });
    expect(made).toMatchObject({ status: 201, json: { email: 'person@example.org', role: 'viewer' } });
    expectRefusal(await admin('POST', '/v1/users', { email: 'person@example.org', password, role: 'admin' }), 409, 'already-exists');
    const { access_token: token } = (await go('/v1/auth/login', { method: 'POST', body: { email, password } })).json;
    expect((await go('/v1/zones', { token })).status).toBe(200);
    expect((await admin('PATCH', `/v1/users/${made.json.id}`, { role: 'operator' })).json).toMatchObject({ role: 'operator' });
    expectRefusal(await go('/v1/zones', { token }), 401, 'session-revoked');
    expectRefusal(await go('/v1/auth/login', { method: 'POST', body: { email, password: `${password}x` } }), 401, 'credentials-wrong');
    expectRefusal(await go('/v1/auth/login', { method: 'POST', body: { email: 'nobody@example.org', password } }), 401, 'credentials-wrong');
    expect((await admin('DELETE', `/v1/users/${made.json.id}`)).status).toBe(204);
    expectRefusal(await go('/v1/auth/login', { method: 'POST', body: { email, password } }), 401, 'credentials-wrong');
    for (const bad of [{}, { email, password }, { email, role: 'viewer' }, { email: 'x', password, role: 'viewer' }, { email: 'a\0@b', password, role: 'viewer' }, { email, password: 'short', role: 'viewer' }, { email, password, role: 'root' }, { email, password: 5, role: 'viewer' }, { email, password, role: 'viewer', id: 'x' }]) {
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

describe('3. JSON that is made to hurt', () => {
  test('no text in a path, a query or a body makes an error of ours', async () => {
    const paths = ['/v1/users/%00', '/v1/users/..%2f', '/v1/api-keys/%00', `/v1/users/${'x'.repeat(400)}`, '/v1/alerts/%00', '/v1/alerts/x', '/v1/zones/%00', '/v1/devices/%E2%98%83', '/v1/devices/%00/statistics', '/v1/zones/%00/statistics', '/zones/%00/alerts', '/zones/x/alerts', '/zones/999999999999999/alerts', '/sensors/1e3/statistics', '/sensors/999999999999999/statistics', '/v1/users/%F0%9F', '//v1/zones', '/v1/zones/', '/V1/zones', '/v1/zones/..', '/v1/alerts?since=1e9', '/v1/alerts?zone=%27%20OR%201', '/v1/alerts?since=999999999999999', '/v1/alerts?until=-999999999999999'];
    for (const path of paths) {
      for (const method of ['GET', 'DELETE', 'PATCH']) {
        const reply = await go(path, { method, token: app.token, ...(method === 'PATCH' ? { body: { email: 'a@b.example' } } : {}) });
        expect([method, path, reply.status < 500]).toEqual([method, path, true]);
        if (reply.status >= 400) expectRefusal(reply, reply.status);
      }
    }
    const odd = ['\ud800', '\u0000', '\u202e', '\ufeff', 'x'.repeat(250_000), '%00', '{zone}', '$1', "'; DROP TABLE zones; --"];
    for (const text of odd) {
      for (const [path, body] of [
        ['/v1/zones', { id: fresh('odd'), name: text }],
        ['/v1/users', { email: `${text}@example.org`, password: 'long enough for all', role: 'viewer' }],
        ['/v1/users', { email: `${fresh('odd')}@example.org`, password: `long enough ${text}`, role: 'viewer' }],
        ['/v1/api-keys', { name: text }],
        ['/v1/devices', { id: fresh('odd'), profile: 'host', publicKey: text }],
        ['/v1/alerts', { severity: 'minor', headline: text }],
        ['/v1/alerts', { severity: 'minor', headline: 'x', description: text }],
        ['/v1/auth/login', { email: text, password: text }],
        ['/v1/auth/refresh', { refresh_token: text, fingerprint: text }],
      ] as const) {
        const reply = await admin('POST', path, body);
        expect([path, JSON.stringify(body).slice(0, 90), reply.status < 500]).toEqual([path, expect.any(String), true]);
      }
    }
  });
  test('what was stored comes back as it went in', async () => {
    for (const name of ['☃', '𝄞', 'a\u0301', '<script>alert(1)</script>', '"quoted" \\ slash', '\ud800 alone']) {
      const made = await admin('POST', '/v1/zones', { id: fresh('back'), name });
      if (made.status === 201) {
        expect(made.json.name).toBe(name);
        expect((await admin('GET', `/v1/zones/${made.json.id}`)).json.name).toBe(name);
      } else expectRefusal(made, 422, 'schema');
    }
  });
  test('__proto__, constructor, broken UTF-8 and deep nesting are refused', async () => {
    const text = (body: string | Buffer): Promise<Reply> => go('/v1/zones', { method: 'POST', token: app.token, body, headers: { 'content-type': 'application/json' } });
    expectRefusal(await text('{"__proto__":{"x":1},"id":"p","name":"p"}'), 400, 'malformed-json');
    expectRefusal(await text('{"constructor":{"prototype":{"x":1}},"id":"p","name":"p"}'), 400, 'malformed-json');
    expectRefusal(await text(Buffer.from([...Buffer.from('{"id":"utf8","name":"'), 0xff, 0xfe, ...Buffer.from('"}')])), 400, 'malformed-json');
    expectRefusal(await text('['.repeat(100_000) + ']'.repeat(100_000)), 422, 'schema');
    expectRefusal(await text('{"a":'.repeat(40_000) + '1' + '}'.repeat(40_000)), 422, 'schema');
    expectRefusal(await text('{"id":"x","name":"x"} trailing'), 400, 'malformed-json');
    for (const empty of ['', ' ', 'null']) expect((await text(empty)).status).toBeGreaterThanOrEqual(400);
    expect((await go('/v1/zones', { method: 'POST', token: app.token, body: '{"id":"json-utf8","name":"x"}', headers: { 'content-type': 'application/json; charset=UTF-8' } })).status).toBe(201);
    expectRefusal(await go('/v1/zones', { method: 'POST', token: app.token, body: '{"id":"x","name":"x"}', headers: { 'content-type': 'text/json' } }), 415, 'content-type');
  });
  test('requests that come at once on one connection are answered in order', async () => {
    const socket = await openRaw(app.base);
    socket.write('GET /health/live HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\nGET /v1/zones HTTP/1.1\r\nHost: a\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
    expect((await socket.answers(4)).map(({ status }) => status)).toEqual([200, 404, 401, 200]);
    socket.socket.destroy();
  });
});

describe('3. statistics', () => {
  const at = Math.floor(Date.now() / 60_000) * 60_000 - 3_600_000;
  const keys = ['count', 'mean', 'min', 'max', 'standardDeviation', 'p50', 'p95', 'p99', 'firstAt', 'lastAt'];
  beforeAll(async () => {
    await admin('POST', '/v1/zones', { id: 'stat', name: 'stat' });
    const one = await register('stat-1', 'seismic', { zoneId: 'stat' });
    const readings = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((value, i) => ({ at: at + i * 1000, value }));
    expect((await sendJson(envelope({ readings }), one)).status).toBe(202);
    const packet = { at: at + 20_000, rate: 100, x: [1, -12, 3], y: [0, 0, 0], z: [4, 4, 4] };
    expect((await sendJson(envelope({ readings: [packet] }), one)).status).toBe(202);
    const host = await register('stat-h', 'host', { zoneId: 'stat' });
    expect((await sendJson(envelope({ profile: 'host', readings: [{ at, cpu_percent: 50, mem_percent: 20, disk_percent: 30, gpu_percent: 7 }] }), host)).status).toBe(202);
    await counted('/v1/devices/stat-1/statistics', 11);
    await counted('/v1/devices/stat-h/statistics', 1);
  });
  const read = async (path: string): Promise<Record<string, number>> => (await go(path, { token: app.token })).json;

  test('the ten numbers, of the values and of packets’ peaks', async () => {
    const all = await read('/v1/devices/stat-1/statistics');
    expect(Object.keys(all)).toEqual(keys);
    const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12];
    const mean = values.reduce((a, b) => a + b) / 11;
    expect(all).toMatchObject({ count: 11, min: 1, max: 12, p50: 6, firstAt: at, lastAt: at + 20_000 });
    expect(all['mean']).toBeCloseTo(mean, 9);
    expect(all['standardDeviation']).toBeCloseTo(Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 11), 9);
  });
  test('from and to are Unix ms or ISO 8601, with an offset or in UTC', async () => {
    const [from, to] = [at + 2000, at + 5000];
    const expected = await read(`/v1/devices/stat-1/statistics?from=${from}&to=${to}`);
    expect(expected).toMatchObject({ count: 3, min: 3, max: 5 });
    const iso = (time: number): string => new Date(time).toISOString();
    const rome = `${iso(from + 3_600_000).slice(0, 19)}+01:00`;
    for (const text of [iso(from), iso(from).replace('.000Z', 'Z'), encodeURIComponent(rome), rome, iso(from).replace('Z', '')]) {
      expect(await read(`/v1/devices/stat-1/statistics?from=${text}&to=${iso(to)}`)).toEqual(expected);
    }
    expect(await read(`/v1/devices/stat-1/statistics?to=${at}`)).toEqual({ count: 0, mean: null, min: null, max: null, standardDeviation: null, p50: null, p95: null, p99: null, firstAt: null, lastAt: null });
    for (const query of ['from=x', 'from=', 'to=2026-13-01', 'to=2026-02-30', 'from=2026-11-20T25:00:00Z', 'from=1.5', `from=${to}&to=${from}`, 'from=1e12', 'bucket=0', 'bucket=-5', 'bucket=x', 'bucket=1.5', 'field=nothing', 'field=', 'field=__proto__', 'field=cpu_percent%27', 'other=1', 'from=1&from=2']) {
      expectRefusal(await go(`/v1/devices/stat-1/statistics?${query}`, { token: app.token }), 400, 'malformed-parameter');
    }
  });
  test('a bucket makes a list', async () => {
    const list = (await go(`/v1/devices/stat-1/statistics?bucket=5&from=${at}&to=${at + 60_000}`, { token: app.token })).json;
    expect(Array.isArray(list)).toBe(true);
    expect(list.map((part: Record<string, number>) => [part['from'], part['count']])).toEqual([[at, 5], [at + 5000, 5], [at + 20_000, 1]]);
    for (const part of list) expect(Object.keys(part)).toEqual(['from', ...keys]);
    expect((await go(`/v1/devices/stat-1/statistics?bucket=5&to=${at}`, { token: app.token })).json).toEqual([]);
  });
  test('a field of the profile, and the field of each profile when none is named', async () => {
    expect(await read('/v1/devices/stat-h/statistics')).toMatchObject({ count: 1, mean: 50 });
    expect(await read('/v1/devices/stat-h/statistics?field=gpu_percent')).toMatchObject({ count: 1, mean: 7 });
    expect(await read('/v1/devices/stat-h/statistics?field=agent_mem_mb')).toMatchObject({ count: 0, mean: null });
    expectRefusal(await go('/v1/devices/stat-h/statistics?field=value', { token: app.token }), 400, 'malformed-parameter');
    expect(await read('/v1/zones/stat/statistics?field=cpu_percent')).toMatchObject({ count: 1, mean: 50 });
    expect(await read('/v1/zones/stat/statistics?field=value')).toMatchObject({ count: 11, max: 12 });
    expectRefusal(await go('/v1/zones/nowhere/statistics', { token: app.token }), 404, 'not-found');
    expectRefusal(await go('/v1/devices/nowhere/statistics', { token: app.token }), 404, 'not-found');
  });
  test('/statistics is of seismic values, its count of everything', async () => {
    const range = `from=${at}&to=${at + 60_000}`;
    const all = (await go(`/statistics?${range}`, { key: app.apiKey })).json;
    expect(Object.keys(all)).toEqual(keys);
    expect(all).toMatchObject({ count: 12, min: 1, max: 12 });
    expect((await go(`/statistics?${range}&field=cpu_percent`, { key: app.apiKey })).json).toMatchObject({ count: 1, mean: 50 });
    expect((await go(`/statistics?${range}&bucket=60`, { key: app.apiKey })).json).toHaveLength(1);
  });
});

describe('the description of the interface', () => {
  test('/openapi.json names every route under /v1 and what each takes', async () => {
    const { json } = await go('/openapi.json');
    expect(json.openapi).toMatch(/^3\.1\./);
    const wanted: Record<string, string[]> = {
      '/v1/readings': ['post'],
      '/v1/zones': ['get', 'post'],
      '/v1/zones/{id}': ['get', 'patch', 'delete'],
      '/v1/zones/{id}/statistics': ['get'],
      '/v1/devices': ['get', 'post'],
      '/v1/devices/{id}': ['get', 'patch', 'delete'],
      '/v1/devices/{id}/statistics': ['get'],
      '/v1/users': ['get', 'post'],
      '/v1/users/{id}': ['get', 'patch', 'delete'],
      '/v1/api-keys': ['get', 'post'],
      '/v1/api-keys/{id}': ['delete'],
      '/v1/alerts': ['get', 'post'],
      '/v1/alerts/{id}': ['get'],
      '/v1/alerts/{id}/acknowledge': ['post'],
      '/v1/alerts/{id}/resolve': ['post'],
      '/v1/auth/login': ['post'],
      '/v1/auth/refresh': ['post'],
      '/v1/auth/logout': ['post'],
      '/v1/auth/session': ['get'],
      '/v1/auth/ticket': ['post'],
      '/statistics': ['get'],
      '/zones/': ['get', 'post'],
      '/misurators/': ['get', 'post'],
      '/misurations/': ['post'],
    };
    for (const [path, methods] of Object.entries(wanted)) {
      for (const method of methods) {
        const operation = json.paths[path]?.[method];
        expect([path, method, operation?.summary]).toEqual([path, method, expect.any(String)]);
        expect([path, method, Object.keys(operation.responses).some((status) => /^2/.test(status))]).toEqual([path, method, true]);
        expect(operation.responses.default?.content).toHaveProperty(['application/problem+json']);
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
        const described = (operation.parameters ?? []).filter((parameter: { in: string }) => parameter.in === 'path');
        expect(described.map((parameter: { name: string }) => parameter.name)).toEqual(inPath);
        expect([path, method, Array.isArray(operation.security)]).toEqual([path, method, true]);
      }
    }
    expect(json.paths['/v1/readings'].post.requestBody.content).toHaveProperty(['application/jose']);
    expect(json.paths['/misurations/'].post.requestBody.content).toHaveProperty(['application/json']);
    expect(Object.keys(json.paths).filter((path) => path.startsWith('/v1') && wanted[path] === undefined)).toEqual([]);
  });
  test('/docs is a page, and all that it loads is there', async () => {
    const page = await ask(`${app.base}/docs`);
    const html = page.status === 200 ? page : await ask(new URL(String(page.headers['location']), app.base).href);
    expect(html.headers['content-type']).toMatch(/^text\/html/);
    const files = [...html.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => new URL(file ?? '', `${app.base}/docs/`).href);
    expect(files.length).toBeGreaterThan(3);
    for (const file of files) expect([file, (await ask(file)).status]).toEqual([file, 200]);
  });
});
