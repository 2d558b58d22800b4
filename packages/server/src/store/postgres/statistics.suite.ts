/** Statistics and rollups together, on one engine: what the rollups answer is what the raw readings would. */
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import type { Engine } from '@tocsin/testkit/engines';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { MEASURED_FIELDS } from '../../registry/statistics-fields.ts';
import { binOf, quantiles } from '../../lib/sketch.ts';
import { createStatistics, type Statistics, type StatisticsBucket } from '../../registry/statistics.ts';
import type { StatisticsAnswer, StatisticsBounds, StatisticsRange, StatisticsTarget } from '../ports/statistics.ts';
import { openDatabase } from '../pool.ts';
import { createRollupStore } from './rollups.ts';
import { DAY_MS, FIVE_MINUTES_MS } from './statistics-cover.ts';
import { createStatisticsStore } from './statistics.ts';

const HOUR = 3_600_000;
const TODAY = Math.floor(Date.now() / DAY_MS) * DAY_MS;
const END = 8.64e15;
const EXACT: StatisticsBounds = { exactReadings: 1e9, fineReadings: 1e9, buckets: 3000 };
const ROLLED: StatisticsBounds = { exactReadings: 0, fineReadings: 0, buckets: 3000 };

interface Reading {
  readonly receivedAt: number;
  readonly at: number;
  readonly device: number;
  readonly zone: number | null;
  readonly value: number | null;
  readonly fields?: Record<string, number | null>;
}

