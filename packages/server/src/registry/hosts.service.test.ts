import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PublishSubscribe, TopicListener } from '../bus/ports/bus.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { createDeviceStore } from '../store/postgres/devices.ts';
import { createHostStore } from '../store/postgres/hosts.ts';
import { createZoneStore } from '../store/postgres/zones.ts';
import { FULL_MS } from './hosts.ts';
import { newKey } from './keys.suite.ts';
import { type Registry, createRegistry } from './registry.ts';

const log = { warn: () => {}, error: () => {}, debug: () => {} };
const MOST = 12_000;

let ahead = 0;
const clock: Clock = { now: systemClock.now, monotonic: () => systemClock.monotonic() + ahead };

/** What went over the bus between the registries. */
const published: string[] = [];

function createPubsub(): PublishSubscribe {
  const listeners = new Set<TopicListener>();
  return {
    publish: async (_topic, payload) => {
      published.push(payload);
      for (const listener of listeners) listener(payload, Date.now());
    },
    subscribe: async (_topic, listener) => {
      listeners.add(listener);
      return async () => void listeners.delete(listener);
    },
  };
}

describe.each(engines)('hosts that nobody registered on %s', (engine) => {
  let database: TestDatabase;
  let registry: Registry;
  let other: Registry;

  beforeAll(async () => {
    database = await openTestDatabase(engine);
    const { db } = database;
    const stores = { zones: createZoneStore(db), devices: createDeviceStore(db), hosts: createHostStore(db) };
    const options = { stores, bus: { pubsub: createPubsub() }, clock, log, mostHosts: MOST };
    [registry, other] = await Promise.all([createRegistry(options), createRegistry(options)]);
  });

  afterAll(async () => {
    await Promise.all([registry?.close(), other?.close()]);
    await database?.close();
  });

  beforeEach(async () => {
    await database.db.execute('TRUNCATE devices, zones');
    for (const one of [registry, other]) one.directory.invalidateAll();
    published.length = 0;
    ahead += FULL_MS;
  });

  const rows = async (): Promise<number> =>
    (await database.db.query<{ n: number }>('SELECT count(*) AS n FROM devices'))[0]?.n ?? -1;

  test('an unknown host gets a row of profile host without a key', async () => {
    expect(await registry.directory.lookup('h1')).toBeNull();
    const host = await registry.hosts.enrol('h1');
    expect(host).toMatchObject({ id: 'h1', profile: 'host', key: null, standing: 'active', zoneId: null });
    expect(host).toMatchObject({ exercise: false, latitude: null, longitude: null });
    expect(registry.directory.lookup('h1')).toBe(host);
    expect(await registry.hosts.enrol('h1')).toEqual(host);
  });

  test('10,000 that appear at once are a few statements, and a few messages to the other instances', async () => {
    const ids = Array.from({ length: 10_000 }, (_, i) => `h${i}`);
    const hosts = await Promise.all(ids.map((id) => registry.hosts.enrol(id)));
    expect(hosts.map((host) => host?.id)).toEqual(ids);
    expect(new Set(hosts.map((host) => host?.number)).size).toBe(10_000);
    expect(published).toHaveLength(10);
  });

  test('two instances that enrol the same hosts at once make one row for each, and agree', async () => {
    const ids = Array.from({ length: 3000 }, (_, i) => `h${i}`);
    const [here, there] = await Promise.all(
      [registry, other].map((one, i) =>
        Promise.all((i === 0 ? ids : ids.toReversed()).map((id) => one.hosts.enrol(id))),
      ),
    );
    expect(here?.every((host) => host !== null)).toBe(true);
    const numbers = (list: typeof here): unknown =>
      Object.fromEntries(list?.map((host) => [host?.id, host?.number]) ?? []);
    expect(numbers(here)).toEqual(numbers(there));
    expect(await rows()).toBe(3000);
  });

  test('another instance that had just looked for the host finds it at once', async () => {
    expect(await other.directory.lookup('h1')).toBeNull();
    const host = await registry.hosts.enrol('h1');
    expect(await other.directory.lookup('h1')).toEqual(host);
  });

  test('there are never more than the bound, however many instances enrol at once', async () => {
    const wave = (one: Registry, name: string): Promise<unknown[]> =>
      Promise.all(Array.from({ length: 8000 }, (_, i) => one.hosts.enrol(`${name}${i}`)));
    const [a, b] = await Promise.all([wave(registry, 'a'), wave(other, 'b')]);
    expect([...(a ?? []), ...(b ?? [])].filter((host) => host !== null)).toHaveLength(MOST);
    expect(await rows()).toBe(MOST);
    // Those that are there are heard on.
    expect(await registry.hosts.enrol('a0')).toMatchObject({ id: 'a0' });
    expect(await registry.hosts.enrol('late')).toBeNull();
    await database.db.execute(`DELETE FROM devices WHERE id = 'a0'`);
    ahead += FULL_MS;
    expect(await registry.hosts.enrol('late')).toMatchObject({ id: 'late' });
  });

  test('what is there already is answered as it is: registered, inactive, revoked', async () => {
    const made = { zoneId: null, place: null, ownerId: null, exercise: false };
    await registry.devices.create({ id: 's', profile: 'seismic', publicKey: newKey(), ...made });
    await registry.hosts.enrol('i');
    await registry.devices.change('i', { standing: 'inactive' });
    await registry.hosts.enrol('r');
    await registry.devices.revoke('r');
    expect(await other.hosts.enrol('s')).toMatchObject({ profile: 'seismic' });
    expect(await other.hosts.enrol('i')).toMatchObject({ standing: 'inactive', key: null });
    expect(await other.hosts.enrol('r')).toMatchObject({ standing: 'revoked', key: null });
    expect(await rows()).toBe(3);
  });

  test('a text that is no identifier is nobody, and costs nobody else', async () => {
    const [good, bad] = await Promise.all([registry.hosts.enrol('h1'), registry.hosts.enrol('a\u0000b')]);
    expect([good?.id, bad]).toEqual(['h1', null]);
  });

  test('they do not count as registered', async () => {
    await registry.hosts.enrol('h1');
    expect(await createDeviceStore(database.db).countRegistered()).toBe(0);
  });
});
