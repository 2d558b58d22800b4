import { openDatabase } from '@tocsin/server/store/pool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWith } from './needs.ts';
import { type PostgresServer, startPostgres } from './postgres-server.ts';

describeWith(['postgres15-postgis'], 'a PostgreSQL of one test', () => {
  let postgres: PostgresServer;
  beforeAll(async () => {
    postgres = await startPostgres(['work_mem = 5MB']);
  });
  afterAll(() => postgres?.stop());

  test('is durable, has PostGIS, and takes settings', async () => {
    const db = openDatabase(postgres.url, { applicationName: 'test' });
    const [row] = await db.query(
      "SELECT current_setting('fsync') AS fsync, current_setting('work_mem') AS memory, current_setting('synchronous_commit') AS synchronous",
    );
    expect(row).toEqual({ fsync: 'on', memory: '5MB', synchronous: 'on' });
    await db.execute('CREATE EXTENSION postgis');
    await db.close();
  });

  test('refuses a wrong password', async () => {
    const url = new URL(postgres.url);
    url.password = 'wrong';
    const db = openDatabase(url.href, { applicationName: 'test' });
    await expect(db.query('SELECT 1')).rejects.toThrow();
    await db.close();
  });

  test('frozen it answers nothing, thawed it answers what was asked meanwhile', async () => {
    const db = openDatabase(postgres.url, { applicationName: 'test', maxConnections: 1 });
    await db.query('SELECT 1');
    postgres.freeze();
    let answered = false;
    const answer = db.query('SELECT 2 AS n').finally(() => {
      answered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(answered).toBe(false);
    postgres.thaw();
    expect(await answer).toEqual([{ n: 2 }]);
    await db.close();
  });

  test.each(['running', 'frozen'])('killed while %s it comes back with everything that was committed', async (how) => {
    const before = openDatabase(postgres.url, { applicationName: 'test' });
    await before.execute(`CREATE TABLE ${how} AS SELECT 1 AS n`);
    if (how === 'frozen') postgres.freeze();
    const pid = postgres.pid();
    await postgres.kill();
    await expect(before.query('SELECT 1')).rejects.toThrow();
    await before.close();
    await postgres.restart();
    expect(postgres.pid()).not.toBe(pid);
    const db = openDatabase(postgres.url, { applicationName: 'test' });
    expect(await db.query(`SELECT n FROM ${how}`)).toEqual([{ n: 1 }]);
    await db.close();
  });
});
