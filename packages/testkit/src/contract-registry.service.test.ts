/** The contract's section 3 over HTTP: zones, devices, places, lists. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal } from './contract-client.suite.ts';
import { type Contract, envelope, fresh, openContract } from './contract-system.suite.ts';
import { createDevice } from './device.ts';

let contract: Contract;
let app: Contract['app'];
let { go, admin, register, sendJson, counted } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, admin, register, sendJson, counted } = contract);
});
afterAll(() => app?.stop());

/** All pages of a list. */
async function pages(path: string, limit: number): Promise<{ items: Record<string, unknown>[]; sizes: number[] }> {
  const items: Record<string, unknown>[] = [];
  const sizes: number[] = [];
  for (let cursor = ''; ; ) {
    const { status, json } = await go(`${path}${path.includes('?') ? '&' : '?'}limit=${limit}${cursor}`, {
      token: app.token,
    });
    expect(status).toBe(200);
    expect(Object.keys(json).sort()).toEqual(['items', 'next']);
    items.push(...json.items);
    sizes.push(json.items.length);
    if (json.next === null) return { items, sizes };
    expect(typeof json.next).toBe('string');
    cursor = `&cursor=${encodeURIComponent(json.next)}`;
  }
}

describe('3. zones and devices', () => {
  test('a zone is made, read, renamed, listed and deleted', async () => {
    const made = await admin('POST', '/v1/zones', { id: 'Z.1_a-b', name: 'Città ☃' });
    expect(made).toMatchObject({ status: 201, json: { id: 'Z.1_a-b', name: 'Città ☃' } });
    expect(made.headers['location']).toBe('/v1/zones/Z.1_a-b');
    expect((await admin('GET', '/v1/zones/Z.1_a-b')).json).toEqual(made.json);
    expectRefusal(await admin('POST', '/v1/zones', { id: 'Z.1_a-b', name: 'again' }), 409, 'already-exists');
    expect((await admin('PATCH', '/v1/zones/Z.1_a-b', { name: 'other' })).json).toEqual({
      ...made.json,
      name: 'other',
    });
    expect((await admin('PATCH', '/v1/zones/Z.1_a-b', {})).json).toEqual({ ...made.json, name: 'other' });
    await register('in-zone', 'seismic', { zoneId: 'Z.1_a-b' });
    expectRefusal(await admin('DELETE', '/v1/zones/Z.1_a-b'), 409, 'zone-in-use');
    await admin('DELETE', '/v1/devices/in-zone');
    expect((await admin('DELETE', '/v1/zones/Z.1_a-b')).status).toBe(204);
    expectRefusal(await admin('GET', '/v1/zones/Z.1_a-b'), 404, 'not-found');
    expectRefusal(await admin('DELETE', '/v1/zones/Z.1_a-b'), 404, 'not-found');
    expectRefusal(await admin('PATCH', '/v1/zones/Z.1_a-b', { name: 'x' }), 404, 'not-found');
    for (const bad of [
      {},
      { id: 'x' },
      { name: 'x' },
      { id: '', name: 'x' },
      { id: 'a/b', name: 'x' },
      { id: 'x'.repeat(65), name: 'x' },
      { id: 5, name: 'x' },
      { id: 'x', name: '' },
      { id: 'x', name: 'a\0b' },
      { id: 'x', name: 'a\nb' },
      { id: 'x', name: 'x'.repeat(201) },
      { id: 'x', name: 'x', more: 1 },
      { id: 'x', name: null },
      [],
      'x',
      null,
      5,
    ]) {
      const body = JSON.stringify(bad);
      expectRefusal(
        await go('/v1/zones', {
          method: 'POST',
          token: app.token,
          body,
          headers: { 'content-type': 'application/json' },
        }),
        422,
        'schema',
      );
    }
    for (const bad of [{ id: 'y' }, { name: '' }, { name: 5 }])
      expectRefusal(await admin('PATCH', '/v1/zones/Z.1_a-b', bad), 422, 'schema');
  });

  test('every form of a key is taken, and answered as PEM', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const der = publicKey.export({ type: 'spki', format: 'der' });
    const pem = String(publicKey.export({ type: 'spki', format: 'pem' }));
    const hex = der.toString('hex');
    for (const text of [
      pem,
      pem.trim(),
      pem.replaceAll('\n', '\r\n'),
      hex,
      hex.toUpperCase(),
      hex.slice(-130),
      hex.slice(-128),
    ]) {
      const made = await admin('POST', '/v1/devices', { id: fresh('form'), profile: 'host', publicKey: text });
      expect(made.status).toBe(201);
      expect(made.json.publicKey.trim()).toBe(pem.trim());
    }
    const other = (curve: string): string =>
      String(generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ type: 'spki', format: 'pem' }));
    const rsa = String(
      generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'pem' }),
    );
    const secret = String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
    for (const text of [
      '',
      'x',
      hex.slice(2),
      hex.slice(-126),
      `${hex}00`,
      '04'.padEnd(130, '0'),
      'f'.repeat(128),
      other('P-384'),
      other('secp256k1'),
      rsa.slice(0, 1024),
      secret,
      'z'.repeat(128),
    ]) {
      const reply = await admin('POST', '/v1/devices', { id: fresh('form'), profile: 'host', publicKey: text });
      expectRefusal(reply, 422, 'schema');
      expect(reply.json.errors[0].pointer).toBe('/publicKey');
      if (text.length > 60) expect(reply.text).not.toContain(text.slice(30, 60));
    }
  });

  test('a device is made, changed in part, revoked for good, and its readings stay', async () => {
    await admin('POST', '/v1/zones', { id: 'home', name: 'home' });
    const made = await register('life', 'seismic', {
      zoneId: 'home',
      latitude: 42.5,
      longitude: 13.5,
      ownerId: 'owner-1',
    });
    const shown = (await admin('GET', '/v1/devices/life')).json;
    expect(shown).toMatchObject({
      id: 'life',
      profile: 'seismic',
      zoneId: 'home',
      latitude: 42.5,
      longitude: 13.5,
      ownerId: 'owner-1',
      standing: 'active',
    });
    expect((await sendJson(envelope(), made)).status).toBe(202);
    await counted('/v1/zones/home/statistics', 1);
    const changed = await admin('PATCH', '/v1/devices/life', { latitude: -1, longitude: 180 });
    expect(changed.json).toMatchObject({ zoneId: 'home', latitude: -1, longitude: 180, ownerId: 'owner-1' });
    expect((await admin('PATCH', '/v1/devices/life', { zoneId: null, ownerId: null })).json).toMatchObject({
      zoneId: null,
      ownerId: null,
      latitude: -1,
    });
    for (const bad of [
      { id: 'x' },
      { profile: 'host' },
      { latitude: 91, longitude: 0 },
      { latitude: 5 },
      { latitude: null, longitude: 5 },
      { longitude: '5', latitude: 5 },
      { zoneId: 'nowhere' },
      { standing: 'revoked' },
      { standing: 'x' },
      { publicKey: 'x' },
      { createdAt: 1 },
    ]) {
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
    expectRefusal(
      await admin('POST', '/v1/devices', { id: 'life', profile: 'seismic', publicKey: next.publicKeyPem }),
      409,
      'already-exists',
    );
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
    const places: Record<string, [number, number]> = {
      rome: [41.9, 12.5],
      laquila: [42.35, 13.4],
      fiji: [-17.8, 178],
      samoa: [-13.8, -172],
      pole: [89.9, 0],
      far: [89.9, 180],
    };
    await admin('POST', '/v1/zones', { id: 'globe', name: 'globe' });
    for (const [id, [latitude, longitude]] of Object.entries(places))
      await register(id, 'seismic', { zoneId: 'globe', latitude, longitude });
    const find = async (query: string): Promise<unknown> =>
      (await go(`/v1/devices?zone=globe&${query}`, { token: app.token })).json.items
        .map((item: { id: string }) => item.id)
        .sort();
    const distance = (a: [number, number], b: [number, number]): number => {
      const [f1, l1, f2, l2] = [...a, ...b].map((degrees) => (degrees * Math.PI) / 180) as [
        number,
        number,
        number,
        number,
      ];
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
    for (const query of [
      'near=1,2',
      'radius=5',
      'near=1&radius=5',
      'near=1,2,3&radius=5',
      'near=91,0&radius=5',
      'near=0,181&radius=5',
      'near=a,b&radius=5',
      'near=1,2&radius=-1',
      'near=1,2&radius=x',
      'near=1,2&radius=1e999',
      'bbox=1,2,3',
      'bbox=0,10,5,5',
      'bbox=0,0,0,0,0',
      'bbox=,,,',
      'near=1,2&radius=5&bbox=0,0,1,1',
      'near=NaN,0&radius=1',
      'zone=%00',
      'profile=x',
      'standing=x',
      'other=1',
      'limit=5&limit=6',
    ]) {
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
    expect(first.json.items.slice(0, 3).map((item: { id: string }) => item.id)).toEqual([
      'page-119',
      'page-118',
      'page-117',
    ]);
    const { items, sizes } = await pages('/v1/zones', 40);
    expect(sizes.slice(0, 3)).toEqual([40, 40, 40]);
    expect(items.slice(0, 120).map(({ id }) => id)).toEqual([...ids].reverse());
    expect(new Set(items.map(({ id }) => id)).size).toBe(items.length);
    expect((await pages('/v1/zones', 500)).sizes).toEqual([items.length]);
    for (const query of [
      'limit=0',
      'limit=501',
      'limit=-1',
      'limit=x',
      'limit=',
      'limit=1.5',
      'limit=1e2',
      'cursor=',
      'cursor=x',
      'cursor=%00',
      `cursor=${'A'.repeat(2000)}`,
      'cursor=WyJ4Il0',
      'cursor=W251bGxd',
      'offset=5',
      '__proto__=1',
    ]) {
      expectRefusal(await go(`/v1/zones?${query}`, { token: app.token }), 400, 'malformed-parameter');
    }
  });
  test.each(['/v1/zones', '/v1/devices', '/v1/users', '/v1/api-keys', '/v1/alerts'])(
    '%s answers items and next, and an object 201',
    async (path) => {
      const { json } = await go(`${path}?limit=1`, { token: app.token });
      expect(Object.keys(json).sort()).toEqual(['items', 'next']);
      expectRefusal(await go(`${path}?limit=501`, { token: app.token }), 400, 'malformed-parameter');
    },
  );
  test('an item that is deleted between two pages moves nothing', async () => {
    const { json } = await go('/v1/zones?limit=2', { token: app.token });
    const before = (await go(`/v1/zones?limit=2&cursor=${json.next}`, { token: app.token })).json;
    expect((await admin('DELETE', `/v1/zones/${json.items[1].id}`)).status).toBe(204);
    expect((await go(`/v1/zones?limit=2&cursor=${json.next}`, { token: app.token })).json).toEqual(before);
  });
});
