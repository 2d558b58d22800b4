import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ReadingRow } from '../ports/readings.ts';
import { createLiveReadings } from './live.ts';
import { createWorkStore } from './readings.ts';

const HOSTS = ['h1', 'h2', 'h3'];

describe.each(engines)('the last readings of hosts on %s', (engine) => {
  let database: TestDatabase;
  let now: number;
  const numbers = new Map<string, number>();

  beforeAll(async () => {
    database = await openTestDatabase({ engine });
    now = Date.now();
    for (const [id, profile] of [
      ...HOSTS.map((host) => [host, 'host'] as const),
      ['s1', 'seismic'],
      ['m1', 'mobile'],
    ]) {
      const [row] = await database.db.query<{ number: number }>(
        `INSERT INTO devices (id, profile, public_key, created_at, updated_at)
         VALUES ($1, $2, '\\x00', 0, 0) RETURNING number`,
        [id, profile],
      );
      numbers.set(id, row?.number ?? 0);
    }
  });
  afterAll(async () => {
    await database.close();
  });

  const reading = (id: string, receivedAt: number, at: number, cpu: number | null): ReadingRow => ({
    ...{ receivedAt, at, device: numbers.get(id) ?? 0, zone: null, value: cpu, envelopeId: `e${receivedAt}-${at}` },
    fields: cpu === null ? null : { cpu_percent: cpu, mem_percent: 2, disk_percent: 3, gpu_percent: null },
  });

  test('are one for each host that was heard after a time, the one that arrived last, and never those of other profiles', async () => {
    const store = createWorkStore(database.db);
    await database.db.transaction((sql) =>
      store.insertReadings(sql, [
        reading('h1', now - 1000, now, 1),
        reading('h1', now - 500, now - 90_000, 2),
        reading('h1', now - 500, now - 80_000, 3),
        reading('h2', now - 29_999, now - 29_999, 4),
        reading('h3', now - 30_000, now, 5),
        reading('s1', now - 10, now, null),
        reading('s1', now - 10, now, 6),
        reading('m1', now - 10, now, 7),
      ]),
    );
    const live = createLiveReadings(database.db);
    const fields = { cpu_percent: 3, mem_percent: 2, disk_percent: 3, gpu_percent: null };
    expect(await live.newest(now - 30_000, 10)).toEqual([
      { deviceId: 'h1', receivedAt: now - 500, at: now - 80_000, fields },
      { deviceId: 'h2', receivedAt: now - 29_999, at: now - 29_999, fields: { ...fields, cpu_percent: 4 } },
    ]);
    expect((await live.newest(now - 60_000, 2)).map(({ deviceId }) => deviceId)).toEqual(['h1', 'h2']);
    expect(await live.newest(now, 10)).toEqual([]);
  });
});
