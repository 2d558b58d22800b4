/**
 * Throw-away PostgreSQL clusters for tests: a temporary folder, a Unix socket, no durability.
 *
 * Guarantee: cluster and folder are gone once the process that started it has ended, however it ended (a guard process
 * waits for the end of its standard input). As root PostgreSQL runs as `nobody`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, chown, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { completeLinks, copyBinaries, findBinaries, nobody } from '@tocsin/server/store/embedded-binaries';
import { type Engine, engineFolder } from './engines.ts';

/** A running cluster. */
export interface Cluster {
  /** Its folder, which is also that of its socket. */
  readonly root: string;
  /** URL of a database in it; the user is its superuser. */
  url(database: string): string;
  stop(): Promise<void>;
}

/** What the guard runs: initdb, postgres, a line "ready", and the end of both when its input ends. */
const GUARD = `
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const [bin, root, ids] = JSON.parse(process.argv[1]);
const data = root + '/data';
const as = ids === null ? {} : { uid: ids.uid, gid: ids.gid };
let postgres;
const end = (code) => { fs.rmSync(root, { recursive: true, force: true }); process.exit(code); };
const stop = () => {
  if (postgres === undefined || postgres.exitCode !== null || postgres.signalCode !== null) return end(0);
  postgres.once('exit', () => end(0));
  postgres.kill('SIGQUIT');
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
process.stdin.on('end', stop).on('error', stop).resume();
process.stdout.on('error', stop);
const made = spawnSync(bin + '/initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
  { ...as, cwd: root, encoding: 'utf8' });
if (made.status !== 0) { process.stderr.write(String(made.stderr || made.error)); end(1); }
const settings = ['fsync=off', 'full_page_writes=off', 'autovacuum=off', 'jit=off', 'max_connections=300',
  'shared_buffers=64MB', 'max_wal_size=1GB', 'listen_addresses=', 'unix_socket_directories=' + root, 'wal_level=minimal',
  'max_wal_senders=0'];
postgres = spawn(bin + '/postgres', ['-D', data, ...settings.flatMap((setting) => ['-c', setting])],
  { ...as, cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
postgres.once('exit', () => end(1));
let told = '';
let ready = false;
postgres.stderr.setEncoding('utf8').on('data', (text) => {
  if (ready) return;
  told += text;
  if (told.includes('is ready to accept connections')) { ready = true; process.stdout.write('ready\\n'); }
});
`;

/** Starts a cluster of the engine. Rejects with what initdb or postgres said when that fails. */
export async function startCluster(engine: Engine): Promise<Cluster> {
  const folder = await binariesFor(engine);
  const root = await mkdtemp(join(tmpdir(), 'tocsin-db-'));
  const account = process.getuid?.() === 0 ? nobody() : null;
  if (account !== null) await chown(root, account.uid, account.gid);
  await chmod(root, 0o755);
  const guard = spawn(process.execPath, ['-e', GUARD, JSON.stringify([join(folder, 'bin'), root, account])], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
  await readiness(guard);
  // The guard must not keep its parent alive.
  guard.unref();
  for (const stream of [guard.stdin, guard.stdout, guard.stderr]) (stream as unknown as { unref(): void }).unref();
  return {
    root,
    url: (database) => clusterUrl(root, database),
    stop: () =>
      new Promise((resolve) => {
        if (guard.exitCode !== null) return resolve();
        guard.ref();
        guard.once('exit', () => resolve());
        guard.stdin?.end();
      }),
  };
}

/** URL of a database in the cluster of this folder. */
export function clusterUrl(root: string, database: string): string {
  return `postgres://postgres@localhost/${database}?host=${encodeURIComponent(root)}`;
}

async function binariesFor(engine: Engine): Promise<string> {
  if (engine === 'postgis') {
    const folder = engineFolder(engine);
    if (folder === undefined) throw new Error('PostgreSQL 15 with PostGIS is not installed');
    return folder;
  }
  const binaries = findBinaries();
  if (await completeLinks(binaries)) return binaries.folder;
  return (await copyBinaries(binaries, join(tmpdir(), 'tocsin-test-binaries'))).folder;
}

function readiness(guard: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let complaint = '';
    guard.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    guard.stdout?.setEncoding('utf8').once('data', () => resolve());
    guard.once('error', reject);
    guard.once('exit', (code) => reject(new Error(`the test database did not start (${code}): ${complaint}`)));
  });
}
