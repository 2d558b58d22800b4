/**
 * The private cluster as files and processes: made by initdb, checked, and freed from processes of an earlier life.
 *
 * Guarantees: a cluster appears whole or not at all (made aside, then renamed). A process counts as the cluster's only
 * when it works in the cluster's folder (a postmaster and its children do); a process number alone proves nothing.
 * An orphan is stopped, never adopted. Call these only while holding the DATA_DIR.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, readdir, readFile, readlink, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError } from '../lib/coded-error.ts';
import { createTail, embeddedFailure } from './embedded-failure.ts';
import { EMBEDDED_USER, type Place, SOCKET_PORT } from './embedded-place.ts';

/** A signal and how long to wait for its effect, in ms. */
type Step = readonly [signal: NodeJS.Signals, patienceMs: number];

/** PostgreSQL's processes get these and nothing of our environment. */
export const EMBEDDED_ENVIRONMENT: Readonly<Record<string, string>> = {
  LC_ALL: 'C',
  TZ: 'UTC',
  PATH: '/usr/local/bin:/usr/bin:/bin',
};

/** Makes the cluster when there is none. Throws CodedError `disk-full`, `embedded-start-failed`, `embedded-version`. */
export async function ensureCluster(place: Place): Promise<void> {
  const { cluster } = place.state;
  const version = await readFile(join(cluster, 'PG_VERSION'), 'utf8').catch(() => undefined);
  if (version === undefined) return makeCluster(place);
  const wanted = place.binaries.version.split('.')[0];
  if (version.trim() !== wanted) {
    throw new CodedError(
      'embedded-version',
      `the database in ${cluster} is of PostgreSQL ${version.trim()}, this tocsin brings ${wanted}: move it by dump and restore`,
    );
  }
}

/** The cluster's system identifier (first eight bytes of pg_control); undefined when it cannot be read. */
export async function systemIdentifier(cluster: string): Promise<string | undefined> {
  const file = await open(join(cluster, 'global/pg_control'), 'r').catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(8), 0, 8, 0);
    return bytesRead === 8 ? buffer.readBigUInt64LE().toString() : undefined;
  } finally {
    await file.close();
  }
}

/**
 * Stops every PostgreSQL process of an earlier life (fast, then immediate, then by force) and removes what it left: a
 * `postmaster.pid` and a socket whose process number may belong to someone else by now. Answers whether any was alive.
 */
export async function clearCluster(place: Place): Promise<boolean> {
  const { cluster, socketFolder } = place.state;
  const postmaster = await postmasterPid(cluster);
  let living = await clusterProcesses(cluster, postmaster);
  const orphaned = living.length > 0;
  const steps = postmaster !== undefined && living.includes(postmaster) ? POSTMASTER_STEPS : CHILDREN_STEPS;
  for (const [signal, patienceMs] of steps) {
    // A postmaster passes "fast" and "immediate" on; children that lost theirs notice, or are told.
    for (const pid of living)
      if (steps === CHILDREN_STEPS || pid === postmaster || signal === 'SIGKILL') kill(pid, signal);
    const end = performance.now() + patienceMs;
    while (living.length > 0 && performance.now() < end) {
      await pause(20);
      living = await clusterProcesses(cluster, postmaster);
    }
    if (living.length === 0) break;
  }
  if (living.length > 0) {
    throw new CodedError(
      'embedded-start-failed',
      `PostgreSQL processes of an earlier start do not end (${living.join(', ')}): end them and start again`,
    );
  }
  for (const left of [
    join(cluster, 'postmaster.pid'),
    join(socketFolder, `.s.PGSQL.${SOCKET_PORT}`),
    join(socketFolder, `.s.PGSQL.${SOCKET_PORT}.lock`),
  ]) {
    await rm(left, { force: true });
  }
  return orphaned;
}

const POSTMASTER_STEPS: readonly Step[] = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
];
const CHILDREN_STEPS: readonly Step[] = [
  ['SIGQUIT', 2_000],
  ['SIGKILL', 5_000],
];

async function makeCluster(place: Place): Promise<void> {
  const { cluster, password } = place.state;
  const parent = dirname(cluster);
  const half = join(parent, `${basename(cluster)}.new-${randomBytes(4).toString('hex')}`);
  const passwordFile = `${half}.pw`;
  try {
    for (const name of await readdir(parent)) {
      if (name.startsWith(`${basename(cluster)}.new-`)) {
        // An initdb that lost its parent may still be writing there.
        await rm(join(parent, name), { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
      }
    }
    await mkdir(half, { mode: 0o700 });
    await writeFile(passwordFile, password, { mode: 0o600, flag: 'wx' });
    if (place.account !== undefined) {
      await chown(half, place.account.uid, place.account.gid);
      await chown(passwordFile, place.account.uid, place.account.gid);
    }
    await runInitdb(place, half, passwordFile);
    // An empty folder may stand there; one with content is not ours to replace.
    await rename(half, cluster);
  } catch (error) {
    await rm(half, { recursive: true, force: true }).catch(() => undefined);
    throw embeddedFailure('the private PostgreSQL cannot be made', [], error);
  } finally {
    await rm(passwordFile, { force: true }).catch(() => undefined);
  }
}

async function runInitdb(place: Place, folder: string, passwordFile: string): Promise<void> {
  const child = spawn(
    join(place.binaries.folder, 'bin/initdb'),
    [
      `--pgdata=${folder}`,
      `--username=${EMBEDDED_USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--data-checksums',
    ],
    { ...place.account, cwd: '/', env: EMBEDDED_ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const tail = createTail();
  createInterface({ input: child.stdout }).on('line', tail.add);
  createInterface({ input: child.stderr }).on('line', tail.add);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw embeddedFailure('initdb failed', tail.lines());
}

/** The process number in `postmaster.pid`. */
async function postmasterPid(cluster: string): Promise<number | undefined> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(text.split('\n')[0]);
  return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
}

/** Numbers of the living processes that work in the cluster's folder. */
async function clusterProcesses(cluster: string, postmaster: number | undefined): Promise<number[]> {
  const folder = await realpath(cluster).catch(() => undefined);
  if (folder === undefined) return [];
  if (process.platform !== 'linux') {
    return postmaster !== undefined && commandOf(postmaster).includes(folder) ? [postmaster] : [];
  }
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const [works, runs] = await Promise.all([
      readlink(`/proc/${name}/cwd`).catch(() => undefined),
      readFile(`/proc/${name}/comm`, 'utf8').catch(() => ''),
    ]);
    if (works === folder && runs.trim() === 'postgres') found.push(Number(name));
  }
  return found;
}

/** Command line of a process, for systems without /proc. */
function commandOf(pid: number): string {
  return spawnSync('ps', ['-p', String(pid), '-o', 'command='], { encoding: 'utf8' }).stdout;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}
