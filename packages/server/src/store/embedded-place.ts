/**
 * Where the private PostgreSQL lives and as whom it runs.
 *
 * PostgreSQL refuses to run as root: it then runs as `nobody`, which must be able to reach its folders. DATA_DIR itself
 * is opened for passing through (o+x, never for reading); where a folder above is closed, cluster and binaries go to
 * /var/lib/tocsin, and the note says so. What was decided is kept in `<DATA_DIR>/postgres.json` (0600, it also holds the
 * password), so that a cluster never moves by itself.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CodedError } from '../lib/coded-error.ts';
import { type Account, type Binaries, completeLinks, copyBinaries, findBinaries, nobody } from './embedded-binaries.ts';
import { embeddedFailure } from './embedded-failure.ts';

/** Port number in the name of the socket; nothing listens on TCP. */
export const SOCKET_PORT = 5432;
/** The superuser of the private cluster. */
export const EMBEDDED_USER = 'tocsin';

/** What is kept in `postgres.json`. */
export interface EmbeddedState {
  /** Folder of the cluster. */
  readonly cluster: string;
  /** Folder of the socket of the last start. */
  readonly socketFolder: string;
  readonly password: string;
}

/** Everything that a start needs to know. */
export interface Place {
  readonly dataDir: string;
  readonly state: EmbeddedState;
  readonly binaries: Binaries;
  /** Undefined: as this process's own account. */
  readonly account: Account | undefined;
  readonly note: string | undefined;
}

const SHARED_HOME = '/var/lib/tocsin';
const STATE_FILE = 'postgres.json';
/** sun_path of a Unix socket holds 107 bytes and a NUL on Linux, 103 on macOS. */
const LONGEST_SOCKET_PATH = process.platform === 'linux' ? 107 : 103;
const SHORT_FOLDERS = '/tmp';
const SHORT_PREFIX = 'tocsin-socket-';

/** Makes DATA_DIR and answers its real path. */
export async function makeDataDir(dataDir: string): Promise<string> {
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    return await realpath(dataDir);
  } catch (error) {
    throw embeddedFailure(`DATA_DIR ${dataDir} cannot be made`, [], error);
  }
}

/** Decides where and as whom, makes the folders, and keeps the decision. Call it only while holding the DATA_DIR. */
export async function preparePlace(dataDir: string): Promise<Place> {
  const before = await readState(dataDir);
  const notes: string[] = [];
  const cluster = before?.cluster ?? (await chooseCluster(dataDir));
  if (!cluster.startsWith(`${dataDir}/`)) {
    notes.push(`A folder above ${dataDir} is closed to others, so the database lives in ${dirname(cluster)}.`);
  }
  const account = accountFor(cluster);
  if (account !== undefined) await letThrough(dataDir, cluster, account);
  const binaries = await usableBinaries(dataDir, account, notes);
  if (before !== undefined) await removeShortFolder(before.socketFolder);
  const state: EmbeddedState = {
    cluster,
    socketFolder: await makeSocketFolder(cluster, account),
    password: before?.password ?? randomBytes(24).toString('base64url'),
  };
  await writeState(dataDir, state);
  return { dataDir, state, binaries, account, note: notes.length === 0 ? undefined : notes.join(' ') };
}

