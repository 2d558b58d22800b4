import { engines } from '@tocsin/testkit/engines';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const R = 6_371_008.8;
const rad = (degrees: number): number => (degrees * Math.PI) / 180;

/** An independent form: the angle between two unit vectors. */
function distance(a: readonly [number, number], b: readonly [number, number]): number {
  const vector = ([lat, lon]: readonly [number, number]) => [
    Math.cos(rad(lat)) * Math.cos(rad(lon)),
    Math.cos(rad(lat)) * Math.sin(rad(lon)),
    Math.sin(rad(lat)),
  ];
  const [x1 = 0, y1 = 0, z1 = 0] = vector(a);
  const [x2 = 0, y2 = 0, z2 = 0] = vector(b);
  const cross = Math.hypot(y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2);
  return R * Math.atan2(cross, x1 * x2 + y1 * y2 + z1 * z2);
}

/** Deterministic numbers (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const draw = random(7);
const places = new Map<string, [number, number]>([
  ['north-pole', [90, 12]],
  ['south-pole', [-90, -45]],
  ['date-line-east', [10, 180]],
  ['date-line-west', [10, -180]],
  ['null-island', [0, 0]],
]);
for (let n = 0; n < 1_500; n += 1) {
  const crowd = n % 3;
  const lat = crowd === 0 ? draw() * 180 - 90 : crowd === 1 ? 40 + draw() : 88 + draw() * 2;
  const lon = crowd === 1 ? (draw() < 0.5 ? 179.5 + draw() * 0.5 : -180 + draw() * 0.5) : draw() * 360 - 180;
  places.set(`d${n}`, [lat, lon]);
}

describe.each(engines)('geography on %s', (engine) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(engine);
    await database.db.execute(
      `INSERT INTO devices (id, profile, latitude, longitude, public_key, created_at, updated_at)
       SELECT id, 'seismic', lat, lon, '\\x00', 0, 0
       FROM unnest($1::text[], $2::float8[], $3::float8[]) AS p (id, lat, lon)`,
      [[...places.keys()], [...places.values()].map(([lat]) => lat), [...places.values()].map(([, lon]) => lon)],
    );
    await database.db.execute(
      `INSERT INTO devices (id, profile, public_key, created_at, updated_at) VALUES ('nowhere', 'seismic', '\\x00', 0, 0)`,
    );
    await database.db.execute('ANALYZE devices');
  });
  afterAll(() => database.close());

  const near = async (lat: number, lon: number, radius: number): Promise<Map<string, number>> => {
    const rows = await database.db.query<{ id: string; metres: number }>(
      `SELECT id, geo_distance_m($1, $2, latitude, longitude) AS metres FROM devices
       WHERE place_near(latitude, longitude, $1, $2, $3)`,
      [lat, lon, radius],
    );
    return new Map(rows.map((row) => [row.id, row.metres]));
  };
  const inBox = async (...box: [number, number, number, number]): Promise<string[]> =>
    (
      await database.db.query<{ id: string }>(
        'SELECT id FROM devices WHERE place_in_box(latitude, longitude, $1, $2, $3, $4)',
        box,
      )
    )
      .map((row) => row.id)
      .sort();

  test.each([
    ['a city', 40.5, 179.9, 30_000],
    ['across the antimeridian', 40.5, -179.99, 60_000],
    ['on the antimeridian', 10, 180, 1],
    ['around the north pole', 89.9, 77, 150_000],
    ['a pole itself', 90, 0, 100_000],
    ['the south pole from beside it', -89.99, 10, 5_000],
    ['a hemisphere', 12, 34, 10_000_000],
    ['everything', -33, 151, 20_015_116],
    ['a radius beyond the antipode', 0, 0, 1e9],
    ['nothing at all', 0, 0, 0],
  ])('near finds exactly the devices within the radius: %s', async (_name, lat, lon, radius) => {
    const found = await near(lat, lon, radius);
    const wanted = [...places].filter(([, place]) => distance([lat, lon], place) <= radius).map(([id]) => id);
    expect([...found.keys()].sort()).toEqual(wanted.sort());
    for (const [id, metres] of found) {
      expect(metres).toBeCloseTo(distance([lat, lon], places.get(id) ?? [0, 0]), 1);
    }
  });

  test('near agrees with the definition for drawn circles of every size', async () => {
    const next = random(99);
    for (let n = 0; n < 60; n += 1) {
      const centre: [number, number] = [next() * 180 - 90, next() * 360 - 180];
      const radius = 10 ** (2 + next() * 5.3);
      const wanted = [...places].filter(([, place]) => distance(centre, place) <= radius).map(([id]) => id);
      expect([...(await near(...centre, radius)).keys()].sort()).toEqual(wanted.sort());
    }
  });

  test('a negative radius finds nothing', async () => {
    expect((await near(0, 0, -1)).size).toBe(0);
  });

  test('a box holds its limits, and crosses the antimeridian when west > east', async () => {
    const wanted = (keep: (lat: number, lon: number) => boolean): string[] =>
      [...places]
        .filter(([, [lat, lon]]) => keep(lat, lon))
        .map(([id]) => id)
        .sort();
    expect(await inBox(0, 0, 10, 10)).toEqual(wanted((lat, lon) => lat >= 0 && lat <= 10 && lon >= 0 && lon <= 10));
    expect(await inBox(179.7, 40, -179.8, 41)).toEqual(
      wanted((lat, lon) => lat >= 40 && lat <= 41 && (lon >= 179.7 || lon <= -179.8)),
    );
    expect(await inBox(-180, -90, 180, 90)).toEqual([...places.keys()].sort());
  });

  test('the meridians 180 and -180 are one, and a pole has every longitude', async () => {
    expect(await inBox(-180, 9.99, -179.99999, 10.01)).toEqual(
      expect.arrayContaining(['date-line-east', 'date-line-west']),
    );
    expect(await inBox(179.99999, 9.99, 180, 10.01)).toEqual(
      expect.arrayContaining(['date-line-east', 'date-line-west']),
    );
    expect(await inBox(100, 89.9999999, 100.0001, 90)).toEqual(['north-pole']);
  });
});
