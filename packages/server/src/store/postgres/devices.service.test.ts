import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Database } from '../ports/database.ts';
import type { DeviceArea, DeviceQuery } from '../ports/registry.ts';
import { createDeviceStore, deviceList } from './devices.ts';

const near = (latitude: number, longitude: number, radius: number): DeviceArea => ({
  kind: 'near',
  latitude,
  longitude,
  radius,
});
const box = (west: number, south: number, east: number, north: number): DeviceArea => ({
  kind: 'box',
  west,
  south,
  east,
  north,
});
const everything: DeviceQuery = {
  zoneId: null,
  profile: null,
  standing: null,
  registered: null,
  area: null,
  before: null,
  limit: 100_000,
};

async function insert(db: Database, latitudes: readonly number[], longitudes: readonly number[]): Promise<void> {
  await db.execute(
    `INSERT INTO devices (id, profile, latitude, longitude, public_key, created_at, updated_at)
     SELECT 'd' || n, 'seismic', lat, lon, '\\x00', 0, 0 FROM unnest($1::float8[], $2::float8[]) WITH ORDINALITY AS p (lat, lon, n)`,
    [latitudes, longitudes],
  );
}

const HALF_THE_GLOBE_M = (6_371_008.8 * Math.PI) / 2;
const AREAS: readonly (readonly [string, DeviceArea])[] = [
  ['a circle of a city', near(45.46, 9.19, 50_000)],
  ['a circle across the antimeridian', near(-17, 179.9, 200_000)],
  ['a circle around a pole', near(90, 0, 300_000)],
  ['a circle beside the other pole', near(-89.9, 40, 100_000)],
  ['a circle of half the globe', near(45.46, 9.19, HALF_THE_GLOBE_M)],
  ['a box', box(8, 44, 10, 46)],
  ['a box across the antimeridian', box(179, -20, -179, -15)],
  ['a box at the antimeridian', box(179, 10, 180, 11)],
  ['a box at a pole', box(8, 88, 20, 90)],
  ['a box of the whole globe but a degree', box(-179, -89, 179, 89)],
];

describe.each(engines)('50,000 devices over the whole world on %s', (engine) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(engine);
    await database.db.execute(
      `INSERT INTO devices (id, profile, latitude, longitude, public_key, created_at, updated_at)
       SELECT 'd' || n, 'seismic', degrees(asin(random() * 2 - 1)), random() * 360 - 180, '\\x00', 0, 0
       FROM generate_series(1, 50000) n`,
    );
    await database.db.execute('ANALYZE devices');
  });
  afterAll(() => database.close());

  test.each(AREAS)('the list reads no device outside of an index: %s', async (_name, area) => {
    const { text, values } = deviceList({ ...everything, area, limit: 100 });
    const [row] = await database.db.query<Record<'QUERY PLAN', unknown>>(`EXPLAIN (FORMAT JSON) ${text}`, values);
    const plan = JSON.stringify(row?.['QUERY PLAN']);
    expect(plan).toContain(
      engine === 'private' ? '"devices_' : area.kind === 'near' ? '"devices_by_geography"' : '"devices_by_point"',
    );
    expect(plan).not.toMatch(/"Seq Scan",[^{}]*"Relation Name":"devices"/);
  });
});

describe('every engine', () => {
  // What edges are made of comes often: poles, both names of the antimeridian, and places of the devices themselves.
  const latitude = fc.oneof(
    fc.constantFrom(-90, 90, 0, 45),
    fc.double({ min: -90, max: 90, noNaN: true }),
    fc.double({ min: 89.9, max: 90, noNaN: true }),
  );
  const longitude = fc.oneof(
    fc.constantFrom(-180, 180, 0, 9),
    fc.double({ min: -180, max: 180, noNaN: true }),
    fc.double({ min: 179.9, max: 180, noNaN: true }),
    fc.double({ min: -180, max: -179.9, noNaN: true }),
  );
  const area = fc.oneof(
    fc.tuple(latitude, longitude, fc.double({ min: 0, max: 7.4, noNaN: true })).map(([lat, lon, exponent]) => {
      return near(lat, lon, 10 ** exponent);
    }),
    fc.tuple(longitude, latitude, longitude, latitude).map(([west, a, east, b]) => {
      return box(west, Math.min(a, b), east, Math.max(a, b));
    }),
  );
  const places = fc.array(fc.tuple(latitude, longitude), { minLength: 1, maxLength: 300 });

  test('answers the same devices for drawn places, circles and boxes', async () => {
    const databases = await Promise.all(engines.map((engine) => openTestDatabase(engine)));
    try {
      await fc.assert(
        fc.asyncProperty(places, fc.array(area, { minLength: 1, maxLength: 12 }), async (devices, areas) => {
          const answers: string[][][] = [];
          for (const { db } of databases) {
            await db.execute('TRUNCATE devices RESTART IDENTITY CASCADE');
            await insert(
              db,
              devices.map(([lat]) => lat),
              devices.map(([, lon]) => lon),
            );
            const store = createDeviceStore(db);
            const lists: string[][] = [];
            for (const one of areas) lists.push((await store.list({ ...everything, area: one })).map(({ id }) => id));
            answers.push(lists);
          }
          for (const answer of answers) expect(answer).toEqual(answers[0]);
        }),
        { numRuns: 60 },
      );
    } finally {
      for (const database of databases) await database.close();
    }
  });
});
