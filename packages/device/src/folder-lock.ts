/**
 * One owner for a folder: a claim that a dead process does not hold.
 *
 * Claims are symbolic links `lock.<n>` whose target names the owner: made in one step by one of several, and without a
 * block of a disk that may be full. The highest number counts. Who finds its owner gone makes the next number and looks again: had somebody gone on meanwhile, there is a higher one. Numbers never fall: a claim that
 * is given up says so and stays until two later ones are there. The owner is gone when its pid is, or, where /proc tells,
 * when the pid belongs to a process that started at another time or before this boot.
 * Not seen: processes of another pid namespace (two containers on one folder). Failure: `folder-in-use` with the pid.
 */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, readlink, rename, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { DeviceError, diskError, systemCode } from './device-error.ts';

/** A folder that is ours. */
export interface FolderLock {
  /** Gives it up. */
  release(): Promise<void>;
}

/** Who claims. `started` and `boot` are null where there is no /proc. */
interface Owner {
  readonly pid: number;
  readonly started: string | null;
  readonly boot: string | null;
}

const NAME = /^lock\.([0-9]{1,15})$/;
/** Claims before ours that stay: a listing that runs meanwhile sees at least one of them. */
const KEPT_BEFORE = 2;
/** The target of a claim that was given up. */
const RELEASED = 'released';
/** Others that come first in a row. */
const TRIES = 20;

/** Claims `folder`. Rejects with `folder-in-use`, `disk-full` or `folder-unusable`. */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const self = await ourselves();
  try {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const mine = await claim(folder, self);
      if (mine !== null) return { release: () => giveUp(folder, mine) };
    }
  } catch (error) {
    throw diskError(folder, error);
  }
  throw new DeviceError('folder-in-use', `${folder} is claimed by others again and again`);
}

/** Our claim's number, or null when somebody else came first and it is to be tried again. */
async function claim(folder: string, self: Owner): Promise<number | null> {
  const highest = (await claims(folder)).at(-1) ?? 0;
  if (highest > 0) {
    const owner = await readOwner(join(folder, nameOf(highest)));
    if (owner === null) return null;
    if (await lives(owner, self)) {
      throw new DeviceError(
        'folder-in-use',
        `${folder} belongs to process ${owner.pid}; one device, one folder, one process`,
      );
    }
  }
  const mine = highest + 1;
  if (!(await makeClaim(join(folder, nameOf(mine)), textOf(self)))) return null;
  const now = await claims(folder);
  if (now.at(-1) !== mine) {
    await unlink(join(folder, nameOf(mine))).catch(() => undefined);
    return null;
  }
  for (const old of now.filter((number) => number < mine - KEPT_BEFORE)) {
    await unlink(join(folder, nameOf(old))).catch(() => undefined);
  }
  return mine;
}

async function giveUp(folder: string, mine: number): Promise<void> {
  const path = join(folder, nameOf(mine));
  const beside = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    await symlink(RELEASED, beside);
    await rename(beside, path);
  } catch {
    // Then the claim ends with the process.
    await unlink(beside).catch(() => undefined);
  }
}

/** False when there is one of that number. */
async function makeClaim(path: string, text: string): Promise<boolean> {
  try {
    await symlink(text, path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function claims(folder: string): Promise<number[]> {
  return (await readdir(folder))
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .toSorted((a, b) => a - b);
}

function nameOf(number: number): string {
  return `lock.${number}`;
}

/** Null when the claim is not there any more. What is no claim of ours, or was given up, has no living owner (pid 0). */
async function readOwner(path: string): Promise<Owner | null> {
  const text = await readlink(path).catch((error: unknown) => {
    const code = systemCode(error);
    if (code === 'ENOENT') return null;
    // EINVAL: a file, not a link.
    if (code === 'EINVAL') return RELEASED;
    throw error;
  });
  if (text === null) return null;
  const [pid = '', started = '', boot = ''] = text.split(' ');
  return { pid: Number(pid) || 0, started: started || null, boot: boot || null };
}

function textOf({ pid, started, boot }: Owner): string {
  return `${pid} ${started ?? ''} ${boot ?? ''}`;
}

async function lives(owner: Owner, self: Owner): Promise<boolean> {
  if (!Number.isSafeInteger(owner.pid) || owner.pid <= 0) return false;
  if (owner.boot !== self.boot) return false;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    // EPERM: it is there and somebody else's.
    if (systemCode(error) === 'ESRCH') return false;
  }
  const started = await startOf(owner.pid);
  return started === null || owner.started === null || started === owner.started;
}

async function ourselves(): Promise<Owner> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => null);
  return { pid: process.pid, started: await startOf(process.pid), boot: boot?.trim() ?? null };
}

/** When a process started, in the kernel's ticks since boot (proc(5), field 22 of stat); null where nobody tells. */
async function startOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null);
  if (stat === null) return null;
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}
