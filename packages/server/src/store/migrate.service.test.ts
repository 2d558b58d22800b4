import { createHash } from 'node:crypto';
import { openTestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { describe, expect, test } from 'vitest';
import { type Migration, migrate, nextMigration, readMigrations } from './migrate.ts';
import { openDatabase } from './pool.ts';

function migration(name: string, text: string): Migration {
  return { name, text, hash: createHash('sha256').update(text).digest('hex') };
}
const one = migration('0001_one.sql', 'CREATE TABLE one (n int); INSERT INTO one VALUES (1);');
const two = migration('0002_two.sql', 'CREATE TABLE two (n int);');

test('the next migration is the first that the database lacks', () => {
  expect(nextMigration([], [one, two])).toBe(one);
  expect(nextMigration([one], [one, two])).toBe(two);
  expect(nextMigration([one, two], [one, two])).toBeUndefined();
});

describe.each(engines)('migrations on %s', (engine) => {
  test('eight migrators at once apply each file of this code exactly once', async () => {
    const { url, close } = await openTestDatabase({ engine, migrated: false });
    const pools = Array.from({ length: 8 }, () => openDatabase(url, { maxConnections: 1, statementTimeoutMs: 0 }));
    const results = await Promise.all(pools.map((db) => migrate(db)));
    expect(results.flatMap(({ applied }) => applied).sort()).toEqual((await readMigrations()).map(({ name }) => name));
    for (const db of pools) await db.close();
    await close();
  });

  test('a second run applies nothing', async () => {
    const { db, close } = await openTestDatabase(engine);
    expect(await migrate(db)).toEqual({ applied: [] });
    await close();
  });

  test('a file that was changed after it had been applied is refused by its name', async () => {
    const { db, close } = await openTestDatabase({ engine, migrated: false });
    await migrate(db, [one]);
    await expect(migrate(db, [migration(one.name, `${one.text} `), two])).rejects.toMatchObject({
      code: 'migration-changed',
      message: expect.stringContaining(one.name) as unknown,
    });
    expect(await db.query(`SELECT to_regclass('two') AS two`)).toEqual([{ two: null }]);
    await close();
  });

  test('a database that knows more than this code is refused', async () => {
    const { db, close } = await openTestDatabase({ engine, migrated: false });
    await migrate(db, [one, two]);
    await expect(migrate(db, [one])).rejects.toMatchObject({ code: 'schema-newer' });
    await close();
  });

  test('a failing file is named and leaves nothing; those before it stay', async () => {
    const { db, close } = await openTestDatabase({ engine, migrated: false });
    const bad = migration('0002_bad.sql', 'CREATE TABLE half (n int); SELECT 1 / 0;');
    await expect(migrate(db, [one, bad])).rejects.toMatchObject({
      code: 'migration-failed',
      message: expect.stringContaining('0002_bad.sql') as unknown,
    });
    expect(await db.query(`SELECT to_regclass('half') AS half, n FROM one`)).toEqual([{ half: null, n: 1 }]);
    expect((await migrate(db, [one, two])).applied).toEqual(['0002_two.sql']);
    await close();
  });
});
