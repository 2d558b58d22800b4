import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { openTestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openDatabase, type PoolOptions } from './pool.ts';
import type { Database } from './ports/database.ts';

const unavailable = { code: 'store-unavailable' };

describe.each(engines)('a pool on %s', (engine) => {
  async function open(options: PoolOptions = {}): Promise<{ db: Database; other: Database; url: string }> {
    const { db: other, url, close } = await openTestDatabase(engine);
    const db = openDatabase(url, options);
    onTestFinished(async () => {
      await db.close();
      await close();
    });
    return { db, other, url };
  }

  test('bigint arrives as a number, alone and in arrays, and bytea as a Buffer', async () => {
    const { db } = await open();
    expect(
      await db.query(
        `SELECT 5::bigint AS a, ARRAY[1, NULL, 3]::bigint[] AS b, count(*) AS c, '\\x0102'::bytea AS d FROM zones`,
      ),
    ).toEqual([{ a: 5, b: [1, null, 3], c: 0, d: Buffer.from([1, 2]) }]);
  });

  test('a named statement is prepared once for each connection', async () => {
    const { db } = await open({ maxConnections: 1 });
    for (let n = 0; n < 3; n += 1) expect(await db.query('SELECT $1::int AS n', [n], 'echo')).toEqual([{ n }]);
    expect(await db.query(`SELECT name FROM pg_prepared_statements`)).toEqual([{ name: 'echo' }]);
  });

  test('a wrong statement says so by its own code, and its connection is used again', async () => {
    const { db } = await open({ maxConnections: 1 });
    const backend = 'SELECT pg_backend_pid() AS pid';
    const before = await db.query(backend);
    await expect(db.query('SELECT 1 / 0')).rejects.toMatchObject({ code: '22012' });
    await expect(db.transaction((sql) => sql.query('SELECT 1 / 0'))).rejects.toMatchObject({ code: '22012' });
    expect(await db.query(backend)).toEqual(before);
  });

  test('a transaction whose work rejects leaves nothing behind', async () => {
    const { db } = await open();
    const failing = db.transaction(async (sql) => {
      await sql.execute(`INSERT INTO installation VALUES ('a', 'b')`);
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect(await db.query('SELECT * FROM installation')).toEqual([]);
  });

  test('a transaction that swallowed an error never looks committed', async () => {
    const { db } = await open();
    const swallowing = db.transaction(async (sql) => {
      await sql.execute(`INSERT INTO installation VALUES ('a', 'b')`);
      await sql.query('SELECT 1 / 0').catch(() => undefined);
    });
    await expect(swallowing).rejects.toMatchObject({ code: 'transaction-aborted' });
  });

  test('statements that a transaction begins together run one after the other before COMMIT', async () => {
    const { db } = await open();
    await db.transaction(async (sql) => {
      await Promise.all(['a', 'b', 'c'].map((name) => sql.execute('INSERT INTO installation VALUES ($1, $1)', [name])));
    });
    expect(await db.query('SELECT count(*) AS n FROM installation')).toEqual([{ n: 3 }]);
  });

  test('COPY takes many chunks, and a failing one leaves nothing and a good connection', async () => {
    const { db } = await open({ maxConnections: 1 });
    function* rows(count: number): Generator<string> {
      for (let n = 0; n < count; n += 1) yield `name${n}\tvalue${n}\n`;
    }
    const text = 'COPY installation (name, value) FROM STDIN';
    await db.transaction((sql) => sql.copyIn(text, rows(50_000)));
    expect(await db.query('SELECT count(*) AS n FROM installation')).toEqual([{ n: 50_000 }]);
    await expect(db.transaction((sql) => sql.copyIn(text, ['name1\tagain\n']))).rejects.toMatchObject({
      code: '23505',
    });
    const broken = db.transaction((sql) =>
      sql.copyIn(
        text,
        (function* () {
          yield 'x\ty\n';
          throw new Error('the source ended early');
        })(),
      ),
    );
    await expect(broken).rejects.toThrow('the source ended early');
    expect(await db.query('SELECT count(*) AS n FROM installation')).toEqual([{ n: 50_000 }]);
  });

  test('a connection that is lost in the middle of a COPY is "store-unavailable", like everywhere else', async () => {
    const { db, other } = await open();
    const copying = db.transaction(async (sql) => {
      const [own] = await sql.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await sql.copyIn(
        'COPY installation (name, value) FROM STDIN',
        (function* () {
          void other.query('SELECT pg_terminate_backend($1)', [own?.pid]);
          for (let n = 0; n < 3_000_000; n += 1) yield `name${n}\tvalue${n}\n`;
        })(),
      );
    });
    await expect(copying).rejects.toMatchObject({ code: 'store-unavailable' });
  });

  test('a statement over its time, a lock over its time and a full pool are "store-unavailable"', async () => {
    const { db, other } = await open({
      maxConnections: 1,
      statementTimeoutMs: 300,
      lockTimeoutMs: 100,
      connectionTimeoutMs: 100,
    });
    await expect(db.query('SELECT pg_sleep(10)')).rejects.toMatchObject(unavailable);
    await other.transaction(async (sql) => {
      await sql.execute('LOCK TABLE installation');
      await expect(db.execute(`INSERT INTO installation VALUES ('a', 'b')`)).rejects.toMatchObject(unavailable);
    });
    await db.transaction(async () => {
      await expect(db.query('SELECT 1')).rejects.toMatchObject(unavailable);
    });
    expect(await db.query('SELECT 1 AS n')).toEqual([{ n: 1 }]);
  });

  test('connections that the server ends, idle or busy, are replaced', async () => {
    const { db, other } = await open({ maxConnections: 3 });
    const busy = expect(db.query('SELECT pg_sleep(10)')).rejects.toMatchObject(unavailable);
    const inside = expect(
      db.transaction(async (sql) => {
        await sql.query('SELECT 1');
        // The busy one has to be busy: its connection may still be opening.
        const sleeping = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tocsin'
           AND state = 'active' AND query = 'SELECT pg_sleep(10)'`;
        await expect.poll(async () => (await other.query(sleeping)).length, { timeout: 8_000 }).toBe(1);
        await other.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'tocsin'`,
        );
        await sql.query('SELECT 2');
      }),
    ).rejects.toMatchObject(unavailable);
    await Promise.all([busy, inside]);
    expect(await db.query('SELECT 1 AS n')).toEqual([{ n: 1 }]);
  });

  test('a server that is gone is "store-unavailable", and does not answer', async () => {
    const db = openDatabase('postgres://nobody@localhost/none?host=/nowhere');
    await expect(db.query('SELECT 1')).rejects.toMatchObject(unavailable);
    expect(await db.answers(1_000)).toBe(false);
    await db.close();
    await expect(db.query('SELECT 1')).rejects.toMatchObject(unavailable);
  });

  test('a server that falls silent fails statements in bounded time, and answers says no in its own', async () => {
    const { url } = await open();
    const sockets = new Set<Socket>();
    let silent = false;
    const proxy = createServer((near) => {
      const far = connect(join(new URL(url).searchParams.get('host') ?? '', '.s.PGSQL.5432'));
      for (const socket of [near, far]) sockets.add(socket.on('error', () => undefined));
      near.on('data', (data) => silent || far.write(data));
      far.on('data', (data) => silent || near.write(data));
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const address = proxy.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const db = openDatabase(
      {
        host: '127.0.0.1',
        port: address.port,
        user: 'postgres',
        password: '',
        database: new URL(url).pathname.slice(1),
      },
      { statementTimeoutMs: 100, connectionTimeoutMs: 500 },
    );
    expect(await db.answers(5_000)).toBe(true);
    expect(await db.query('SELECT 1 AS n')).toEqual([{ n: 1 }]);
    silent = true;
    expect(await db.answers(50)).toBe(false);
    await expect(db.query('SELECT 1')).rejects.toMatchObject(unavailable);
    silent = false;
    expect(await db.answers(5_000)).toBe(true);
    expect(await db.query('SELECT 1 AS n')).toEqual([{ n: 1 }]);
    await db.close();
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });

  test('answers says yes while every connection of the pool is busy', async () => {
    const { db } = await open({ maxConnections: 1 });
    await db.transaction(async () => {
      expect(await db.answers(5_000)).toBe(true);
    });
  });
});
