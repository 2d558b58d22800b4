import { engines } from '@tocsin/testkit/engines';
import { openTestDatabase } from '@tocsin/testkit/database';
import { describe, expect, test } from 'vitest';
import { dropReadingPartitions, ensureReadingPartitions } from './partitions.ts';

const NOON = Date.UTC(2031, 4, 31, 12);
const DAY = 86_400_000;

describe.each(engines)('day partitions of readings on %s', (engine) => {
  test('partitions reach from yesterday to the days ahead, and a second call makes none', async () => {
    const { db, close } = await openTestDatabase(engine);
    expect(await ensureReadingPartitions(db, NOON, 2)).toEqual([
      'readings_20310530',
      'readings_20310531',
      'readings_20310601',
      'readings_20310602',
    ]);
    expect(await ensureReadingPartitions(db, NOON, 2)).toEqual([]);
    await close();
  });

  test('a migrated database takes readings that arrive now', async () => {
    const { db, close } = await openTestDatabase(engine);
    expect(
      await db.execute(
        "INSERT INTO readings (received_at, at, device, envelope_id) VALUES (now_ms(), now_ms(), 1, 'e')",
      ),
    ).toBe(1);
    await close();
  });

  test('the last millisecond of a day and the first of the next go to their own partitions, with their indexes', async () => {
    const { db, close } = await openTestDatabase(engine);
    await ensureReadingPartitions(db, NOON, 1);
    const midnight = Date.UTC(2031, 5, 1);
    await db.execute(
      "INSERT INTO readings (received_at, at, device, envelope_id) VALUES ($1, 0, 1, 'a'), ($2, 0, 1, 'b')",
      [midnight - 1, midnight],
    );
    expect(
      await db.query('SELECT tableoid::regclass::text AS name, envelope_id FROM readings ORDER BY received_at'),
    ).toEqual([
      { name: 'readings_20310531', envelope_id: 'a' },
      { name: 'readings_20310601', envelope_id: 'b' },
    ]);
    const [row] = await db.query<{ attached: number }>(
      `SELECT count(*) AS attached FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
       WHERE x.indrelid = 'readings_20310601'::regclass`,
    );
    expect(row?.attached).toBe(3);
    await close();
  });

  test('eight at once make each partition once', async () => {
    const { db, close } = await openTestDatabase(engine);
    const made = await Promise.all(Array.from({ length: 8 }, () => ensureReadingPartitions(db, NOON, 4)));
    expect(made.flat().sort()).toHaveLength(6);
    await close();
  });

  test('only partitions that end before the limit are dropped', async () => {
    const { db, close } = await openTestDatabase(engine);
    await ensureReadingPartitions(db, Date.UTC(2001, 0, 5), 2);
    expect(await dropReadingPartitions(db, Date.UTC(2001, 0, 6) - 1)).toEqual(['readings_20010104']);
    expect(await dropReadingPartitions(db, Date.UTC(2001, 0, 6) + DAY)).toEqual([
      'readings_20010105',
      'readings_20010106',
    ]);
    await close();
  });

  test('a partition in use is left for the next time', async () => {
    const { db, close } = await openTestDatabase(engine);
    await ensureReadingPartitions(db, Date.UTC(2001, 0, 5), 0);
    await db.transaction(async (sql) => {
      await sql.query('SELECT * FROM readings_20010104');
      expect(await dropReadingPartitions(db, Date.UTC(2001, 0, 5))).toEqual([]);
    });
    expect(await dropReadingPartitions(db, Date.UTC(2001, 0, 5))).toEqual(['readings_20010104']);
    await close();
  });
});
