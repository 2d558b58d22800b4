/**
 * Opens the store: the database at DATABASE_URL, or the private one in DATA_DIR; migrated before anyone uses it.
 *
 * A server waits {@link PATIENCE_MS} for a database that is away, starting up, full or a standby, and says so once; a
 * command does not wait.
 * Failure: the CodedErrors of `embedded.ts`, `suitable.ts` and `migrate.ts`; `store-unavailable` when DATABASE_URL does
 * not answer in time; `store-unsuitable` when its role may not make tables. None of them holds the URL.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError } from '../lib/coded-error.ts';
import { attachEmbedded, type Embedded, startEmbedded } from './embedded.ts';
import type { EmbeddedLog } from './embedded-process.ts';
import { migrate } from './migrate.ts';
import { type DatabaseConnection, openDatabase, type PoolOptions } from './pool.ts';
import type { Database } from './ports/database.ts';
import { geographyNote, makeSuitable } from './suitable.ts';

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
  /** How long a database that is away is waited for, ms. Default {@link PATIENCE_MS} for a server, 0 for a command. */
  readonly patienceMs?: number;
  /** Ends that wait. */
  readonly signal?: AbortSignal | undefined;
}

/** An open store. */
export interface Store {
  /** For the way of an alarm: log, workers, ledger, channels, devices. */
  readonly db: Database;
  /** For people's questions (lists, statistics, sign-in): connections of its own, so that none waits before an alarm. */
  readonly front: Database;
  /** For work that nobody waits for and that may take long: partitions, retention, rollups. */
  readonly upkeep: Database;
  readonly engine: 'private' | 'external';
  /** What the operator should know; for the terminal. */
  readonly note?: string;
  /** Names of the migrations that this start applied. */
  readonly applied: readonly string[];
  /** Ends the pool, then the private PostgreSQL. Safe to call twice. */
  close(): Promise<void>;
}

/** How long a server waits for its database at the start; an orchestrator starts it again after that. */
const PATIENCE_MS = 30_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_000;
/** SQLSTATE insufficient_privilege. */
const INSUFFICIENT_PRIVILEGE = '42501';
/** Nothing of a migration takes longer; another migrator is waited for as long. */
const MIGRATION_MS = 1_800_000;

/**
 * The way of an alarm. A statement that has not ended after this is of no use to anybody any more, and a process that
 * fell silent inside a transaction must not hold the locks of heads and channels for longer than a lease.
 */
const ALARMS: PoolOptions = { statementTimeoutMs: 6_000, idleInTransactionTimeoutMs: 3_000 };
const FRONT: PoolOptions = { maxConnections: 10, applicationName: 'tocsin-front' };
const UPKEEP: PoolOptions = { maxConnections: 2, statementTimeoutMs: 30_000, applicationName: 'tocsin-upkeep' };

/** Opens and migrates. */
export async function openStore(options: StoreOptions): Promise<Store> {
  if (options.databaseUrl !== undefined) {
    return openExternal(options.databaseUrl, options);
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

async function openExternal(url: string, options: StoreOptions): Promise<Store> {
  const { applied, note } = await patiently(options, async () => {
    await withPool(url, {}, makeSuitable);
    return { applied: await prepare(url), note: await withPool(url, {}, geographyNote) };
  });
  const pools = openPools(url, options);
  return {
    ...pools,
    engine: 'external',
    applied,
    ...(note === undefined ? {} : { note }),
    close: () => closePools(pools),
  };
}

/** Tries again while the store is away, with a growing pause (full jitter), until the patience ends. */
async function patiently<Result>(options: StoreOptions, work: () => Promise<Result>): Promise<Result> {
  const patience = options.patienceMs ?? (options.as === 'command' ? 0 : PATIENCE_MS);
  const begin = performance.now();
  for (let most = FIRST_PAUSE_MS; ; most = Math.min(most * 2, LONGEST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'store-unavailable') throw error;
      if (performance.now() - begin >= patience || options.signal?.aborted === true) throw error;
      if (most === FIRST_PAUSE_MS) {
        options.log.warn({ reason: error.message, seconds: patience / 1000 }, 'waiting for the database');
      }
    }
    // Woken by the signal it tries once more, and then gives up.
    await pause(FIRST_PAUSE_MS / 2 + Math.random() * most, undefined, { signal: options.signal }).catch(
      () => undefined,
    );
  }
}

type Pools = Pick<Store, 'db' | 'front' | 'upkeep'>;

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
    db: openDatabase(connection, { ...ALARMS, maxConnections: options.maxConnections ?? 20 }),
    front: openDatabase(connection, FRONT),
    upkeep: openDatabase(connection, UPKEEP),
  };
}

async function closePools({ db, front, upkeep }: Pools): Promise<void> {
  await Promise.all([db.close(), front.close(), upkeep.close()]);
}

/** Migrates, over a connection of its own. */
async function prepare(connection: DatabaseConnection): Promise<readonly string[]> {
  const options = { statementTimeoutMs: MIGRATION_MS, applicationName: 'tocsin-migrate' };
  try {
    return (await withPool(connection, options, migrate)).applied;
  } catch (error) {
    const cause = error instanceof CodedError ? error.cause : error;
    if (!(cause instanceof Error) || !('code' in cause) || cause.code !== INSUFFICIENT_PRIVILEGE) throw error;
    const detail = `the role of the database must own it or be granted CREATE on its schema: ${cause.message}`;
    throw new CodedError('store-unsuitable', detail, { cause });
  }
}

async function withPool<Result>(
  connection: DatabaseConnection,
  options: PoolOptions,
  work: (db: Database) => Promise<Result>,
): Promise<Result> {
  const db = openDatabase(connection, { ...options, maxConnections: 1 });
  try {
    return await work(db);
  } finally {
    await db.close();
  }
}
