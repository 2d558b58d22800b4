import { engines } from '@tocsin/testkit/engines';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from './log.ts';
import { logContract, sample } from './log.suite.ts';

describe.each(engines)('the log in PostgreSQL (%s)', (engine) => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.close());
  logContract(async () => {
    database = await openTestDatabase(engine);
    return { log: createLog(database.db), db: database.db };
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
