/**
 * A PostgreSQL of one test: Debian's 15 with PostGIS, on TCP with a password, durable (fsync on), so that it can be
 * frozen, killed and restarted without taking the other tests' database along.
 *
 * As root it runs as `nobody`. It is gone with this process however that ends (`guard.ts`).
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { chmod, chown, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { nobody } from '@tocsin/server/store/embedded-binaries';
import { openDatabase } from '@tocsin/server/store/pool';
import { engineFolder } from './engines.ts';
import { folderRemoved, guardChild, guardedFolder, processTree } from './guard.ts';
import { freePort } from './server-process.ts';

/** A running (or killed, or frozen) PostgreSQL. */
export interface PostgresServer {
  /** `postgres://tocsin:<password>@127.0.0.1:<port>/tocsin`; the user is its superuser, the database empty. */
  readonly url: string;
  readonly port: number;
  /** Process id of the postmaster. */
  pid(): number;
  /** SIGSTOP of the postmaster and all of its children: connections stay open, nothing answers. */
  freeze(): void;
  /** SIGCONT of them all. */
  thaw(): void;
  /** SIGKILL of them all, as when the machine dies; resolves once they are gone. */
  kill(): Promise<void>;
  /** Same port and data; what still runs is killed first. Resolves once it accepts connections. */
  restart(): Promise<void>;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
}

const run = promisify(execFile);
const START_MS = 60_000;

/** Starts it; `settings` are lines of `postgresql.conf`. Takes about 1 s. Rejects with its log when it does not come up. */
export async function startPostgres(settings: readonly string[] = []): Promise<PostgresServer> {
  const binaries = engineFolder('postgis');
  if (binaries === undefined) throw new Error('PostgreSQL 15 with PostGIS is not installed');
  const root = guardedFolder('tocsin-postgres-');
  const account = process.getuid?.() === 0 ? nobody() : {};
  const port = await freePort();
  const password = randomBytes(16).toString('hex');
  const log = join(root, 'log');
  let child: ChildProcess | undefined;
  let exited: Promise<void> = Promise.resolve();
  const alive = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null;

  const start = async (): Promise<void> => {
    const before = (await stat(log).catch(() => ({ size: 0 }))).size;
    const output = openSync(log, 'a');
    const begun = spawn(join(binaries, 'bin/postgres'), ['-D', join(root, 'data')], {
      ...account,
      cwd: root,
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    child = begun;
    exited = new Promise((resolve) => {
      begun.once('exit', () => resolve()).once('error', () => resolve());
    });
    guardChild(begun);
    const deadline = Date.now() + START_MS;
    for (;;) {
      const told = (await readFile(log, 'utf8')).slice(before);
      if (told.includes('is ready to accept connections')) return;
      if (!alive() || Date.now() > deadline) throw new Error(`PostgreSQL did not start: ${told}`);
      await pause(10);
    }
  };
  const kill = async (): Promise<void> => {
    if (!alive() || child?.pid === undefined) return;
    // Stopped first, so that no child is born while they are counted.
    const pids = stopTree(child.pid);
    for (const pid of pids) signal(pid, 'SIGKILL');
    await exited;
    while (pids.some(runs)) await pause(5);
  };
  const stop = async (): Promise<void> => {
    await kill();
    await rm(root, { recursive: true, force: true });
    folderRemoved(root);
  };
  const urlOf = (database: string): string => `postgres://tocsin:${password}@127.0.0.1:${port}/${database}`;
  try {
    await initialise({ root, binaries, account, password, settings: [`port = ${port}`, ...settings] });
    await start();
    const admin = openDatabase(urlOf('postgres'), { applicationName: 'testkit', maxConnections: 1 });
    try {
      await admin.execute('CREATE DATABASE tocsin');
    } finally {
      await admin.close();
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: urlOf('tocsin'),
    port,
    pid: () => child?.pid ?? 0,
    freeze: () => {
      if (alive() && child?.pid !== undefined) stopTree(child.pid);
    },
    thaw: () => {
      if (alive() && child?.pid !== undefined) for (const pid of processTree(child.pid)) signal(pid, 'SIGCONT');
    },
    kill,
    restart: async () => {
      await kill();
      await start();
    },
    stop,
  };
}

async function initialise(options: {
  readonly root: string;
  readonly binaries: string;
  readonly account: { readonly uid?: number; readonly gid?: number };
  readonly password: string;
  readonly settings: readonly string[];
}): Promise<void> {
  const { root, binaries, account, password } = options;
  const secret = join(root, 'password');
  await writeFile(secret, password);
  if (account.uid !== undefined && account.gid !== undefined) {
    await chown(root, account.uid, account.gid);
    await chown(secret, account.uid, account.gid);
  }
  await chmod(root, 0o700);
  const data = join(root, 'data');
  const args = ['-D', data, '-U', 'tocsin', '-A', 'scram-sha-256', '--pwfile', secret, '-E', 'UTF8', '--locale=C'];
  await run(join(binaries, 'bin/initdb'), [...args, '--no-sync'], { ...account, cwd: root });
  const lines = [
    ...["listen_addresses = '127.0.0.1'", `unix_socket_directories = ''`, 'max_connections = 300', 'fsync = on'],
    ...['shared_buffers = 64MB', 'jit = off', "log_min_messages = 'log'", ...options.settings],
  ];
  await writeFile(join(data, 'postgresql.conf'), `${lines.join('\n')}\n`, { flag: 'a' });
}

/** Stops a process and its descendants, also those that were born meanwhile; answers them all. */
function stopTree(root: number): number[] {
  const stopped = new Set<number>();
  for (;;) {
    const news = processTree(root).filter((pid) => !stopped.has(pid));
    if (news.length === 0) return [...stopped];
    for (const pid of news) {
      signal(pid, 'SIGSTOP');
      stopped.add(pid);
    }
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended meanwhile.
  }
}

/** False also for what has ended and was not reaped yet. */
function runs(pid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text[text.lastIndexOf(')') + 2] !== 'Z';
  } catch {
    return false;
  }
}