/** The kept decision; undefined before the first start. Throws CodedError `embedded-start-failed` when it is unreadable. */
export async function readState(dataDir: string): Promise<EmbeddedState | undefined> {
  let text: string;
  try {
    text = await readFile(join(dataDir, STATE_FILE), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw embeddedFailure(`${join(dataDir, STATE_FILE)} cannot be read`, [], error);
  }
  const { cluster, socketFolder, password } = parseObject(text);
  if (typeof cluster !== 'string' || typeof socketFolder !== 'string' || typeof password !== 'string') {
    throw new CodedError('embedded-start-failed', `${join(dataDir, STATE_FILE)} is damaged`);
  }
  return { cluster, socketFolder, password };
}

/** Removes a socket folder outside of the cluster's own; anything else is left alone. */
export async function removeShortFolder(folder: string): Promise<void> {
  if (dirname(folder) === SHORT_FOLDERS && basename(folder).startsWith(SHORT_PREFIX))
    await rm(folder, { recursive: true, force: true });
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

/** Written beside and renamed, so that it is never half. */
async function writeState(dataDir: string, state: EmbeddedState): Promise<void> {
  const half = join(dataDir, `${STATE_FILE}.half`);
  await rm(half, { force: true });
  const file = await open(half, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(state)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(half, join(dataDir, STATE_FILE));
}

/** A place for a new cluster: in DATA_DIR, or under /var/lib/tocsin where `nobody` cannot come to it. */
async function chooseCluster(dataDir: string): Promise<string> {
  const inside = join(dataDir, 'postgres');
  if (statSync(join(inside, 'PG_VERSION'), { throwIfNoEntry: false }) !== undefined) {
    throw new CodedError(
      'embedded-start-failed',
      `${join(dataDir, STATE_FILE)} (the password of ${inside}) is missing: restore it, or move the folder away`,
    );
  }
  if (!isRoot()) return inside;
  await chmod(dataDir, ((await stat(dataDir)).mode & 0o777) | 0o001);
  if (reachable(dataDir, nobody())) return inside;
  const name = `${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}-${randomBytes(3).toString('hex')}`;
  const home = join(SHARED_HOME, name);
  await mkdir(home, { recursive: true });
  await chmod(SHARED_HOME, 0o755);
  await chmod(home, 0o711);
  return join(home, 'postgres');
}

/** As root: the owner of the cluster, else nobody. */
function accountFor(cluster: string): Account | undefined {
  if (!isRoot()) return undefined;
  const found = statSync(cluster, { throwIfNoEntry: false });
  return found === undefined || found.uid === 0 ? nobody() : { uid: found.uid, gid: found.gid };
}

async function letThrough(dataDir: string, cluster: string, account: Account): Promise<void> {
  if (!cluster.startsWith(`${dataDir}/`)) return;
  await chmod(dataDir, ((await stat(dataDir)).mode & 0o777) | 0o001);
  if (!reachable(dataDir, account)) {
    throw new CodedError(
      'embedded-start-failed',
      `account ${account.uid}, which runs the private PostgreSQL, cannot reach ${cluster}: a folder above it is closed`,
    );
  }
}

/** Binaries that run as `account`; copies them where they lie in a closed or incomplete folder. */
async function usableBinaries(dataDir: string, account: Account | undefined, notes: string[]): Promise<Binaries> {
  const found = findBinaries();
  await completeLinks(found);
  if (runs(found, account) === undefined) return found;
  const parent = account === undefined ? dataDir : SHARED_HOME;
  const copy = await copyBinaries(found, parent).catch((error: unknown) => {
    throw embeddedFailure(`PostgreSQL cannot be copied to ${parent}`, [], error);
  });
  if (account !== undefined) await chmod(parent, 0o755);
  const complaint = runs(copy, account);
  if (complaint !== undefined) {
    throw new CodedError(
      'embedded-missing',
      `the private PostgreSQL does not run on this machine (${complaint}): set DATABASE_URL`,
    );
  }
  notes.push(`PostgreSQL runs from a copy in ${copy.folder}.`);
  return copy;
}

const RUNS =
  'test -r "$1/share/postgresql/postgres.bki" && test -x "$1/bin/initdb" && exec "$1/bin/postgres" --version';

/** Undefined when these binaries start as `account`; else why not. */
function runs(binaries: Binaries, account: Account | undefined): string | undefined {
  const tried = spawnSync('/bin/sh', ['-c', RUNS, 'sh', binaries.folder], {
    ...account,
    cwd: '/',
    encoding: 'utf8',
    timeout: 20_000,
  });
  if (tried.status === 0) return undefined;
  return tried.error?.message ?? (tried.stderr.trim().split('\n').at(-1) || 'its files cannot be read');
}

function reachable(folder: string, account: Account): boolean {
  return spawnSync('/bin/sh', ['-c', 'test -x "$1"', 'sh', folder], { ...account, cwd: '/' }).status === 0;
}

/** A folder that only the account can enter, with a path short enough for a socket. */
async function makeSocketFolder(cluster: string, account: Account | undefined): Promise<string> {
  const beside = `${cluster}-run`;
  const length = Buffer.byteLength(join(beside, `.s.PGSQL.${SOCKET_PORT}`));
  const folder = length <= LONGEST_SOCKET_PATH ? beside : await mkdtemp(join(SHORT_FOLDERS, SHORT_PREFIX));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (account !== undefined) await chown(folder, account.uid, account.gid);
  await chmod(folder, 0o700);
  return folder;
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
