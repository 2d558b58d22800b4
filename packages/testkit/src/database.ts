/**
 * Databases for tests: fresh, migrated, each its own, in a cluster that this process shares.
 *
 * The cluster starts with the first call; a template is migrated once, every database is a copy of it.
 */
import { randomBytes } from 'node:crypto';
import { migrate, readMigrations } from '@tocsin/server/store/migrate';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { type Cluster, startCluster } from './clusters.ts';
import { type Engine, engines } from './engines.ts';

/** A database of one test, or of one file of tests. */
export interface TestDatabase {
  readonly db: Database;
  /** For a second pool, or a server of its own: `postgres://…?host=<socket folder>`. */
  readonly url: string;
  /** Ends the pool and drops the database. */
  close(): Promise<void>;
}

/** How a test database is made. */
export interface TestDatabaseOptions {
  /** Default: the first engine of this machine (`private`). */
  readonly engine?: Engine;
  /** False: empty, for tests of the migrations themselves. Default true. */
  readonly migrated?: boolean;
}

interface Shared {
  readonly cluster: Cluster;
  readonly admin: Database;
  readonly template: string;
}

const shared = new Map<Engine, Promise<Shared>>();

/** Opens a fresh database. Rejects when the machine has no engine at all. */
export async function openTestDatabase(wanted: Engine | TestDatabaseOptions = {}): Promise<TestDatabase> {
  const options = typeof wanted === 'string' ? { engine: wanted } : wanted;
  const engine = options.engine ?? engines[0];
  if (engine === undefined) throw new Error('no PostgreSQL for tests: run npm install');
  const { cluster, admin, template } = await share(engine);
  const name = `test_${randomBytes(8).toString('hex')}`;
  await admin.execute(`CREATE DATABASE ${name} TEMPLATE ${options.migrated === false ? 'template0' : template}`);
  const url = cluster.url(name);
  const db = openDatabase(url, { applicationName: 'tocsin-test' });
  return {
    db,
    url,
    close: async () => {
      await db.close();
      await admin.execute(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    },
  };
}

function share(engine: Engine): Promise<Shared> {
  let found = shared.get(engine);
  if (found === undefined) {
    found = begin(engine);
    shared.set(engine, found);
  }
  return found;
}

async function begin(engine: Engine): Promise<Shared> {
  const cluster = await startCluster(engine);
  const admin = openDatabase(cluster.url('postgres'), { maxConnections: 2, statementTimeoutMs: 60_000 });
  const template = 'tocsin_template';
  await admin.execute(`CREATE DATABASE ${template}`);
  const db = openDatabase(cluster.url(template), { maxConnections: 1, statementTimeoutMs: 60_000 });
  await migrate(db, await readMigrations());
  await db.close();
  return { cluster, admin, template };
}
