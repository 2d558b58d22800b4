/**
 * One life of the private postmaster: spawned, ready, ended.
 *
 * It gets a session of its own, so that Ctrl-C reaches only us; what it writes comes to us through a pipe (no log file
 * that could grow or miss on a full disk). Messages about clients' statements are never passed on: they may hold values.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { EMBEDDED_ENVIRONMENT } from './embedded-cluster.ts';
import { createTail, embeddedFailure, type LogTail } from './embedded-failure.ts';
import type { Place } from './embedded-place.ts';

/** Where the private PostgreSQL reports to; a pino logger fits. */
export interface EmbeddedLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A postmaster that is ready for connections. */
export interface Postmaster {
  readonly pid: number;
  /** Resolves with the error that says why, once it has ended (whether asked to or not). */
  readonly ended: Promise<Error>;
  /** Fast shutdown (SIGINT), then immediate, then by force; resolves once it has ended. */
  stop(): Promise<void>;
  /** Asks for a fast shutdown and does not wait: for the very end of our process. */
  abandon(): void;
}

/** Two cores, little memory, nothing less than full durability. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '60',
  password_encryption: 'scram-sha-256',
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  wal_level: 'minimal',
  max_wal_senders: '0',
  wal_compression: 'on',
  max_wal_size: '2GB',
  min_wal_size: '128MB',
  checkpoint_timeout: '15min',
  checkpoint_completion_target: '0.9',
  shared_buffers: '128MB',
  effective_cache_size: '512MB',
  work_mem: '8MB',
  maintenance_work_mem: '64MB',
  max_worker_processes: '4',
  max_parallel_workers_per_gather: '1',
  jit: 'off',
  autovacuum_max_workers: '2',
  autovacuum_naptime: '30s',
  autovacuum_vacuum_scale_factor: '0.1',
  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  logging_collector: 'off',
  log_destination: 'stderr',
  log_line_prefix: '%b|',
  log_checkpoints: 'off',
  log_min_messages: 'warning',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
  cluster_name: 'tocsin',
};

const READY = 'database system is ready to accept connections';
/** How long the last lines of a postmaster that has ended are waited for. */
const LAST_WORDS_MS = 300;
const FAST_MS = 20_000;
const IMMEDIATE_MS = 5_000;

/**
 * Starts the postmaster and waits until it is ready, however long crash recovery takes.
 * Throws CodedError `disk-full` or `embedded-start-failed`.
 */
export async function startPostmaster(place: Place, log: EmbeddedLog): Promise<Postmaster> {
  const settings = { ...SETTINGS, unix_socket_directories: quoteFolder(place.state.socketFolder) };
  const child = spawn(
    join(place.binaries.folder, 'bin/postgres'),
    ['-D', place.state.cluster, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    { ...place.account, cwd: '/', env: EMBEDDED_ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  );
  const tail = createTail();
  const ended = new Promise<Error>((resolve) => {
    child.once('error', (error) => resolve(embeddedFailure('the private PostgreSQL cannot run', tail.lines(), error)));
    const tell = (): void => resolve(embeddedFailure('the private PostgreSQL ended', tail.lines()));
    child.once('close', tell);
    // Children of a killed postmaster may hold the pipe a while longer.
    child.once('exit', () => setTimeout(tell, LAST_WORDS_MS).unref());
  });
  const failure = await Promise.race([ready(child, tail, log), ended]);
  if (failure !== undefined) throw failure;
  return {
    pid: child.pid ?? 0,
    ended,
    stop: () => stopChild(child, ended),
    abandon: () => void child.kill('SIGINT'),
  };
}

/** A list of folders is what PostgreSQL expects: a name with commas or blanks needs quotes. */
function quoteFolder(folder: string): string {
  return `"${folder.replaceAll('"', '""')}"`;
}

function ready(child: ChildProcess, tail: LogTail, log: EmbeddedLog): Promise<undefined> {
  return new Promise((resolve) => {
    if (child.stderr === null) return;
    const lines = createInterface({ input: child.stderr });
    lines.on('line', (line) => {
      tail.add(line.slice(line.indexOf('|') + 1));
      passOn(line, log);
      if (line.includes(READY)) resolve(undefined);
    });
  });
}

/** Warnings and errors of PostgreSQL's own processes go to our log, with the kind of process that spoke. */
function passOn(line: string, log: EmbeddedLog): void {
  const found = /^([a-z /]*)\|(WARNING|ERROR|FATAL|PANIC|LOG): +(.*)$/.exec(line);
  if (found === null) return;
  const [, part = '', level = '', text = ''] = found;
  if (/automatic recovery in progress|was not properly shut down/.test(text)) {
    log.info({ part }, `private PostgreSQL: ${text}`);
  } else if (level === 'PANIC' || (level === 'FATAL' && part === 'postmaster')) {
    log.error({ part }, `private PostgreSQL: ${text}`);
  } else if (level !== 'LOG' && part !== 'client backend') {
    log.warn({ part }, `private PostgreSQL: ${text}`);
  }
}

async function stopChild(child: ChildProcess, ended: Promise<Error>): Promise<void> {
  const timers = [
    setTimeout(() => child.kill('SIGQUIT'), FAST_MS),
    setTimeout(() => child.kill('SIGKILL'), FAST_MS + IMMEDIATE_MS),
  ];
  child.kill('SIGINT');
  await ended;
  for (const timer of timers) clearTimeout(timer);
}
