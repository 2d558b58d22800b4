import { engines } from '@tocsin/testkit/engines';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { describeWith } from '@tocsin/testkit/needs';
import { startPostgres } from '@tocsin/testkit/postgres-server';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Log, LogRecord } from '../ports/log.ts';
import { migrate } from '../migrate.ts';
import { openDatabase } from '../pool.ts';
import { createLog } from './log.ts';
import { createWorkStore } from './readings.ts';
import { frame, logContract, sample } from './log.suite.ts';

describe.each(engines)('the log in PostgreSQL (%s)', (engine) => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.close());
  logContract(async () => {
    database = await openTestDatabase(engine);
    return { log: createLog(database.db), db: database.db };
  });
});

describe.each(engines)('the log in PostgreSQL with its tail remembered (%s)', (engine) => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.close());
  logContract(async () => {
    database = await openTestDatabase(engine);
    let log = createLog(database.db, { remember: true });
    await log.read(
      Array.from({ length: log.partitions }, (_, partition) => ({ partition, position: 0 })),
      1,
      1,
    );
    const read: Log['read'] = async (from, limit, maxBytes) => {
      const records = await log.read(from, limit, maxBytes);
      return records.map(({ epoch: _epoch, ...record }) => record);
    };
    // Nobody reads before the position but this contract; memory would still have what was trimmed.
    const { db } = database;
    const trim: Log['trim'] = async () => {
      const trimmed = await log.trim();
      log = createLog(db, { remember: true });
      return trimmed;
    };
    return { log: { ...log, read, trim }, db };
  });
});

describe('the log in PostgreSQL, stricter than the port', () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await openTestDatabase();
  });
  afterEach(() => database.close());

  test('ids are forgotten by the millisecond, and known until then however late they come again', async () => {
    const log = createLog(database.db);
    await log.append([
      { ...sample('a', 'old'), receivedAt: 1000 },
      { ...sample('a', 'new'), receivedAt: 3000 },
    ]);
    expect(await log.forget(2000)).toBe(1);
    expect(await log.append([sample('a', 'old'), sample('a', 'new')])).toEqual(['accepted', 'replay']);
  });

  test('frames are forgotten by whole half hours: none before an hour, all after two', async () => {
    const log = createLog(database.db);
    const minute = 60_000;
    const start = 1_700_000_000_000 - (1_700_000_000_000 % (120 * minute));
    const count = async (): Promise<number> =>
      (await database.db.query<{ n: number }>('SELECT count(*) AS n FROM frame_ids'))[0]?.n ?? -1;
    // Two a half hour for a day, upkeep every five minutes.
    for (let at = start, i = 0; at < start + 1440 * minute; at += 5 * minute) {
      const forgot = await log.forgetFrames(at);
      const kept = await count();
      if (i >= 8) expect(forgot).toBe(at % (30 * minute) === 5 * minute);
      if (at % (15 * minute) === 0) {
        await log.append([{ ...frame('a', `${i}`), receivedAt: at }]);
        i += 1;
      }
      expect(kept).toBeGreaterThanOrEqual(Math.min(i - 1, 4));
      expect(kept).toBeLessThanOrEqual(8);
    }
  });

  test('frames are not forgotten near the ends of a half hour, nor while a statement holds them', async () => {
    const log = createLog(database.db);
    const halfHour = 1_800_000;
    const start = 1_700_000_000_000 - (1_700_000_000_000 % halfHour);
    await log.append([{ ...frame('a', '1'), receivedAt: start - 3 * halfHour }]);
    expect(await log.forgetFrames(start + 60_000)).toBe(false);
    expect(await log.forgetFrames(start + halfHour - 60_000)).toBe(false);
    await database.db.transaction(async (sql) => {
      await sql.execute('SELECT FROM frame_ids');
      expect(await log.forgetFrames(start + 600_000)).toBe(false);
    });
    expect(await log.forgetFrames(start + 600_000)).toBe(true);
    expect(await log.forgetFrames(start + 600_000)).toBe(false);
  });

  test('an id is accepted once for the whole log, not only in its partition', async () => {
    const log = createLog(database.db);
    const sides = Array.from({ length: 8 }, (_, side) =>
      Array.from({ length: 40 }, (_unused, i) => sample(`d${(i * 7 + side) % 40}`, 'x', (i * 7 + side) % 16)),
    );
    const outcomes = (await Promise.all(sides.map((envelopes) => log.append(envelopes)))).flat();
    expect(outcomes.filter((outcome) => outcome === 'accepted')).toHaveLength(40);
    expect(outcomes.filter((outcome) => outcome === 'replay')).toHaveLength(280);
  });

  test('findings enter any partition in the caller’s transaction', async () => {
    const log = createLog(database.db);
    const finding = { partition: 5, kind: 'finding', receivedAt: 1, key: 'k', traceparent: null, body: '[]' } as const;
    await database.db.transaction((sql) => log.appendKeyed(sql, [finding, { ...finding, key: 'l' }]));
    const records = await log.read([{ partition: 5, position: 0 }], 10, 1e6);
    expect(records.map(({ offset, key }) => [offset, key])).toEqual([
      [1, 'k'],
      [2, 'l'],
    ]);
  });
});

