import { generateKeyPairSync } from 'node:crypto';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PublishSubscribe, TopicListener } from '../bus/ports/bus.ts';
import { createDeviceStore } from '../store/postgres/devices.ts';
import { createHostStore } from '../store/postgres/hosts.ts';
import { createZoneStore } from '../store/postgres/zones.ts';
import { deviceRoutes } from '../transports/http/devices.ts';
import { createHttpServer } from '../transports/http/server.ts';
import { zoneRoutes } from '../transports/http/zones.ts';
import { systemClock } from '../lib/clock.ts';
import { hexOf, newKey } from './keys.suite.ts';
import { createRegistry, type Registry } from './registry.ts';

const log = { warn: () => {}, error: () => {}, debug: () => {} };

/** A bus between the two registries of these tests; it delivers at once. */
function createPubsub(): PublishSubscribe {
  const listeners = new Set<TopicListener>();
  return {
    publish: async (_topic, payload) => {
      for (const listener of listeners) listener(payload, Date.now());
    },
    subscribe: async (_topic, listener) => {
      listeners.add(listener);
      return async () => void listeners.delete(listener);
    },
  };
}

describe.each(engines)('the registry on %s', (engine) => {
  let database: TestDatabase;
  let registry: Registry;
  let other: Registry;
  let app: FastifyInstance;
  let role: 'viewer' | 'operator';

  beforeAll(async () => {
    database = await openTestDatabase(engine);
    const { db } = database;
    const stores = { zones: createZoneStore(db), devices: createDeviceStore(db), hosts: createHostStore(db) };
    const options = { stores, bus: { pubsub: createPubsub() }, clock: systemClock, log, mostHosts: 100 };
    [registry, other] = await Promise.all([createRegistry(options), createRegistry(options)]);
    const authenticators = {
      apiKey: async () => ({ kind: 'api-key', id: 'k', scopes: [] }) as const,
      bearer: async () => ({ kind: 'user', id: 'u', role, sessionId: 's', expiresAt: 0 }) as const,
    };
    app = await createHttpServer({ log, authenticators, trace: () => 'trace' });
    zoneRoutes(app, registry.zones);
    deviceRoutes(app, { devices: registry.devices, publicKeyPem: registry.publicKeyPem });
  });

  afterAll(async () => {
    await app?.close();
    await Promise.all([registry?.close(), other?.close()]);
    await database?.close();
  });

  beforeEach(async () => {
    role = 'operator';
    await database.db.execute('TRUNCATE devices, zones');
    for (const one of [registry, other]) one.directory.invalidateAll();
  });

  async function call(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    url: string,
    payload?: object,
  ): Promise<{ status: number; body: never }> {
    const answer = await app.inject({ method, url, ...(payload === undefined ? {} : { payload }) });
    return { status: answer.statusCode, body: (answer.body === '' ? null : answer.json()) as never };
  }

  const device = (id: string, more: object = {}): object => ({ id, profile: 'seismic', publicKey: newKey(), ...more });
  const pointerOf = (answer: { body: { errors?: { pointer: string }[] } }): string | undefined =>
    answer.body.errors?.[0]?.pointer;

  describe('zones over HTTP', () => {
    test('are made, shown, renamed and deleted', async () => {
      expect(await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' })).toMatchObject({
        status: 201,
        body: { id: 'rome', name: 'Rome' },
      });
      expect(await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' })).toMatchObject({
        status: 409,
        body: { code: 'already-exists' },
      });
      expect(await call('PATCH', '/v1/zones/rome', { name: 'Roma' })).toMatchObject({
        status: 200,
        body: { name: 'Roma' },
      });
      expect(await call('GET', '/v1/zones/rome')).toMatchObject({ status: 200, body: { name: 'Roma' } });
      expect(await call('DELETE', '/v1/zones/rome')).toEqual({ status: 204, body: null });
      expect(await call('GET', '/v1/zones/rome')).toMatchObject({ status: 404, body: { code: 'not-found' } });
      expect(await call('DELETE', '/v1/zones/rome')).toMatchObject({ status: 404 });
    });

    test('are listed newest first, page by page', async () => {
      for (const id of ['a', 'b', 'c', 'd', 'e']) await call('POST', '/v1/zones', { id, name: id });
      const seen: string[] = [];
      for (let url: string | null = '/v1/zones?limit=2'; url !== null; ) {
        const page: { items: { id: string }[]; next: string | null } = (await call('GET', url)).body;
        seen.push(...page.items.map((zone) => zone.id));
        url = page.next === null ? null : `/v1/zones?limit=2&cursor=${page.next}`;
      }
      expect(seen).toEqual(['e', 'd', 'c', 'b', 'a']);
    });

    test.each([
      'limit=0',
      'limit=501',
      'limit=x',
      'limit=1&limit=2',
      'cursor=x',
      'cursor=W10',
      'cursor=WyIxIl0',
      'cursor=WzFlOTld',
      'page=2',
    ])('refuse %s', async (query) => {
      expect(await call('GET', `/v1/zones?${query}`)).toMatchObject({
        status: 400,
        body: { code: 'malformed-parameter' },
      });
    });

    test('refuse control characters, an empty name and a wrong id', async () => {
      for (const name of ['', '   ', 'a\u0000b', 'a\nb', 'a\u202eb', 'x'.repeat(201)]) {
        const answer = await call('POST', '/v1/zones', { id: 'rome', name });
        expect([answer.status, pointerOf(answer)]).toEqual([422, '/name']);
      }
      expect(pointerOf(await call('POST', '/v1/zones', { id: 'a b', name: 'Rome' }))).toBe('/id');
    });

    test('stay while devices belong to them; revoked devices do not count', async () => {
      await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' });
      await call('POST', '/v1/devices', device('d1', { zoneId: 'rome' }));
      expect(await call('DELETE', '/v1/zones/rome')).toMatchObject({ status: 409, body: { code: 'zone-in-use' } });
      await call('DELETE', '/v1/devices/d1');
      expect(await call('DELETE', '/v1/zones/rome')).toMatchObject({ status: 204 });
      expect(await call('GET', '/v1/devices/d1')).toMatchObject({ body: { standing: 'revoked', zoneId: null } });
    });

    test('are written by operators only', async () => {
      role = 'viewer';
      expect(await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' })).toMatchObject({
        status: 403,
        body: { code: 'role-insufficient' },
      });
      expect(await call('GET', '/v1/zones')).toMatchObject({ status: 200, body: { items: [], next: null } });
    });
  });

  describe('devices over HTTP', () => {
    test('are made and shown with their key as PEM', async () => {
      const publicKey = newKey();
      await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' });
      const made = await call('POST', '/v1/devices', {
        ...device('d1'),
        publicKey: hexOf(publicKey),
        zoneId: 'rome',
        latitude: 41.9,
        longitude: 12.5,
        ownerId: 'u1',
      });
      const shown = {
        id: 'd1',
        profile: 'seismic',
        zoneId: 'rome',
        latitude: 41.9,
        longitude: 12.5,
        publicKey,
        ownerId: 'u1',
        standing: 'active',
        createdAt: expect.any(Number) as unknown,
        updatedAt: expect.any(Number) as unknown,
      };
      expect(made).toEqual({ status: 201, body: shown });
      expect(await call('GET', '/v1/devices/d1')).toEqual({ status: 200, body: shown });
    });

    test('are simulated ones for good when they are made so, and only those carry the member', async () => {
      const made = await call('POST', '/v1/devices', device('sim', { exercise: true }));
      expect(made).toMatchObject({ status: 201, body: { id: 'sim', exercise: true } });
      const real = await call('POST', '/v1/devices', device('real', { exercise: false }));
      expect(real.status).toBe(201);
      expect(real.body).not.toHaveProperty('exercise');
      expect(await call('GET', '/v1/devices/sim')).toEqual({ status: 200, body: made.body });
      const listed: { body: { items: { id: string; exercise?: boolean }[] } } = await call('GET', '/v1/devices');
      expect(listed.body.items.map(({ id, exercise }) => [id, exercise])).toEqual([
        ['real', undefined],
        ['sim', true],
      ]);
      for (const [id, exercise] of [
        ['sim', false],
        ['real', true],
      ] as const) {
        const answer = await call('PATCH', `/v1/devices/${id}`, { exercise });
        expect([answer.status, pointerOf(answer)]).toEqual([422, '/exercise']);
        expect((await registry.directory.lookup(id))?.exercise).toBe(id === 'sim');
      }
      expect(await call('PATCH', '/v1/devices/sim', { ownerId: 'u1' })).toMatchObject({ body: { exercise: true } });
      expect((await call('POST', '/v1/devices', device('bad', { exercise: 'yes' }))).status).toBe(422);
      expect((await call('DELETE', '/v1/devices/sim')).status).toBe(204);
      expect(await call('GET', '/v1/devices/sim')).toMatchObject({ body: { standing: 'revoked', exercise: true } });
    });

    test('refuse what does not fit, with a pointer', async () => {
      const pointers = [];
      for (const more of [
        { publicKey: '04abcd' },
        { zoneId: 'nowhere' },
        { latitude: 1 },
        { longitude: 1 },
        { latitude: 91, longitude: 0 },
        { profile: 'x' },
        { wat: 1 },
      ]) {
        const answer = await call('POST', '/v1/devices', device('d1', more));
        expect(answer.status).toBe(422);
        pointers.push(pointerOf(answer));
      }
      expect(pointers).toEqual(['/publicKey', '/zoneId', '/longitude', '/latitude', '/latitude', '/profile', '/wat']);
    });

    test('a private key pasted by mistake is refused and not echoed', async () => {
      const pem = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
        format: 'pem',
        type: 'pkcs8',
      }) as string;
      const answer = await call('POST', '/v1/devices', device('d1', { publicKey: pem }));
      expect(answer.status).toBe(422);
      expect(JSON.stringify(answer.body)).not.toContain(pem.slice(40, 60));
      expect(JSON.stringify(answer.body)).toContain('private');
    });

    test('a revoked device stays revoked and its id is never used again', async () => {
      await call('POST', '/v1/devices', device('d1'));
      expect(await call('POST', '/v1/devices', device('d1'))).toMatchObject({
        status: 409,
        body: { code: 'already-exists' },
      });
      expect((await call('DELETE', '/v1/devices/d1')).status).toBe(204);
      expect((await call('DELETE', '/v1/devices/d1')).status).toBe(204);
      expect(await call('POST', '/v1/devices', device('d1'))).toMatchObject({
        status: 409,
        body: { code: 'already-exists' },
      });
      expect(await call('PATCH', '/v1/devices/d1', { standing: 'active' })).toMatchObject({
        status: 403,
        body: { code: 'device-revoked' },
      });
      expect(await call('GET', '/v1/devices')).toMatchObject({ body: { items: [] } });
      expect(await call('GET', '/v1/devices?standing=revoked')).toMatchObject({ body: { items: [{ id: 'd1' }] } });
      expect((await call('DELETE', '/v1/devices/other')).status).toBe(404);
    });

    test('change only where the patch says so', async () => {
      await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' });
      const made = await call('POST', '/v1/devices', device('d1', { zoneId: 'rome', latitude: 1, longitude: 2 }));
      const change = async (patch: object) =>
        (await call('PATCH', '/v1/devices/d1', patch)) as { status: number; body: object };
      expect(await change({})).toMatchObject({ status: 200, body: { zoneId: 'rome', latitude: 1 } });
      expect(await change({ standing: 'quarantined' })).toMatchObject({
        body: { zoneId: 'rome', standing: 'quarantined' },
      });
      expect(await change({ latitude: 3, longitude: 4 })).toMatchObject({
        body: { latitude: 3, longitude: 4, standing: 'quarantined' },
      });
      expect(await change({ zoneId: null, latitude: null, longitude: null })).toMatchObject({
        body: { zoneId: null, latitude: null, longitude: null },
      });
      const publicKey = newKey();
      expect(await change({ publicKey })).toMatchObject({ body: { publicKey } });
      expect((made.body as { publicKey: string }).publicKey).not.toBe(publicKey);
      for (const patch of [
        { standing: 'revoked' },
        { id: 'x' },
        { profile: 'host' },
        { latitude: 1 },
        { zoneId: 'nowhere' },
      ]) {
        expect((await change(patch)).status).toBe(422);
      }
      expect((await call('PATCH', '/v1/devices/other', {})).status).toBe(404);
    });

    test('are found by filters, around a place and in a box', async () => {
      await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' });
      await call('POST', '/v1/devices', device('rome1', { zoneId: 'rome', latitude: 41.9, longitude: 12.5 }));
      await call('POST', '/v1/devices', device('milan', { profile: 'host', latitude: 45.46, longitude: 9.19 }));
      await call('POST', '/v1/devices', device('fiji', { latitude: -17.7, longitude: 178 }));
      await call('POST', '/v1/devices', device('nowhere'));
      const find = async (query: string) =>
        ((await call('GET', `/v1/devices?${query}`)).body as { items: { id: string }[] }).items.map(({ id }) => id);
      expect(await find('')).toEqual(['nowhere', 'fiji', 'milan', 'rome1']);
      expect(await find('zone=rome')).toEqual(['rome1']);
      expect(await find('profile=host')).toEqual(['milan']);
      expect(await find('standing=inactive')).toEqual([]);
      expect(await find('near=41.9,12.6&radius=10000')).toEqual(['rome1']);
      expect(await find('near=43.5,11&radius=400000')).toEqual(['milan', 'rome1']);
      expect(await find('near=43.5,11&radius=400000&profile=host')).toEqual(['milan']);
      expect(await find('near=-17.7,-179&radius=400000')).toEqual(['fiji']);
      expect(await find('bbox=170,-30,-170,0')).toEqual(['fiji']);
      expect(await find('bbox=5,40,15,50&limit=1')).toEqual(['milan']);
    });

    test.each([
      'near=1,2',
      'radius=5',
      'near=1,2,3&radius=5',
      'near=x,2&radius=5',
      'near=91,2&radius=5',
      'near=1,2&radius=-1',
      'near=1,2&radius=NaN',
      'near=1,2&radius=5&bbox=1,2,3,4',
      'bbox=1,2,3',
      'bbox=1,5,3,4',
      'profile=x',
      'standing=x',
      'zone=a%20b',
    ])('refuse the query %s', async (query) => {
      expect(await call('GET', `/v1/devices?${query}`)).toMatchObject({
        status: 400,
        body: { code: 'malformed-parameter' },
      });
    });
  });

  describe('the directory', () => {
    test('hears of changes in another process at once', async () => {
      expect(await other.directory.lookup('d1')).toBeNull();
      await call('POST', '/v1/zones', { id: 'rome', name: 'Rome' });
      await call('POST', '/v1/devices', device('d1', { zoneId: 'rome' }));
      expect(await other.directory.lookup('d1')).toMatchObject({
        id: 'd1',
        standing: 'active',
        zoneId: 'rome',
        zoneNumber: await other.zoneNumberOf('rome'),
      });
      await call('PATCH', '/v1/devices/d1', { standing: 'blocked' });
      expect((await other.directory.lookup('d1'))?.standing).toBe('blocked');
      await call('DELETE', '/v1/devices/d1');
      expect((await registry.directory.lookup('d1'))?.standing).toBe('revoked');
      expect((await other.directory.lookup('d1'))?.standing).toBe('revoked');
    });

    test('counts the devices that are not revoked', async () => {
      await call('POST', '/v1/devices', device('d1'));
      await call('POST', '/v1/devices', device('d2'));
      await call('DELETE', '/v1/devices/d1');
      await expect.poll(() => [registry.registeredCount(), other.registeredCount()]).toEqual([1, 1]);
    });

    test('knows the name and the mean place of a zone, across the antimeridian too', async () => {
      await call('POST', '/v1/zones', { id: 'fiji', name: 'Fiji' });
      expect(await registry.zonePlace('fiji')).toBeNull();
      await call('POST', '/v1/devices', device('d1', { zoneId: 'fiji', latitude: 0, longitude: 179 }));
      await call('POST', '/v1/devices', device('d2', { zoneId: 'fiji', latitude: 0, longitude: -179 }));
      const place = await other.zonePlace('fiji');
      expect(place?.latitude).toBeCloseTo(0);
      expect(Math.abs(place?.longitude ?? 0)).toBeCloseTo(180);
      await call('PATCH', '/v1/zones/fiji', { name: 'Viti' });
      expect(await other.zoneName('fiji')).toBe('Viti');
      expect(await other.zoneName('nowhere')).toBeNull();
    });

    test('takes simulated devices for the place of a zone only where there are no others', async () => {
      await call('POST', '/v1/zones', { id: 'etna', name: 'Etna' });
      await call('POST', '/v1/devices', device('s1', { zoneId: 'etna', latitude: 10, longitude: 10, exercise: true }));
      expect((await other.zonePlace('etna'))?.latitude).toBeCloseTo(10);
      await call('POST', '/v1/devices', device('r0', { zoneId: 'etna' }));
      expect((await other.zonePlace('etna'))?.latitude).toBeCloseTo(10);
      await call('POST', '/v1/devices', device('r1', { zoneId: 'etna', latitude: 37.7, longitude: 15 }));
      const place = await other.zonePlace('etna');
      expect([place?.latitude, place?.longitude]).toEqual([expect.closeTo(37.7), expect.closeTo(15)]);
    });
  });

  describe('the original client', () => {
    test('gets one zone for a city, however many ask at once', async () => {
      const all = await Promise.all(
        Array.from({ length: 8 }, (_, index) => (index % 2 === 0 ? registry : other).createOrFindOriginalZone('Rome')),
      );
      expect(new Set(all.map(({ zone }) => zone.id)).size).toBe(1);
      expect(all.filter(({ created }) => created)).toHaveLength(1);
      expect((await call('GET', `/v1/zones/z${all[0]?.zone.id}`)).status).toBe(200);
    });

    test('gets integers that skip ids in use, and sees native zones of that form', async () => {
      const { zone } = await registry.createOrFindOriginalZone('Rome');
      await call('POST', '/v1/zones', { id: `z${zone.id + 1}`, name: 'Milan' });
      await call('POST', '/v1/zones', { id: `z${zone.id + 2}`, name: 'Turin' });
      await call('POST', '/v1/zones', { id: 'zen', name: 'Zen' });
      expect(await registry.createOrFindOriginalZone('Milan')).toEqual({
        zone: { id: zone.id + 1, city: 'Milan' },
        created: false,
      });
      expect((await registry.createOrFindOriginalZone('Zen')).zone.id).toBe(zone.id + 3);
      expect((await registry.listOriginalZones()).map(({ city }) => city)).toEqual(['Rome', 'Milan', 'Turin', 'Zen']);
    });

    test('gets one device for a key, whatever its form, and none of a revoked id', async () => {
      const { zone } = await registry.createOrFindOriginalZone('Rome');
      const pem = newKey();
      const request = { active: true, zoneId: zone.id, latitude: 1, longitude: 2, publicKeyHex: hexOf(pem) };
      const first = await registry.createOrFindOriginalDevice(request);
      expect(first).toMatchObject({
        created: true,
        device: { active: true, zoneId: zone.id, latitude: 1, longitude: 2 },
      });
      const again = await other.createOrFindOriginalDevice({
        ...request,
        active: false,
        publicKeyHex: hexOf(pem).slice(2),
      });
      expect(again).toEqual({ created: false, device: first.device });
      await registry.devices.revoke(`m${first.device.id}`);
      expect(await registry.createOrFindOriginalDevice(request)).toMatchObject({
        created: false,
        device: { id: first.device.id, active: false },
      });
      const second = await registry.createOrFindOriginalDevice({
        ...request,
        active: false,
        publicKeyHex: hexOf(newKey()),
      });
      expect(second.device.id).toBeGreaterThan(first.device.id);
      expect((await registry.directory.lookup(`m${second.device.id}`))?.standing).toBe('inactive');
      expect(await registry.listOriginalDevices()).toEqual([second.device]);
    });

    test('never gets a simulated device, whatever its id and key', async () => {
      const { zone } = await registry.createOrFindOriginalZone('Rome');
      const pem = newKey();
      const made = await call('POST', '/v1/devices', { ...device('m900', { exercise: true }), publicKey: pem });
      expect(made.status).toBe(201);
      const request = { active: true, zoneId: zone.id, latitude: 1, longitude: 2, publicKeyHex: hexOf(pem) };
      const { device: real, created } = await registry.createOrFindOriginalDevice(request);
      expect(created).toBe(true);
      expect(real.id).not.toBe(900);
      expect(await registry.directory.lookup(`m${real.id}`)).toMatchObject({ exercise: false });
    });

    test('is refused a zone or a key that is none, with a pointer of its own names', async () => {
      const request = {
        active: true,
        zoneId: 1_000_000,
        latitude: null,
        longitude: null,
        publicKeyHex: hexOf(newKey()),
      };
      await expect(registry.createOrFindOriginalDevice(request)).rejects.toMatchObject({
        refusal: { code: 'schema', errors: [{ pointer: '/zone_id' }] },
      });
      await expect(registry.createOrFindOriginalDevice({ ...request, publicKeyHex: 'x' })).rejects.toMatchObject({
        refusal: { code: 'schema', errors: [{ pointer: '/public_key_hex' }] },
      });
    });
  });
});
