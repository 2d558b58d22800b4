/**
 * Databases for tests: fresh, migrated, each its own, in a cluster that the whole run shares (`cluster-service.ts`).
 *
 * The cluster starts with the first call; a template is migrated once, every database is a copy of it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { migrate, readMigrations } from '@tocsin/server/store/migrate';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { obtainCluster } from './cluster-service.ts';
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
  readonly urlOf: (database: string) => string;
  readonly admin: Database;
  readonly template: string;
}

const shared = new Map<Engine, Promise<Shared>>();

/** Opens a fresh database. Rejects when the machine has no engine at all. */
export async function openTestDatabase(wanted: Engine | TestDatabaseOptions = {}): Promise<TestDatabase> {
  const options = typeof wanted === 'string' ? { engine: wanted } : wanted;
  const engine = options.engine ?? engines[0];
  if (engine === undefined) throw new Error('no PostgreSQL for tests: run npm install');
  const { urlOf, admin, template } = await share(engine);
  const name = `test_${randomBytes(8).toString('hex')}`;
  await admin.execute(`CREATE DATABASE ${name} TEMPLATE ${options.migrated === false ? 'template0' : template}`);
  const url = urlOf(name);
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
  const urlOf = await obtainCluster(engine);
  const patient = {
    statementTimeoutMs: 0,
    lockTimeoutMs: 0,
    idleInTransactionTimeoutMs: 0,
    applicationName: 'testkit',
  };
  const admin = openDatabase(urlOf('postgres'), { ...patient, maxConnections: 4 });
  const migrations = await readMigrations();
  const digest = createHash('sha256').update(migrations.map(({ hash }) => hash).join());
  const template = `template_${digest.digest('hex').slice(0, 16)}`;
  // One process makes the template, the others wait; CREATE DATABASE itself cannot be in the transaction.
  await admin.transaction(async (sql) => {
    await sql.query('SELECT pg_advisory_xact_lock(1)');
    if ((await sql.query('SELECT FROM pg_database WHERE datname = $1', [template])).length > 0) return;
    const half = `half_${randomBytes(8).toString('hex')}`;
    await admin.execute(`CREATE DATABASE ${half}`);
    const db = openDatabase(urlOf(half), { ...patient, maxConnections: 1 });
    try {
      await migrate(db, migrations);
    } finally {
      await db.close();
    }
    await admin.execute(`ALTER DATABASE ${half} RENAME TO ${template}`);
  });
  return { urlOf, admin, template };
}
