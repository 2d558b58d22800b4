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
  /** Of `db`. Default 20. */
  readonly maxConnections?: number;
}

/** An open store. */
export interface Store {
  /** For the way of an alarm: log, workers, ledger, channels, devices. */
  readonly db: Database;
  /** For people's questions (lists, statistics, sign-in): connections of its own, so that none waits before an alarm. */
  readonly front: Database;
  readonly engine: 'private' | 'external';
  /** What the operator should know; for the terminal. */
  readonly note?: string;
  /** Names of the migrations that this start applied. */
  readonly applied: readonly string[];
  /** Ends the pool, then the private PostgreSQL. Safe to call twice. */
  close(): Promise<void>;
}

const FRONT_CONNECTIONS = 10;

/** Oldest PostgreSQL that the SQL is written for (`server_version_num`). */
const OLDEST_VERSION = 150_000;

/** Opens and migrates. */
export async function openStore(options: StoreOptions): Promise<Store> {
  if (options.databaseUrl !== undefined) {
    const applied = await prepare(options.databaseUrl);
    const pools = openPools(options.databaseUrl, options);
    return { ...pools, engine: 'external', applied, close: () => closePools(pools) };
  }
  const begin = options.as === 'command' ? attachEmbedded : startEmbedded;
  const embedded = await begin({ dataDir: options.dataDir, log: options.log });
  try {
    const applied = await prepare(embedded.connection);
    return privateStore(embedded, openPools(embedded.connection, options), applied);
  } catch (error) {
    await embedded.stop();
    throw error;
  }
}

type Pools = Pick<Store, 'db' | 'front'>;

function privateStore(embedded: Embedded, pools: Pools, applied: readonly string[]): Store {
  let closed: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    try {
      await closePools(pools);
    } finally {
      await embedded.stop();
    }
  };
  return {
    ...pools,
    engine: 'private',
    applied,
    ...(embedded.note === undefined ? {} : { note: embedded.note }),
    close: () => {
      closed ??= end();
      return closed;
    },
  };
}

function openPools(connection: DatabaseConnection, options: StoreOptions): Pools {
  return {
    db: openDatabase(connection, { maxConnections: options.maxConnections ?? 20 }),
    front: openDatabase(connection, { maxConnections: FRONT_CONNECTIONS, applicationName: 'tocsin-front' }),
  };
}

async function closePools({ db, front }: Pools): Promise<void> {
  await Promise.all([db.close(), front.close()]);
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
