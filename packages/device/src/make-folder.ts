/**
 * Makes a folder. Node 20's recursive `mkdir` never settles where the system says that there is nothing (below `/proc`), and
 * keeps a core busy with it; here each folder is tried once.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from './device-error.ts';

const MODE = 0o700;

/** Makes `folder` and what is missing above it, for the owner only. Rejects with the error of the system. */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: MODE });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST' && (await stat(folder)).isDirectory()) return;
    const parent = dirname(folder);
    if (code !== 'ENOENT' || parent === folder) throw error;
    await makeFolder(parent);
    await mkdir(folder, { mode: MODE }).catch(async (again: unknown) => {
      // Somebody else made it meanwhile.
      if (systemCode(again) !== 'EEXIST' || !(await stat(folder)).isDirectory()) throw again;
    });
  }
}
