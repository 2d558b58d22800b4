/**
 * Ownership of a DATA_DIR: a kernel lock (flock) on `<DATA_DIR>/lock`, held by an open file of this process.
 *
 * Guarantees: of any number that start at the same moment exactly one gets it; it ends with the process, however that
 * ends, so there are no stale locks and process numbers decide nothing. What is written in the file only names the holder.
 * Node has no flock: on Linux the `flock` command sets it on our own open file (a lock belongs to the open file, not to
 * the process that asked for it: flock(2)); macOS takes it in open(2) (O_EXLOCK).
 */
import { spawnSync } from 'node:child_process';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError } from '../lib/coded-error.ts';
import { embeddedFailure } from './embedded-failure.ts';

/** What holds a DATA_DIR: a server for its life, or a command while it runs. */
export type HolderKind = 'server' | 'command';

/** Who holds it, as written in the lock file. */
export interface Holder {
  readonly kind: HolderKind;
  readonly pid: number;
  readonly host: string;
  /** Unix ms. */
  readonly since: number;
}

/** A lock that is held. */
export interface DataDirLock {
  release(): Promise<void>;
}

/** A process that was just killed, or a command, gives up its lock soon: ask again after this long. */
const RETRY_MS = 50;
/** O_EXLOCK of macOS and the BSDs. */
const O_EXLOCK = 0x20;

/** Takes the lock, or answers who holds it. */
export async function tryLock(
  dataDir: string,
  kind: HolderKind,
): Promise<DataDirLock | { holder: Holder | undefined }> {
  const file = await openLocked(join(dataDir, 'lock')).catch((error: unknown) => {
    throw embeddedFailure(`DATA_DIR ${dataDir} cannot be locked`, [], error);
  });
  if (file === undefined) return { holder: await readHolder(dataDir) };
  const holder: Holder = { kind, pid: process.pid, host: hostname(), since: Date.now() };
  // The names are a courtesy: a full disk must not stop here.
  await file.truncate(0).catch(() => undefined);
  await file.write(`${JSON.stringify(holder)}\n`, 0).catch(() => undefined);
  return { release: () => file.close() };
}

/** True when `result` of {@link tryLock} is a lock. */
export function isLock(result: DataDirLock | { holder: Holder | undefined }): result is DataDirLock {
  return 'release' in result;
}

/**
 * Takes the lock, waiting up to `patienceMs` for one that is held, longer (`commandPatienceMs`) for that of a command.
 * Throws CodedError `data-dir-in-use` naming the holder.
 */
export async function lockDataDir(
  dataDir: string,
  kind: HolderKind,
  patienceMs: number,
  commandPatienceMs: number,
): Promise<DataDirLock> {
  const begin = performance.now();
  for (;;) {
    const result = await tryLock(dataDir, kind);
    if (isLock(result)) return result;
    const patience = result.holder?.kind === 'command' ? commandPatienceMs : patienceMs;
    if (performance.now() - begin >= patience) throw inUse(dataDir, result.holder);
    await pause(RETRY_MS);
  }
}

function inUse(dataDir: string, holder: Holder | undefined): CodedError {
  const who =
    holder === undefined
      ? 'another tocsin'
      : `a tocsin ${holder.kind} (process ${holder.pid} on ${holder.host}, since ${new Date(holder.since).toISOString()})`;
  return new CodedError('data-dir-in-use', `DATA_DIR ${dataDir} is in use by ${who}`);
}

async function openLocked(path: string): Promise<FileHandle | undefined> {
  const flags = constants.O_RDWR | constants.O_CREAT;
  if (process.platform !== 'linux') {
    try {
      return await open(path, flags | constants.O_NONBLOCK | O_EXLOCK, 0o600);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return undefined;
      throw error;
    }
  }
  const file = await open(path, flags, 0o600);
  const asked = spawnSync('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', file.fd] });
  if (asked.status === 0) return file;
  await file.close();
  if (asked.error !== undefined) {
    throw new CodedError(
      'embedded-start-failed',
      `the private PostgreSQL needs the command "flock" (util-linux): ${asked.error.message}`,
      { cause: asked.error },
    );
  }
  return undefined;
}

async function readHolder(dataDir: string): Promise<Holder | undefined> {
  try {
    const holder: unknown = JSON.parse(await readFile(join(dataDir, 'lock'), 'utf8'));
    return isHolder(holder) ? holder : undefined;
  } catch {
    return undefined;
  }
}

function isHolder(value: unknown): value is Holder {
  if (typeof value !== 'object' || value === null) return false;
  const holder = value as Record<string, unknown>;
  return (
    (holder['kind'] === 'server' || holder['kind'] === 'command') &&
    Number.isSafeInteger(holder['pid']) &&
    typeof holder['host'] === 'string' &&
    holder['host'].length <= 255 &&
    Number.isSafeInteger(holder['since']) &&
    Math.abs(Number(holder['since'])) < 8.64e15
  );
}