describe('what a process remembers of the log', () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await openTestDatabase();
  });
  afterEach(() => database.close());
  const from = (position: number): { partition: number; position: number }[] => [{ partition: 3, position }];

  test('comes without asking the store, and equals what the store has', async () => {
    const log = createLog(database.db, { remember: true });
    await log.read(from(0), 10, 1e6);
    await log.append([sample('a', '1'), sample('b', '1'), sample('a', '1'), sample('c', '1', 4)]);
    await log.append([sample('b', '1'), sample('b', '2')]);
    const remembered = await log.read(from(0), 10, 1e6);
    const stored = await createLog(database.db).read(from(0), 10, 1e6);
    expect(remembered.map(({ epoch: _epoch, ...record }) => record)).toEqual(stored);
    expect(remembered.every(({ epoch }) => epoch !== undefined && epoch !== '')).toBe(true);
    await database.db.execute('DELETE FROM log_records');
    expect(await log.read(from(0), 10, 1e6)).toEqual(remembered);
  });

  test('what others append between makes no gap for the reader', async () => {
    const log = createLog(database.db, { remember: true });
    const other = createLog(database.db);
    await log.read(from(0), 10, 1e6);
    const seen: LogRecord[] = [];
    for (let round = 0; round < 6; round += 1) {
      await (round % 2 === 0 ? log : other).append([sample('a', `${round}`), sample('b', `${round}`)]);
      seen.push(...(await log.read(from(seen.length), 10, 1e6)));
    }
    expect(seen.map(({ offset }) => offset)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
  });

  test('its work is not committed in another life of the store', async () => {
    const log = createLog(database.db, { remember: true });
    const [lease] = await log.acquire('me', { among: [3], most: 1, ttlMs: 60_000, seize: true });
    if (lease === undefined) throw new Error('no lease');
    await log.append([sample('a', '1')]);
    const work = { rows: [], states: [], appended: [], now: 1 };
    const store = createWorkStore(database.db);
    const batch = { lease, position: 1, epoch: 'another' };
    expect(await store.commitPlain({ ...work, batches: [batch] })).toBe(false);
    expect(await database.db.transaction((sql) => log.advance(sql, [batch]))).toEqual([]);
  });
});

describeWith(['postgres15-postgis'], 'what a process remembers of the log of a server of its own', () => {
  test('is forgotten when that server was restarted, and nothing is kept where commits may be lost', async () => {
    const server = await startPostgres();
    const db = openDatabase(server.url);
    try {
      await migrate(db);
      const log = createLog(db, { remember: true });
      const from = [{ partition: 3, position: 0 }];
      await log.read(from, 10, 1e6);
      await log.append([sample('a', '1')]);
      await server.kill();
      await server.restart();
      // As after a failover to a copy that had not got the record yet, and another process was quicker.
      await vi.waitFor(() => db.execute('DELETE FROM log_records'), 10_000);
      await db.execute('UPDATE log_heads SET head = 0');
      await createLog(db).append([sample('other', '1')]);
      await log.state();
      expect((await log.read(from, 10, 1e6)).map(({ key }) => key)).toEqual(['other']);
      await db.execute('ALTER ROLE CURRENT_USER SET synchronous_commit = off');
      const hasty = openDatabase(server.url);
      const lossy = createLog(hasty, { remember: true });
      await lossy.read(from, 10, 1e6);
      await lossy.append([sample('b', '1')]);
      expect((await lossy.read(from, 10, 1e6)).map(({ epoch }) => epoch)).toEqual([undefined, undefined]);
      await hasty.close();
    } finally {
      await db.close();
      await server.stop();
    }
  });
});
