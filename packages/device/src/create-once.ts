/**
 * Files that are made once and then only read: whole or not at all, whoever else tries at the same moment.
 *
 * The content goes to a file beside it, onto the disk, and gets its name by a hard link, which fails where the name is
 * taken. Failure: as `node:fs` has it; what is half made is removed.
 */
import { randomBytes } from 'node:crypto';
import { link, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from './device-error.ts';

/** Makes the file with mode 0600; false when one of that name is there already, which is left as it is. */
export async function createOnce(path: string, content: string): Promise<boolean> {
  const beside = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    const file = await open(beside, 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(beside, path);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await unlink(beside).catch(() => undefined);
  }
  await syncFolder(dirname(path));
  return true;
}

/** Puts the names of a folder's files onto the disk. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