/** Runs the suite. */
export function statisticsSuite(engine: Engine): void {
  let database: TestDatabase;
  const numbers = new Map<string, number>();
  const number = (id: string): number => numbers.get(id) ?? -1;

  beforeAll(async () => {
    database = await openTestDatabase(engine);
    const { db } = database;
    for (const id of ['north', 'south', 'empty']) {
      const [row] = await db.query<{ number: number }>(
        'INSERT INTO zones (id, name, created_at) VALUES ($1, $1, 0) RETURNING number',
        [id],
      );
      numbers.set(id, row?.number ?? -1);
    }
    for (const [id, profile, zone] of [
      ['s1', 'seismic', 'north'],
      ['s2', 'seismic', 'south'],
      ['s3', 'seismic', null],
      ['h1', 'host', 'north'],
      ['m1', 'mobile', 'south'],
    ]) {
      const [row] = await db.query<{ number: number }>(
        `INSERT INTO devices (id, profile, zone_id, public_key, created_at, updated_at) VALUES ($1, $2, $3, '', 0, 0) RETURNING number`,
        [id, profile, zone],
      );
      numbers.set(id ?? '', row?.number ?? -1);
    }
  });

  beforeEach(async () => {
    const { db } = database;
    await db.execute('TRUNCATE readings, rollups, rollup_days, zone_devices');
    await db.execute('UPDATE rollup_state SET rolled_until = 0, kept_from = 0');
  });

  afterAll(() => database.close());

  async function store(readings: readonly Reading[]): Promise<void> {
    await database.db.execute(
      `INSERT INTO readings (received_at, at, device, zone, value, envelope_id, fields)
       SELECT received_at, at, device, zone, value, 'e', fields::jsonb
       FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::float8[], $6::text[]) AS t (received_at, at, device, zone, value, fields)`,
      [
        readings.map((r) => r.receivedAt),
        readings.map((r) => r.at),
        readings.map((r) => r.device),
        readings.map((r) => r.zone),
        readings.map((r) => r.value),
        readings.map((r) => (r.fields === undefined ? null : JSON.stringify(r.fields))),
      ],
    );
  }

  /** Rolls up all that was received before `until`. */
  async function rollUntil(until: number, stretchMs = DAY_MS): Promise<void> {
    const rollups = createRollupStore(database.db);
    for (;;) {
      const outcome = await rollups.roll(until, stretchMs, MEASURED_FIELDS);
      if (outcome.kind === 'busy' || outcome.until >= until) return;
    }
  }

  function targetOf(scope: 'device' | 'zone' | 'all', id: string, field: string | null): StatisticsTarget {
    const measured = MEASURED_FIELDS.find((candidate) => candidate.field === field) ?? null;
    return { scope, number: scope === 'all' ? 0 : number(id), field: measured };
  }

  async function read(
    target: StatisticsTarget,
    range: Partial<StatisticsRange> = {},
    bounds = ROLLED,
  ): Promise<StatisticsAnswer> {
    const all = { from: -END, to: END, width: null, ...range };
    const [answer] = await createStatisticsStore(database.db).read([target], all, bounds);
    if (answer === undefined) throw new Error('no answer');
    return answer;
  }

  function near(a: number, b: number, scale: number): boolean {
    return Math.abs(a - b) <= 1e-9 * Math.max(1e-9, scale);
  }

  function expectSame(rolled: StatisticsAnswer, raw: StatisticsAnswer): void {
    if (rolled.kind !== 'parts' || raw.kind !== 'parts') throw new Error(`${rolled.kind} and ${raw.kind}`);
    const shape = (answer: typeof rolled): unknown =>
      answer.parts.map(({ from, count, min, max, firstAt, lastAt }) => ({ from, count, min, max, firstAt, lastAt }));
    expect(shape(rolled)).toEqual(shape(raw));
    for (const [index, part] of rolled.parts.entries()) {
      const exact = raw.parts[index];
      if (exact === undefined || exact.distribution.kind !== 'exact') throw new Error('not exact');
      const scale = Math.max(Math.abs(exact.min), Math.abs(exact.max));
      expect(near(part.mean, exact.mean, scale)).toBe(true);
      // A deviation is the root of a difference, so it keeps half the digits where it is small against the values.
      expect(Math.abs(part.standardDeviation - exact.standardDeviation)).toBeLessThanOrEqual(1e-6 * scale);
      if (part.distribution.kind !== 'sketch') continue;
      const got = quantiles(part.distribution, [0.5, 0.95, 0.99], part.min, part.max) ?? [];
      for (const [at, value] of got.entries()) {
        expect(Math.abs(value - (exact.distribution.percentiles[at] ?? Number.NaN))).toBeLessThanOrEqual(
          0.0101 * scale,
        );
      }
    }
  }

  const PLACES = ['north', 'south', null] as const;
  const bucketEdge = fc.nat(2 * 288).map((n) => TODAY - DAY_MS + n * FIVE_MINUTES_MS);
  const time = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: TODAY + HOUR, max: TODAY + HOUR + 3 * FIVE_MINUTES_MS }) },
    fc.integer({ min: TODAY - DAY_MS, max: TODAY + DAY_MS }),
    bucketEdge,
    bucketEdge.map((edge) => edge - 1),
    fc.integer({ min: TODAY - 7 * DAY_MS, max: TODAY }),
  );
  const value = fc.oneof(
    fc.constant(0),
    fc.integer({ min: -50, max: 50 }),
    fc.double({ min: -1e6, max: 1e6, noNaN: true }),
  );
  const reading = fc
    .record({
      id: fc.constantFrom('s1', 's2', 's3', 'h1', 'm1'),
      place: fc.constantFrom(...PLACES),
      at: time,
      receivedAt: fc.integer({ min: TODAY, max: TODAY + 2 * HOUR }),
      value,
      load: fc.option(fc.integer({ min: 0, max: 100 })),
    })
    .map((r): Reading => {
      const { at, receivedAt } = r;
      const base = { receivedAt, at, device: number(r.id), zone: r.place === null ? null : number(r.place) };
      if (r.id === 'm1') return { ...base, value: null, fields: { overlay: r.value } };
      return r.id === 'h1'
        ? { ...base, value: r.load ?? 0, fields: { mem_percent: 5, gpu_percent: r.load } }
        : { ...base, value: r.value };
    });
  const target = fc
    .constantFrom(
      ['device', 's1', 'value'],
      ['device', 'h1', 'gpu_percent'],
      ['device', 'm1', 'overlay'],
      ['zone', 'north', 'value'],
      ['zone', 'south', 'cpu_percent'],
      ['all', '', 'value'],
      ['all', '', 'mem_percent'],
      ['all', '', null],
    )
    .map(([scope, id, field]) => targetOf(scope as 'device', id ?? '', field ?? null));

  describe('rollups', () => {
    test('statistics through rollups are those of the raw readings, for any split of arrival, range and bucket, late readings included', async () => {
      await fc.assert(
        fc
          .asyncProperty(
            fc.array(reading, { minLength: 1, maxLength: 60 }),
            fc.array(fc.integer({ min: TODAY, max: TODAY + 2 * HOUR + 1 }), { maxLength: 4 }),
            fc.array(
              fc.record({
                target,
                from: time,
                to: time,
                width: fc.constantFrom(null, FIVE_MINUTES_MS, 3 * HOUR, DAY_MS),
              }),
              {
                minLength: 3,
                maxLength: 3,
              },
            ),
            async (readings, splits, queries) => {
              await store(readings);
              for (const split of splits.toSorted((a, b) => a - b)) await rollUntil(split, HOUR / 2);
              for (const query of queries) {
                const from = Math.min(query.from, query.to);
                const to = Math.max(query.from, query.to);
                const range = { from, to, width: query.width };
                expectSame(await read(query.target, range, ROLLED), await read(query.target, range, EXACT));
              }
              const count = await read(targetOf('all', '', null));
              expect(count.kind === 'parts' && count.parts[0]?.count).toBe(readings.length);
            },
          )
          .afterEach(async () => {
            const { db } = database;
            await db.execute('TRUNCATE readings, rollups, rollup_days, zone_devices');
            await db.execute('UPDATE rollup_state SET rolled_until = 0, kept_from = 0');
          }),
        { numRuns: 30 },
      );
    }, 120_000);

    test('deviations merge across stretches, buckets and days as if all values lay side by side', async () => {
      const base = { device: number('s1'), zone: number('north') };
      const values = [1, 3, 100, 104, -50, 7, 7, 9000];
      await store(
        values.map((v, n) => ({
          ...base,
          receivedAt: TODAY + n,
          at: TODAY - DAY_MS * (n % 2) + (n % 3) * 60_000,
          value: v,
        })),
      );
      await store(
        values.map((v, n) => ({ ...base, receivedAt: TODAY + 100 + n, at: TODAY + 2 * HOUR + n * 1000, value: v * 3 })),
      );
      for (const until of [2, 3, 5, 8, 104, 200]) await rollUntil(TODAY + until);
      const all = [...values, ...values.map((v) => v * 3)];
      const mean = all.reduce((sum, v) => sum + v, 0) / all.length;
      const deviation = Math.sqrt(all.reduce((sum, v) => sum + (v - mean) ** 2, 0) / all.length);
      const answer = await read(targetOf('zone', 'north', 'value'), { from: TODAY - DAY_MS, to: TODAY + DAY_MS });
      const part = answer.kind === 'parts' ? answer.parts[0] : undefined;
      expect(part?.count).toBe(all.length);
      expect(part?.mean).toBeCloseTo(mean, 9);
      expect(part?.standardDeviation).toBeCloseTo(deviation, 8);
    });

    test('processes that roll at once count every reading once', async () => {
      const readings = Array.from({ length: 500 }, (_, n) => ({
        receivedAt: TODAY + n * 1000,
        at: TODAY + n * 1000,
        device: number('s1'),
        zone: number('north'),
        value: n,
      }));
      await store(readings);
      const others = await Promise.all([openAnother(), openAnother()]);
      const stores = [database.db, ...others.map((other) => other.db)].map((db) => createRollupStore(db));
      const end = TODAY + 500_000;
      await Promise.all(
        stores.map(async (rollups) => {
          for (let turn = 0; turn < 40; turn += 1) await rollups.roll(end, 20_000, MEASURED_FIELDS);
        }),
      );
      await Promise.all(others.map((other) => other.db.close()));
      await rollUntil(end);
      expect(await read(targetOf('device', 's1', 'value'))).toMatchObject({
        parts: [{ count: 500, mean: 249.5, min: 0, max: 499 }],
      });
      const [rolled] = await database.db.query<{ n: number }>(
        `SELECT sum(count)::bigint AS n FROM rollups WHERE scope = 'device'`,
      );
      expect(rolled?.n).toBe(500);
    });

    test('a reading that is not complete is not rolled up, and counts all the same', async () => {
      const base = { at: TODAY, device: number('s1'), zone: null, value: 1 };
      await store([
        { ...base, receivedAt: TODAY },
        { ...base, receivedAt: TODAY + 1 },
      ]);
      await rollUntil(TODAY + 1);
      const [row] = await database.db.query<{ n: number }>(
        `SELECT sum(count)::bigint AS n FROM rollups WHERE scope = 'device'`,
      );
      expect(row?.n).toBe(1);
      expect(await read(targetOf('device', 's1', 'value'))).toMatchObject({ parts: [{ count: 2 }] });
    });

    test('the block indexes of the newest readings can be brought up to date', async () => {
      const base = { device: number('s1'), zone: null, value: 1 };
      await store(Array.from({ length: 20_000 }, (_, n) => ({ ...base, receivedAt: TODAY + n, at: TODAY + n })));
      const { db } = database;
      await createRollupStore(db).indexNewest(TODAY - DAY_MS, TODAY + 1);
      const name = `readings_${new Date(TODAY).toISOString().slice(0, 10).replaceAll('-', '')}`;
      const [left] = await db.query<{ ranges: number }>(
        `SELECT sum(brin_summarize_new_values(indexrelid))::int AS ranges FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
         WHERE x.indrelid = $1::regclass AND i.relname LIKE '%at_idx%' AND i.relam = (SELECT oid FROM pg_am WHERE amname = 'brin')`,
        [name],
      );
      expect(left?.ranges).toBe(0);
    });

    test('a marker never goes back', async () => {
      await rollUntil(TODAY + HOUR);
      const rollups = createRollupStore(database.db);
      expect(await rollups.roll(TODAY, DAY_MS, MEASURED_FIELDS)).toEqual({
        kind: 'rolled',
        until: TODAY + HOUR,
        readings: 0,
      });
    });

    test('numbers at the ends of double precision stop neither rollups nor answers', async () => {
      const values = [1e308, 1e308, -1.7e308, 5e-324, -5e-324, 1.0000000000000002e-120, -1e-120, 1e-200, 3];
      await store(
        values.map((v, n) => ({
          receivedAt: TODAY + n,
          at: TODAY + n * 7 * FIVE_MINUTES_MS,
          device: number('s1'),
          zone: null,
          value: v,
        })),
      );
      for (let n = 1; n <= values.length; n += 1) await rollUntil(TODAY + n);
      for (const bounds of [ROLLED, EXACT]) {
        expect(await read(targetOf('device', 's1', 'value'), {}, bounds)).toMatchObject({
          parts: [{ count: 9, min: -1e120, max: 1e120 }],
        });
      }
    });

    test('the bins of the store are those that percentiles are read from', async () => {
      for (const v of [0, 1, -1, 9.81, -123.456, 1e-9, 1e120, -1e120]) {
        const [row] = await database.db.query<{ bin: number }>('SELECT rollup_bin($1) AS bin', [v]);
        expect(row?.bin).toBe(binOf(v));
      }
    });
  });

  async function openAnother(): Promise<{ db: TestDatabase['db'] }> {
    return { db: openDatabase(database.url) };
  }

  describe('retention', () => {
    test('readings that are not rolled up are not released', async () => {
      const rollups = createRollupStore(database.db);
      expect(await rollups.release(TODAY + 5 * DAY_MS)).toBe(0);
      await rollUntil(TODAY + HOUR);
      expect(await rollups.release(TODAY + 5 * DAY_MS)).toBe(TODAY);
      expect(await rollups.release(TODAY - DAY_MS)).toBe(TODAY);
    });

    test('dropped readings still count, to 5 minutes, and ranges that meet still add up', async () => {
      const base = { device: number('s1'), zone: number('north') };
      const old = Array.from({ length: 600 }, (_, n) => ({
        ...base,
        receivedAt: TODAY - DAY_MS + n,
        at: TODAY - 5 * DAY_MS + n * 7919,
        value: n % 10,
      }));
      const fresh = Array.from({ length: 100 }, (_, n) => ({
        ...base,
        receivedAt: TODAY + n,
        at: TODAY + HOUR + n * 7919,
        value: 50,
      }));
      await store([...old, ...fresh]);
      await rollUntil(TODAY + HOUR);
      const before = await read(targetOf('zone', 'north', 'value'), {}, EXACT);
      expect(await createRollupStore(database.db).release(TODAY)).toBe(TODAY);
      await database.db.execute('DELETE FROM readings WHERE received_at < $1', [TODAY]);
      expectSame(await read(targetOf('zone', 'north', 'value'), {}, EXACT), before);
      const count = async (from: number, to: number): Promise<number> => {
        const answer = await read(targetOf('zone', 'north', 'value'), { from, to }, EXACT);
        return answer.kind === 'parts' ? (answer.parts[0]?.count ?? 0) : -1;
      };
      for (const cut of [TODAY - 5 * DAY_MS + 1_234_567, TODAY - 5 * DAY_MS + 300_000, TODAY + HOUR + 123_456]) {
        expect((await count(-END, cut)) + (await count(cut, END))).toBe(700);
      }
      expect(await count(TODAY, END)).toBe(100);
      expect(await read(targetOf('zone', 'north', 'value'), { width: 60_000 }, { ...EXACT, buckets: 1e9 })).toEqual({
        kind: 'too-fine',
      });
    });
  });

  describe('the service', () => {
    const service = (bounds = EXACT): ReturnType<typeof createStatistics> =>
      createStatistics(createStatisticsStore(database.db), bounds);

    test('an answer is exact where readings are few', async () => {
      const base = { receivedAt: TODAY, device: number('s1'), zone: number('north') };
      await store([1, 2, 3, 4].map((v) => ({ ...base, at: TODAY + v, value: v })));
      expect(await service().device('s1', {})).toEqual({
        count: 4,
        mean: 2.5,
        min: 1,
        max: 4,
        standardDeviation: Math.sqrt(1.25),
        p50: 2.5,
        p95: 3.8499999999999996,
        p99: 3.9699999999999998,
        firstAt: TODAY + 1,
        lastAt: TODAY + 4,
      });
      expect(await service().device('s1', { from: TODAY + 2, to: TODAY + 4 })).toMatchObject({
        count: 2,
        min: 2,
        max: 3,
      });
    });

    test('nothing is 0 and nulls, with buckets an empty list', async () => {
      const nothing = {
        count: 0,
        mean: null,
        min: null,
        max: null,
        standardDeviation: null,
        p50: null,
        p95: null,
        p99: null,
        firstAt: null,
        lastAt: null,
      };
      expect(await service().device('m1', {})).toEqual(nothing);
      expect(await service().zone('empty', {})).toEqual(nothing);
      expect(await service().everything({})).toEqual(nothing);
      expect(await service().everything({ bucket: 60 })).toEqual([]);
    });

    test('everything counts the readings of all profiles and speaks of seismic values', async () => {
      const base = { receivedAt: TODAY, zone: null };
      await store([
        { ...base, at: TODAY + 10, device: number('m1'), value: null, fields: { overlay: 1 } },
        { ...base, at: TODAY + 20, device: number('s1'), value: 5 },
        { ...base, at: TODAY + 70_000, device: number('h1'), value: 50, fields: { cpu_percent: 50 } },
      ]);
      expect(await service().everything({})).toMatchObject({
        count: 3,
        mean: 5,
        max: 5,
        firstAt: TODAY + 10,
        lastAt: TODAY + 70_000,
      });
      expect(await service().everything({ field: 'cpu_percent' })).toMatchObject({ count: 1, mean: 50 });
      const buckets = (await service().everything({ bucket: 60 })) as StatisticsBucket[];
      expect(buckets.map(({ from, count, mean }) => ({ from, count, mean }))).toEqual([
        { from: TODAY, count: 2, mean: 5 },
        { from: TODAY + 60_000, count: 1, mean: null },
      ]);
    });

    test('a zone keeps the readings of a device that has moved on', async () => {
      await store([{ receivedAt: TODAY, at: TODAY, device: number('s3'), zone: number('south'), value: 9 }]);
      for (const bounds of [EXACT, ROLLED])
        expect(((await service(bounds).zone('south', { field: 'value' })) as Statistics).count).toBe(1);
      await rollUntil(TODAY + 1);
      for (const bounds of [EXACT, ROLLED])
        expect(((await service(bounds).zone('south', { field: 'value' })) as Statistics).count).toBe(1);
    });

    test.each([
      ['an unknown device', () => service().device('nobody', {}), 'not-found'],
      ['an unknown zone', () => service().zone('nowhere', {}), 'not-found'],
      ['a field of another profile', () => service().device('s1', { field: 'cpu_percent' }), 'malformed-parameter'],
      ['a field that no profile has', () => service().everything({ field: 'wat' }), 'malformed-parameter'],
      ['an end before the beginning', () => service().everything({ from: 2, to: 1 }), 'malformed-parameter'],
    ])('%s is refused', async (_name, ask, code) => {
      await expect(ask()).rejects.toMatchObject({ refusal: { code } });
    });

    test('more buckets than allowed, and fine buckets over too many readings, are refused', async () => {
      const base = { receivedAt: TODAY, device: number('s1'), zone: null, value: 1 };
      await store([
        { ...base, at: TODAY },
        { ...base, at: TODAY + 3000 * 1000 },
      ]);
      await expect(service().device('s1', { bucket: 1 })).rejects.toMatchObject({
        refusal: { code: 'malformed-parameter' },
      });
      expect(await service().device('s1', { bucket: 1, to: TODAY + 3000 * 1000 })).toHaveLength(1);
      const few = { ...ROLLED, fineReadings: 1 };
      await expect(service(few).device('s1', { bucket: 7 })).rejects.toMatchObject({
        refusal: { code: 'malformed-parameter' },
      });
      expect(await service(few).device('s1', { bucket: 600 })).toHaveLength(2);
    });
  });
}
