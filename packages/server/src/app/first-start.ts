/**
 * Secrets of a first start: the cluster secret in `DATA_DIR/cluster-secret`, and the showing of generated credentials.
 *
 * Guarantees: files are 0600, complete or absent (written aside, on disk, then linked or renamed into place). Of several
 * processes that start at once one makes the cluster secret and all use it. Credentials are shown once: on a terminal, or
 * in `DATA_DIR/first-start.txt`; never in the log.
 * Failure: CodedError `cluster-secret-unreadable` when the file is there but holds no secret; errors of the file system.
 */
import { randomBytes } from 'node:crypto';
import { chmod, link, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '@tocsin/device/make-folder';
import type { Announce, GeneratedCredentials } from '../identity/first-start.ts';
import { CLUSTER_SECRET_LEAST_CHARACTERS } from '../identity/secrets.ts';
import { CodedError } from '../lib/coded-error.ts';
import type { Settings } from './settings-shape.ts';

/** Name of the file of the cluster secret in DATA_DIR. */
const CLUSTER_SECRET_FILE = 'cluster-secret';
/** Name of the file of generated credentials in DATA_DIR. */
const FIRST_START_FILE = 'first-start.txt';

/** CLUSTER_SECRET, or the one in DATA_DIR, made when there is none yet. */
export async function ensureClusterSecret(settings: Pick<Settings, 'clusterSecret' | 'dataDir'>): Promise<string> {
  if (settings.clusterSecret !== null) return settings.clusterSecret;
  const file = join(settings.dataDir, CLUSTER_SECRET_FILE);
  const kept = await readSecret(file);
  if (kept !== undefined) return kept;
  const aside = await firstFile(settings.dataDir, file);
  try {
    await link(aside, file);
    await syncFolder(dirname(file));
  } catch (error) {
    // Another process was faster: its secret counts.
    if (!isSystemError(error, 'EEXIST')) throw error;
  } finally {
    await unlink(aside);
  }
  const made = await readSecret(file);
  if (made === undefined) throw unreadable(file, 'it vanished');
  return made;
}

/** Makes DATA_DIR and a file in it; when that cannot be done, a line says of which setting. */
async function firstFile(dataDir: string, file: string): Promise<string> {
  try {
    await makeFolder(dataDir);
    return await writeAside(file, `${randomBytes(32).toString('base64url')}\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unknown';
    throw new CodedError('cluster-secret-unreadable', `DATA_DIR ${dataDir} cannot be written: ${why}`, {
      cause: error,
    });
  }
}

async function readSecret(file: string): Promise<string | undefined> {
  try {
    const secret = (await readFile(file, 'utf8')).trim();
    if (secret.length < CLUSTER_SECRET_LEAST_CHARACTERS || secret.length > 1024)
      throw unreadable(file, 'it holds no secret');
    if (((await stat(file)).mode & 0o077) !== 0) await chmod(file, 0o600);
    return secret;
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    if (error instanceof CodedError) throw error;
    throw unreadable(file, error instanceof Error ? error.message : 'unknown', error);
  }
}

function unreadable(file: string, why: string, cause?: unknown): CodedError {
  return new CodedError('cluster-secret-unreadable', `the cluster secret in ${file} cannot be used: ${why}`, { cause });
}

/** Where generated credentials are shown. */
export interface ShownWhere {
  readonly dataDir: string;
  /** Writes to the terminal; absent: there is none. */
  readonly terminal?: ((text: string) => void) | undefined;
  /** Hears the path of the file. */
  readonly log: { warn(fields: object, message: string): void };
}

/** Builds what shows generated credentials, for `identity.ensureFirst`. Rejects when they could not be shown. */
export function createAnnounce({ dataDir, terminal, log }: ShownWhere): Announce {
  return async (generated) => {
    if (terminal !== undefined) {
      terminal(describeOnTerminal(generated));
      return;
    }
    const file = join(dataDir, FIRST_START_FILE);
    await makeFolder(dataDir);
    await rename(await writeAside(file, describeInFile(generated)), file);
    await syncFolder(dataDir);
    log.warn({ file }, 'first start: generated credentials are in this file; keep them elsewhere and delete it');
  };
}

function describeOnTerminal({ admin, apiKey }: GeneratedCredentials): string {
  const lines = [
    '',
    '  First start. Keep these, they are not shown again:',
    ...(admin === null ? [] : [`    e-mail    ${admin.email}`, `    password  ${admin.password}`]),
    ...(apiKey === null ? [] : [`    API key   ${apiKey}`]),
    '',
  ];
  return `${lines.join('\n')}\n`;
}

function describeInFile({ admin, apiKey }: GeneratedCredentials): string {
  const lines = [
    '# Made by tocsin at its first start and stored hashed: keep these elsewhere, then delete this file.',
    ...(admin === null ? [] : [`ADMIN_EMAIL=${admin.email}`, `ADMIN_PASSWORD=${admin.password}`]),
    ...(apiKey === null ? [] : [`API_KEY=${apiKey}`]),
  ];
  return `${lines.join('\n')}\n`;
}

/** Writes a file beside `file`, 0600 and on disk; answers its path. */
async function writeAside(file: string, text: string): Promise<string> {
  const aside = `${file}.${randomBytes(6).toString('hex')}`;
  const handle = await open(aside, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } catch (error) {
    await handle.close();
    await unlink(aside).catch(() => undefined);
    throw error;
  }
  await handle.close();
  return aside;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
