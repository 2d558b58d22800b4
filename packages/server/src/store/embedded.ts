/**
 * The private PostgreSQL: started by the server in DATA_DIR when there is no DATABASE_URL.
 *
 * Guarantees: durable (fsync on); one owner for each DATA_DIR at a time; an orphan of a killed server is stopped, never
 * adopted; a postmaster that dies while we run is started again (crash recovery, back-off), at the same socket with the
 * same password, so that pools recover alone.
 * Failure, all as CodedError: `data-dir-in-use` (naming the holder), `disk-full`, `embedded-missing` (no binaries for
 * this platform), `embedded-version` (cluster of another major version), `embedded-start-failed` (with PostgreSQL's words).
 */
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError, hasCode } from '../lib/coded-error.ts';
import { clearCluster, ensureCluster, systemIdentifier } from './embedded-cluster.ts';
import { embeddedFailure } from './embedded-failure.ts';
import { type DataDirLock, type HolderKind, isLock, lockDataDir, tryLock } from './embedded-lock.ts';
import {
  EMBEDDED_USER,
  makeDataDir,
  type Place,
  preparePlace,
  readState,
  removeShortFolder,
  SOCKET_PORT,
} from './embedded-place.ts';
import { type EmbeddedLog, type Postmaster, startPostmaster } from './embedded-process.ts';
import { type DatabaseConnection, openDatabase } from './pool.ts';

/** How to start it. */
export interface EmbeddedOptions {
  readonly dataDir: string;
  readonly log: EmbeddedLog;
}

/** A private PostgreSQL that runs, or that someone else's server runs. */
export interface Embedded {
  readonly connection: Exclude<DatabaseConnection, string>;
  /** What the operator should know about where it lives; for the terminal and the log. */
  readonly note?: string;
  /** Ends it (or only lets go of it, when it is someone else's). Safe to call twice. */
  stop(): Promise<void>;
}

/** A server that ends gives up its DATA_DIR within this; a command may take longer. */
const SERVER_PATIENCE_MS = 1_500;
const COMMAND_PATIENCE_MS = 60_000;
/** How long a command waits for a server that is starting. */
const ATTACH_MS = 30_000;
const RESTART_MIN_MS = 100;
const RESTART_MAX_MS = 10_000;

/** Starts the private PostgreSQL of a DATA_DIR, for the life of this server. */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const dataDir = await makeDataDir(options.dataDir);
  return startLocked(
    dataDir,
    options.log,
    await lockDataDir(dataDir, 'server', SERVER_PATIENCE_MS, COMMAND_PATIENCE_MS),
  );
}

/**
 * For a command: attaches to the live socket of the server that runs on this DATA_DIR; when none runs, starts the
 * private PostgreSQL for the time of the command (a server that starts meanwhile waits for its end).
 */
export async function attachEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const dataDir = await makeDataDir(options.dataDir);
  const begin = performance.now();
  for (;;) {
    const result = await tryLock(dataDir, 'command');
    if (isLock(result)) return startLocked(dataDir, options.log, result);
    // Another command's PostgreSQL ends with that command: wait for it instead.
    const connection = result.holder?.kind === 'server' ? await liveConnection(dataDir) : undefined;
    if (connection !== undefined) return { connection, stop: () => Promise.resolve() };
    if (performance.now() - begin > ATTACH_MS) {
      const kind: HolderKind = result.holder?.kind ?? 'server';
      throw new CodedError(
        'data-dir-in-use',
        `the tocsin ${kind} on ${dataDir} (process ${result.holder?.pid}) does not answer`,
      );
    }
    await pause(100);
  }
}

function connectionOf(socketFolder: string, password: string): Exclude<DatabaseConnection, string> {
  return { host: socketFolder, port: SOCKET_PORT, user: EMBEDDED_USER, password, database: 'postgres' };
}

/** The running server's connection, if it answers and is the cluster that our files belong to. */
async function liveConnection(dataDir: string): Promise<Exclude<DatabaseConnection, string> | undefined> {
  const state = await readState(dataDir);
  if (state === undefined) return undefined;
  const connection = connectionOf(state.socketFolder, state.password);
  const db = openDatabase(connection, { maxConnections: 1, connectionTimeoutMs: 2_000 });
  try {
    const [row] = await db.query<{ id: string }>('SELECT system_identifier::text AS id FROM pg_control_system()');
    const onDisk = await systemIdentifier(state.cluster);
    return onDisk === undefined || row?.id === onDisk ? connection : undefined;
  } catch (error) {
    if (hasCode(error, 'store-unavailable')) return undefined;
    throw error;
  } finally {
    await db.close();
  }
}

async function startLocked(dataDir: string, log: EmbeddedLog, lock: DataDirLock): Promise<Embedded> {
  try {
    const place = await preparePlace(dataDir);
    await ensureCluster(place);
    const supervisor = await supervise(place, log);
    let stopped: Promise<void> | undefined;
    const end = async (): Promise<void> => {
      try {
        await supervisor.stop();
        await removeShortFolder(place.state.socketFolder);
      } finally {
        await lock.release();
      }
    };
    return {
      connection: connectionOf(place.state.socketFolder, place.state.password),
      ...(place.note === undefined ? {} : { note: place.note }),
      stop: () => {
        stopped ??= end();
        return stopped;
      },
    };
  } catch (error) {
    await lock.release();
    throw embeddedFailure('the private PostgreSQL does not start', [], error);
  }
}

/** What the supervisor is doing. */
type Life =
  | { readonly is: 'running'; readonly postmaster: Postmaster }
  | { readonly is: 'restarting'; readonly attempt: Promise<void> }
  | { readonly is: 'stopped' };

async function launch(place: Place, log: EmbeddedLog): Promise<Postmaster> {
  if (await clearCluster(place)) {
    log.warn({ cluster: place.state.cluster }, 'stopped a PostgreSQL that an earlier server had left behind');
  }
  return startPostmaster(place, log);
}

/** Starts the postmaster and keeps it running until `stop`. */
async function supervise(place: Place, log: EmbeddedLog): Promise<{ stop(): Promise<void> }> {
  const halt = new AbortController();
  let life: Life;

  const watch = (postmaster: Postmaster): void => {
    life = { is: 'running', postmaster };
    void postmaster.ended.then((reason) => {
      if (halt.signal.aborted) return;
      log.error({ err: reason }, 'the private PostgreSQL died; starting it again');
      life = { is: 'restarting', attempt: restart() };
    });
  };
  const restart = async (): Promise<void> => {
    for (let delay = RESTART_MIN_MS; !halt.signal.aborted; delay = Math.min(delay * 2, RESTART_MAX_MS)) {
      await pause(delay, undefined, { signal: halt.signal }).catch(() => undefined);
      if (halt.signal.aborted) return;
      try {
        watch(await launch(place, log));
        log.info({}, 'the private PostgreSQL runs again');
        return;
      } catch (error) {
        log.error({ err: error }, 'the private PostgreSQL does not start');
      }
    }
  };
  // A process that ends without `stop` (an uncaught error) leaves no PostgreSQL behind; kill -9 does, see clearCluster.
  const atExit = (): void => {
    if (life.is === 'running') life.postmaster.abandon();
  };

  const first = await launch(place, log);
  life = { is: 'stopped' };
  watch(first);
  process.once('exit', atExit);
  return {
    stop: async () => {
      halt.abort();
      if (life.is === 'restarting') await life.attempt;
      if (life.is === 'running') await life.postmaster.stop();
      life = { is: 'stopped' };
      process.removeListener('exit', atExit);
    },
  };
}
