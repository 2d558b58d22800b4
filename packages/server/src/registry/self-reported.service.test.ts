/** What operators see and do of hosts that nobody registered, and how these are forgotten. */
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import fc from 'fast-check';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../lib/clock.ts';
import { createCertificateStore } from '../store/postgres/certificate-holders.ts';
import { createDeviceStore } from '../store/postgres/devices.ts';
import { createHostStore } from '../store/postgres/hosts.ts';
import { createStatisticsStore } from '../store/postgres/statistics.ts';
import { createZoneStore } from '../store/postgres/zones.ts';
import { deviceRoutes } from '../transports/http/devices.ts';
import { createHttpServer } from '../transports/http/server.ts';
import { FORGET_AFTER_MS, PORTION, PURGE_AFTER_MS, createForgetting } from './forgetting.ts';
import { hexOf, newKey } from './keys.suite.ts';
import { type Registry, createRegistry } from './registry.ts';
import { createStatistics } from './statistics.ts';

const log = { warn: () => {}, error: () => {}, debug: () => {} };
const DAY = 86_400_000;

describe.each(engines)('self-reported hosts on %s', (engine) => {
  let database: TestDatabase;
  let registry: Registry;
  let app: FastifyInstance;
  /** The time of the maintenance, Unix ms; everything accepted up to it is done. */
  let now: number;
  let forget: () => Promise<void>;

  beforeAll(async () => {
    database = await openTestDatabase(engine);
    const { db } = database;
    const stores = { zones: createZoneStore(db), devices: createDeviceStore(db), hosts: createHostStore(db) };
    const pubsub = { publish: async () => {}, subscribe: async () => async () => {} };
    registry = await createRegistry({ stores, bus: { pubsub }, clock: systemClock, log, mostHosts: 10_000 });
    const authenticators = {
      apiKey: async () => ({ kind: 'api-key', id: 'k', scopes: [] }) as const,
      bearer: async () => ({ kind: 'user', id: 'u', role: 'operator', sessionId: 's', expiresAt: 0 }) as const,
    };
    app = await createHttpServer({ log, authenticators, trace: () => 'trace' });
    deviceRoutes(app, { devices: registry.devices, publicKeyPem: registry.publicKeyPem });
  });

  afterAll(async () => {
    await app?.close();
    await registry?.close();
    await database?.close();
  });

  beforeEach(async () => {
    await database.db.execute(
      'TRUNCATE devices, zones, readings, rollups, rollup_days, zone_devices, forgotten_numbers',
    );
    registry.directory.invalidateAll();
    now = Date.now();
    const hosts = createHostStore(database.db);
    forget = createForgetting({ hosts, now: () => now, completeUntil: async () => now, keptMs: 30 * DAY });
  });

  async function call(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    url: string,
    payload?: object,
  ): Promise<{ status: number; body: never }> {
    const answer = await app.inject({ method, url, ...(payload === undefined ? {} : { payload }) });
    return { status: answer.statusCode, body: (answer.body === '' ? null : answer.json()) as never };
  }
  const ids = async (query: string): Promise<string[]> => {
    const { body } = (await call('GET', `/v1/devices?${query}`)) as { body: { items: { id: string }[] } };
    return body.items.map(({ id }) => id);
  };
  const numberOf = async (id: string): Promise<number> => (await registry.devices.get(id)).number;
  const store = (device: number, values: readonly number[], receivedAt = Date.now()): Promise<number> =>
    database.db.execute(
      `INSERT INTO readings (received_at, at, device, value, envelope_id)
       SELECT $1, $1, $2, v, 'e' FROM unnest($3::float8[]) AS v`,
      [receivedAt, device, values],
    );
  const statistics = (id: string): Promise<unknown> =>
    createStatistics(createStatisticsStore(database.db)).device(id, {});

  describe('over HTTP', () => {
    test('are in the lists, without a key; registered=false finds only them, registered=true none of them', async () => {
      await registry.hosts.enrol('h1');
      await call('POST', '/v1/devices', { id: 'd1', profile: 'host', publicKey: newKey() });
      expect(await call('GET', '/v1/devices/h1')).toMatchObject({
        status: 200,
        body: { id: 'h1', profile: 'host', publicKey: null, zoneId: null, standing: 'active' },
      });
      expect(await ids('')).toEqual(['d1', 'h1']);
      expect(await ids('profile=host&registered=false')).toEqual(['h1']);
      expect(await ids('registered=true')).toEqual(['d1']);
      expect((await call('GET', '/v1/devices?registered=yes')).status).toBe(400);
    });

    test('take a zone, a place and a standing; a key registers them', async () => {
      await registry.zones.create({ id: 'hall', name: 'Hall' });
      await registry.hosts.enrol('h1');
      const changed = { zoneId: 'hall', latitude: 1, longitude: 2, standing: 'inactive' };
      expect(await call('PATCH', '/v1/devices/h1', changed)).toMatchObject({
        status: 200,
        body: { ...changed, publicKey: null },
      });
      expect(await registry.directory.lookup('h1')).toMatchObject({ key: null, zoneId: 'hall', standing: 'inactive' });
      const publicKey = newKey();
      expect(await call('PATCH', '/v1/devices/h1', { publicKey })).toMatchObject({ body: { ...changed, publicKey } });
      expect((await registry.directory.lookup('h1'))?.key?.asymmetricKeyType).toBe('ec');
      expect(await ids('registered=false')).toEqual([]);
    });

    test('can be revoked, for good: no frame and no registration brings them back', async () => {
      await registry.hosts.enrol('h1');
      expect((await call('DELETE', '/v1/devices/h1')).status).toBe(204);
      expect(await registry.directory.lookup('h1')).toMatchObject({ standing: 'revoked', key: null });
      expect(await registry.hosts.enrol('h1')).toMatchObject({ standing: 'revoked' });
      const again = { id: 'h1', profile: 'host', publicKey: newKey() };
      expect(await call('POST', '/v1/devices', again)).toMatchObject({ status: 409, body: { code: 'already-exists' } });
      expect((await call('PATCH', '/v1/devices/h1', { publicKey: newKey() })).status).toBe(403);
    });

    test('have statistics of their cpu_percent when nobody says which field', async () => {
      await registry.hosts.enrol('h1');
      await store(await numberOf('h1'), [10, 30]);
      expect(await statistics('h1')).toMatchObject({ count: 2, mean: 20 });
    });
  });

  describe('that are registered', () => {
    test('keep their number and with it their readings; everything else is as asked for', async () => {
      await registry.zones.create({ id: 'hall', name: 'Hall' });
      const host = await registry.hosts.enrol('h1');
      await store(host?.number ?? 0, [10, 30]);
      const wanted = { id: 'h1', profile: 'host', zoneId: 'hall', latitude: 1, longitude: 2, ownerId: 'ann' };
      const publicKey = newKey();
      const made = await call('POST', '/v1/devices', { ...wanted, publicKey, exercise: true });
      expect(made).toMatchObject({ status: 201, body: { ...wanted, publicKey, standing: 'active', exercise: true } });
      expect(await registry.directory.lookup('h1')).toMatchObject({ number: host?.number, zoneId: 'hall' });
      expect(await statistics('h1')).toMatchObject({ count: 2 });
      const again = { id: 'h1', profile: 'host', publicKey: newKey() };
      expect((await call('POST', '/v1/devices', again)).status).toBe(409);
    });

    test('keep a standing that an operator gave them', async () => {
      for (const standing of ['inactive', 'quarantined', 'blocked'] as const) {
        await registry.hosts.enrol(standing);
        await registry.devices.change(standing, { standing });
        const body = { id: standing, profile: 'host', publicKey: newKey() };
        expect(await call('POST', '/v1/devices', body)).toMatchObject({ status: 201, body: { standing } });
      }
    });

    test('as a device of another profile begin anew: no percentage turns up among its values', async () => {
      const host = await registry.hosts.enrol('s1');
      await store(host?.number ?? 0, [99]);
      const made = await call('POST', '/v1/devices', { id: 's1', profile: 'seismic', publicKey: newKey() });
      expect(made).toMatchObject({ status: 201, body: { profile: 'seismic' } });
      expect(await numberOf('s1')).not.toBe(host?.number);
      expect(await registry.directory.lookup('s1')).toMatchObject({ profile: 'seismic', number: await numberOf('s1') });
      expect(await statistics('s1')).toMatchObject({ count: 0 });
    });

    test('in a zone that is not there stay as they are', async () => {
      await registry.hosts.enrol('h1');
      const body = { id: 'h1', profile: 'seismic', publicKey: newKey(), zoneId: 'nowhere' };
      expect((await call('POST', '/v1/devices', body)).status).toBe(422);
      expect(await registry.devices.get('h1')).toMatchObject({ profile: 'host', publicKey: null, zoneId: null });
      expect(await database.db.query('SELECT * FROM forgotten_numbers')).toEqual([]);
    });

    test('at the moment of their first frame are one device, whichever comes first', async () => {
      const names = Array.from({ length: 30 }, (_, i) => `d${i}`);
      const both = names.flatMap((id) => [
        registry.hosts.enrol(id),
        call('POST', '/v1/devices', { id, profile: 'host', publicKey: newKey() }),
      ]);
      const answers = await Promise.all(both);
      expect(answers.filter((answer) => answer === null)).toEqual([]);
      expect(answers.flatMap((answer) => (answer !== null && 'status' in answer ? [answer.status] : []))).toEqual(
        names.map(() => 201),
      );
      expect(await ids('limit=500&registered=true')).toHaveLength(30);
      expect(await ids('limit=500')).toHaveLength(30);
    });
  });

  test('called like devices of the original client are none of its sensors, and no integer is used twice', async () => {
    const { zone } = await registry.createOrFindOriginalZone('Rome');
    const [last] = await database.db.query<{ n: number }>('SELECT last_value AS n FROM original_device_numbers');
    const taken = Array.from({ length: 5 }, (_, i) => (last?.n ?? 0) + i);
    await Promise.all(taken.map((n) => registry.hosts.enrol(`m${n}`)));
    expect(await registry.listOriginalDevices()).toEqual([]);
    const request = { active: true, zoneId: zone.id, latitude: 1, longitude: 2 };
    const made = await Promise.all(
      Array.from({ length: 8 }, () =>
        registry.createOrFindOriginalDevice({ ...request, publicKeyHex: hexOf(newKey()) }),
      ),
    );
    const integers = made.map(({ device }) => device.id);
    expect(new Set([...integers, ...taken]).size).toBe(13);
    expect((await registry.listOriginalDevices()).map(({ id }) => id)).toEqual(integers.toSorted((a, b) => a - b));
  });

  test('are no holders of client certificates, so that nobody takes the name of a user by reporting under it', async () => {
    await registry.hosts.enrol('h1');
    const certificates = createCertificateStore(database.db);
    const names = { userIds: [], emails: [], deviceIds: ['h1'] };
    expect(await certificates.named(names)).toEqual([]);
    await registry.devices.change('h1', { publicKey: newKey() });
    expect(await certificates.named(names)).toMatchObject([{ kind: 'device', id: 'h1' }]);
  });

  describe('that no longer report', () => {
    const left = async (): Promise<string[]> =>
      (await database.db.query<{ id: string }>('SELECT id FROM devices ORDER BY id')).map(({ id }) => id);
    /** Two passes, as far apart as it takes. */
    const forgetAll = async (): Promise<void> => {
      await forget();
      now += FORGET_AFTER_MS + 1;
      await forget();
    };

    test('are forgotten when no reading of them is left and nobody touched them for as long', async () => {
      await registry.hosts.enrol('silent');
      await registry.hosts.enrol('reporting');
      await store(await numberOf('reporting'), [1]);
      now += 29 * DAY;
      await forgetAll();
      expect(await left()).toEqual(['reporting', 'silent']);
      now += 2 * DAY;
      await forgetAll();
      expect(await left()).toEqual(['reporting']);
      // Its id is free for a new one.
      registry.directory.invalidateAll();
      expect(await registry.hosts.enrol('silent')).toMatchObject({ id: 'silent' });
    });

    test('stay while an operator said anything of them', async () => {
      await registry.zones.create({ id: 'hall', name: 'Hall' });
      const words = {
        zone: { zoneId: 'hall' },
        place: { place: { latitude: 1, longitude: 2 } },
        owner: { ownerId: 'ann' },
        inactive: { standing: 'inactive' },
        quarantined: { standing: 'quarantined' },
        blocked: { standing: 'blocked' },
        key: { publicKey: newKey() },
      } as const;
      for (const [id, patch] of Object.entries(words)) {
        await registry.hosts.enrol(id);
        await registry.devices.change(id, patch);
      }
      await registry.hosts.enrol('revoked');
      await registry.devices.revoke('revoked');
      now += 31 * DAY;
      await forgetAll();
      expect(await left()).toEqual([...Object.keys(words), 'revoked'].sort());
    });

    test('are taken back by a frame, with their number, up to the last moment', async () => {
      const host = await registry.hosts.enrol('h1');
      now += 31 * DAY;
      await forget();
      registry.directory.invalidateAll();
      expect(await registry.directory.lookup('h1')).toBeNull();
      expect(await registry.hosts.enrol('h1')).toEqual(host);
      now += FORGET_AFTER_MS + 1;
      await forget();
      expect(await left()).toEqual(['h1']);
    });

    test('stay when a frame that found them before has become a reading, or an operator speaks meanwhile', async () => {
      const host = await registry.hosts.enrol('late');
      await registry.hosts.enrol('zoned');
      await registry.hosts.enrol('revoked');
      await registry.zones.create({ id: 'hall', name: 'Hall' });
      now += 31 * DAY;
      await forget();
      await store(host?.number ?? 0, [1]);
      await registry.devices.change('zoned', { zoneId: 'hall' });
      await registry.devices.revoke('revoked');
      now += FORGET_AFTER_MS + 1;
      await forget();
      expect(await left()).toEqual(['late', 'revoked', 'zoned']);
      registry.directory.invalidateAll();
      expect(await registry.directory.lookup('late')).toEqual(host);
    });

    test('take the sums of their own along, and leave those of everybody and of zones', async () => {
      const host = await registry.hosts.enrol('h1');
      const kept = await registry.hosts.enrol('kept');
      for (const table of ['rollups', 'rollup_days']) {
        await database.db.execute(
          `INSERT INTO ${table} (scope, number, profile, field, bucket, count, sum, squares, min, max, first_at, last_at, bins, bin_counts)
           SELECT scope, number, 'host', 'cpu_percent', b * 86400000, 1, 1, 0, 1, 1, 0, 0, '{}', '{}'
           FROM (VALUES ('device', $1::int), ('device', $2::int), ('zone', $1::int), ('all', 0)) AS s (scope, number), generate_series(1, 20) b`,
          [host?.number, kept?.number],
        );
      }
      await database.db.execute('INSERT INTO zone_devices (zone, device) VALUES (1, $1)', [host?.number]);
      await store(kept?.number ?? 0, [1]);
      now += 31 * DAY;
      await forgetAll();
      now += PURGE_AFTER_MS + 1;
      await forget();
      for (const table of ['rollups', 'rollup_days']) {
        const rows = await database.db.query<{ who: string; n: number }>(
          `SELECT scope || number AS who, count(*) AS n FROM ${table} GROUP BY 1 ORDER BY 1`,
        );
        expect(Object.fromEntries(rows.map(({ who, n }) => [who, n]))).toEqual({
          all0: 20,
          [`device${kept?.number}`]: 20,
          [`zone${host?.number}`]: 20,
        });
      }
      for (const table of ['zone_devices', 'forgotten_numbers'])
        expect(await database.db.query(`SELECT * FROM ${table}`)).toEqual([]);
    });

    test('are looked at a portion in each pass, all of them in turn', async () => {
      await Promise.all(Array.from({ length: PORTION + 200 }, (_, i) => registry.hosts.enrol(`h${i}`)));
      now += 31 * DAY;
      const leaving = async (): Promise<number> =>
        (await database.db.query('SELECT FROM devices WHERE leaving_at IS NOT NULL')).length;
      await forget();
      expect(await leaving()).toBe(PORTION);
      await forget();
      expect(await leaving()).toBe(PORTION + 200);
      now += FORGET_AFTER_MS + 1;
      for (let pass = 0; pass < 3; pass += 1) await forget();
      expect(await left()).toEqual([]);
    });

    test('of sums a portion goes at a time', async () => {
      const host = await registry.hosts.enrol('h1');
      const hosts = createHostStore(database.db);
      await database.db.execute(
        `INSERT INTO rollups (scope, number, profile, field, bucket, count, sum, squares, min, max, first_at, last_at, bins, bin_counts)
         SELECT 'device', $1, 'host', 'cpu_percent', b, 1, 1, 0, 1, 1, 0, 0, '{}', '{}' FROM generate_series(1, 25) b`,
        [host?.number],
      );
      await database.db.execute('INSERT INTO forgotten_numbers VALUES ($1, 5)', [host?.number]);
      expect(await hosts.purge(5, 10)).toBe(0);
      expect([
        await hosts.purge(6, 10),
        await hosts.purge(6, 10),
        await hosts.purge(6, 10),
        await hosts.purge(6, 10),
      ]).toEqual([10, 10, 6, 0]);
    });
  });

  test('whatever happens to them in whatever order: who was revoked stays, who has readings stays, no id has two rows', async () => {
    type Step = readonly [what: 'enrol' | 'frame' | 'register' | 'revoke' | 'month' | 'forget', id: string];
    const step: fc.Arbitrary<Step> = fc.tuple(
      fc.constantFrom('enrol', 'frame', 'register', 'revoke', 'month', 'forget'),
      fc.constantFrom('a', 'b'),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        await database.db.execute('TRUNCATE devices, readings, forgotten_numbers');
        registry.directory.invalidateAll();
        const lasting = new Map<string, 'revoked' | 'registered' | 'reading'>();
        for (const [what, id] of steps) {
          const known = lasting.get(id);
          if (what === 'enrol' || what === 'frame') {
            const host = await registry.hosts.enrol(id);
            expect(host?.standing).toBe(known === 'revoked' ? 'revoked' : 'active');
            if (what === 'frame' && known === undefined) {
              await store(host?.number ?? 0, [1]);
              lasting.set(id, 'reading');
            }
          } else if (what === 'register') {
            const { status } = await call('POST', '/v1/devices', { id, profile: 'host', publicKey: newKey() });
            expect(status).toBe(known === 'revoked' || known === 'registered' ? 409 : 201);
            if (status === 201) lasting.set(id, 'registered');
          } else if (what === 'revoke') {
            const { status } = await call('DELETE', `/v1/devices/${id}`);
            if (status === 204) lasting.set(id, 'revoked');
          } else if (what === 'month') now += 31 * DAY;
          else {
            await forget();
            registry.directory.invalidateAll();
            now += FORGET_AFTER_MS + 1;
          }
        }
        const rows = await database.db.query<{ id: string }>('SELECT id FROM devices');
        expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
        for (const id of lasting.keys()) expect(rows.map((row) => row.id)).toContain(id);
      }),
      { numRuns: 25 },
    );
  });
});
