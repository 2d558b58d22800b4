import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { openTestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { describeWith } from '@tocsin/testkit/needs';
import { type PostgresServer, startPostgres } from '@tocsin/testkit/postgres-server';
import { type Proxy, startProxy } from '@tocsin/testkit/proxy';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
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

  test('a read-only database is "store-unavailable" to who writes and does not answer; it heals alone', async () => {
    const { db, other, url } = await open({ maxConnections: 2 });
    const write = (n: number): Promise<number> => db.execute(`INSERT INTO installation VALUES ($1, 'x')`, [`n${n}`]);
    await write(0);
    const name = new URL(url).pathname.slice(1);
    const become = async (state: 'on' | 'off'): Promise<void> => {
      await other.execute(`ALTER DATABASE ${name} SET default_transaction_read_only = ${state}`);
      await other.execute(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tocsin'`,
      );
    };
    await become('on');
    await expect.poll(() => write(1).catch((error: unknown) => error)).toMatchObject({ cause: { code: '25006' } });
    await expect(write(1)).rejects.toMatchObject(unavailable);
    expect(await db.query('SELECT name FROM installation')).toEqual([{ name: 'n0' }]);
    expect(await db.answers(5_000)).toBe(false);
    // Connections that are open stay read-only on the server's side; the pool must not keep them.
    await other.execute(`ALTER DATABASE ${name} SET default_transaction_read_only = off`);
    await expect.poll(() => write(2).catch(() => 0), { timeout: 10_000 }).toBe(1);
    expect(await db.answers(5_000)).toBe(true);
  });
});

describeWith(['postgres15-postgis'], 'a pool over TCP', () => {
  let postgres: PostgresServer;
  let proxy: Proxy;
  beforeAll(async () => {
    postgres = await startPostgres();
    proxy = await startProxy({ port: postgres.port });
    const db = openDatabase(postgres.url);
    await db.execute('CREATE TABLE things (name text PRIMARY KEY)');
    await db.close();
  });
  afterAll(async () => {
    await proxy?.stop();
    await postgres?.stop();
  });
  const quick: PoolOptions = { maxConnections: 4, statementTimeoutMs: 300, connectionTimeoutMs: 500 };

  test('on a half-open link every statement, transaction and COPY ends, and the pool heals', async () => {
    const db = openDatabase(proxy.urlFor(postgres.url), quick);
    const copy = (name: string): Promise<void> =>
      db.transaction((sql) =>
        sql.copyIn(
          'COPY things FROM STDIN',
          (function* () {
            yield `${name}-1\n`;
            proxy.halfOpen();
            yield `${name}-2\n`;
          })(),
        ),
      );
    const inside = (name: string): Promise<number> =>
      db.transaction(async (sql) => {
        await sql.execute('INSERT INTO things VALUES ($1)', [`${name}-1`]);
        proxy.halfOpen();
        return sql.execute('INSERT INTO things VALUES ($1)', [`${name}-2`]);
      });
    const alone = async (name: string): Promise<number> => {
      await db.query('SELECT 1');
      proxy.halfOpen();
      return db.execute('INSERT INTO things VALUES ($1)', [name]);
    };
    for (const work of [copy, inside, alone]) {
      await expect(work(`half-${work.name}`)).rejects.toMatchObject(unavailable);
      expect(await db.answers(200)).toBe(false);
      proxy.heal();
      expect(await db.query('SELECT count(*) AS n FROM things')).toEqual([{ n: 0 }]);
    }
    await db.close();
  });

  test('close ends on a half-open link, with connections idle and busy', async () => {
    const db = openDatabase(proxy.urlFor(postgres.url), quick);
    await Promise.all([db.query('SELECT 1'), db.query('SELECT 1'), db.answers(1_000)]);
    proxy.halfOpen();
    const busy = expect(db.query('SELECT 1')).rejects.toMatchObject(unavailable);
    await Promise.all([busy, db.close()]);
    proxy.heal();
  });

  test('a client that fell silent inside a transaction loses its locks', async () => {
    const silent = openDatabase(proxy.urlFor(postgres.url), { ...quick, idleInTransactionTimeoutMs: 500 });
    const other = openDatabase(postgres.url, { lockTimeoutMs: 30_000 });
    let proceed: (() => void) | undefined;
    const held = new Promise<void>((resolve) => {
      proceed = resolve;
    });
    const holding = silent.transaction(async (sql) => {
      await sql.execute('LOCK TABLE things');
      proxy.halfOpen();
      await held;
      await sql.execute(`INSERT INTO things VALUES ('late')`);
    });
    const ended = expect(holding).rejects.toMatchObject(unavailable);
    await expect.poll(() => proxy.connections()).toBeGreaterThan(0);
    expect(await other.query('SELECT name FROM things')).toEqual([]);
    proceed?.();
    await ended;
    proxy.heal();
    expect(await other.query('SELECT name FROM things')).toEqual([]);
    await Promise.all([silent.close(), other.close()]);
  });

  test('a URL may bring server options of its own, and they win', async () => {
    const url = new URL(postgres.url);
    url.searchParams.set('options', '-c tcp_keepalives_idle=77 -c work_mem=5MB');
    const db = openDatabase(url.href);
    const show = async (name: string): Promise<unknown> =>
      (await db.query<{ value: string }>('SELECT current_setting($1) AS value', [name]))[0]?.value;
    expect([await show('tcp_keepalives_idle'), await show('work_mem'), await show('tcp_user_timeout')]).toEqual([
      '77',
      '5MB',
      '10000',
    ]);
    await db.close();
  });
});
