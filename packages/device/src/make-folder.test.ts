import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeFolder } from './make-folder.ts';

describe('a folder', () => {
  let home: string;
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'tocsin-folder-'));
  });
  afterAll(() => rm(home, { recursive: true, force: true }));

  it('is made with what is missing above it, for its owner only, and again without harm', async () => {
    const folder = join(home, 'a', 'b', 'c');
    await Promise.all([makeFolder(folder), makeFolder(folder)]);
    await makeFolder(folder);
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
  });

  it('is refused where a file stands, or the system lets nobody make any', async () => {
    await writeFile(join(home, 'file'), '');
    await expect(makeFolder(join(home, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeFolder(join(home, 'file', 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(makeFolder('/proc/tocsin/below')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
