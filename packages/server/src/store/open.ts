/**
 * Opens the store: the database at DATABASE_URL, or the private one in DATA_DIR; migrated before anyone uses it.
 *
 * Failure: the CodedErrors of `embedded.ts` and `migrate.ts`; `store-unavailable` when DATABASE_URL does not answer;
 * `store-unsuitable` when its PostgreSQL is older than 15.
 */
import { CodedError } from '../lib/coded-error.ts';
import { attachEmbedded, type Embedded, startEmbedded } from './embedded.ts';
import type { EmbeddedLog } from './embedded-process.ts';
import { migrate } from './migrate.ts';
import { type DatabaseConnection, openDatabase } from './pool.ts';
import type { Database } from './ports/database.ts';

/** Where the store is. */
export interface StoreOptions {
  /** Absent: a private PostgreSQL in `dataDir`. */
  readonly databaseUrl?: string | undefined;
  readonly dataDir: string;
  readonly log: EmbeddedLog;
  /** `command`: beside a running server (see `attachEmbedded`). Default `server`. */
  readonly as?: 'server' | 'command';
  /** Default 20. */
  readonly maxConnections?: number;
}

/** An open store. */
export interface Store {
  readonly db: Database;
  readonly engine: 'private' | 'external';
  /** What the operator should know; for the terminal. */
  readonly note?: string;
  /** Names of the migrations that this start applied. */
  readonly applied: readonly string[];
  /** Ends the pool, then the private PostgreSQL. Safe to call twice. */
  close(): Promise<void>;
}

/** Oldest PostgreSQL that the SQL is written for (`server_version_num`). */
const OLDEST_VERSION = 150_000;

/** Opens and migrates. */
export async function openStore(options: StoreOptions): Promise<Store> {
  if (options.databaseUrl !== undefined) {
    const applied = await prepare(options.databaseUrl);
    const db = openPool(options.databaseUrl, options);
    return { db, engine: 'external', applied, close: () => db.close() };
  }
  const begin = options.as === 'command' ? attachEmbedded : startEmbedded;
  const embedded = await begin({ dataDir: options.dataDir, log: options.log });
  try {
    const applied = await prepare(embedded.connection);
    return privateStore(embedded, openPool(embedded.connection, options), applied);
  } catch (error) {
    await embedded.stop();
    throw error;
  }
}

function privateStore(embedded: Embedded, db: Database, applied: readonly string[]): Store {
  let closed: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    try {
      await db.close();
    } finally {
      await embedded.stop();
    }
  };
  return {
    db,
    engine: 'private',
    applied,
    ...(embedded.note === undefined ? {} : { note: embedded.note }),
    close: () => {
      closed ??= end();
      return closed;
    },
  };
}

function openPool(connection: DatabaseConnection, options: StoreOptions): Database {
  return openDatabase(connection, { maxConnections: options.maxConnections ?? 20 });
}

/** Checks the version and migrates, over a connection without a statement timeout. */
async function prepare(connection: DatabaseConnection): Promise<readonly string[]> {
  const db = openDatabase(connection, { maxConnections: 1, statementTimeoutMs: 0, applicationName: 'tocsin-migrate' });
  try {
    const [row] = await db.query<{ version: number }>(`SELECT current_setting('server_version_num')::int AS version`);
    if (row === undefined || row.version < OLDEST_VERSION) {
      throw new CodedError('store-unsuitable', 'the database at DATABASE_URL is older than PostgreSQL 15');
    }
    return (await migrate(db)).applied;
  } finally {
    await db.close();
  }
}
