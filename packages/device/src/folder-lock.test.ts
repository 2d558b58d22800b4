import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockFolder } from './folder-lock.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The pid of a process that has ended. */
const deadPid = (): number => spawnSync(process.execPath, ['-e', '']).pid;
const claim = (number: number, pid: number | undefined, started = '', boot = ''): void =>
  symlinkSync(`${pid} ${started} ${boot}`, join(folder, `lock.${number}`));
/** What our own claim says; it is given up. */
async function ownClaim(): Promise<{ started: string; boot: string }> {
  const ours = await lockFolder(folder);
  const [, started = '', boot = ''] = readlinkSync(join(folder, readdirSync(folder)[0] ?? '')).split(' ');
  await ours.release();
  return { started, boot };
}

describe('the claim on a folder', () => {
  it('is one at a time, and free again once it is given up', async () => {
    const first = await lockFolder(folder);
    await expect(lockFolder(folder)).rejects.toMatchObject({
      code: 'folder-in-use',
      message: expect.stringContaining(String(process.pid)),
    });
    await first.release();
    const second = await lockFolder(folder);
    await second.release();
  });

  it('goes to exactly one of many who want it at once, also over a dead owner', async () => {
    for (let round = 0; round < 10; round += 1) {
      const outcomes = await Promise.allSettled(Array.from({ length: 12 }, () => lockFolder(folder)));
      const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      expect(won).toHaveLength(1);
      const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
      for (const { reason } of lost) expect(reason).toMatchObject({ code: 'folder-in-use' });
      await won[0]?.release();
    }
    expect(readdirSync(folder).length).toBeLessThanOrEqual(4);
  });

  it.runIf(process.platform === 'linux')('is not held by a process that has died', async () => {
    const { boot } = await ownClaim();
    claim(7, deadPid(), '', boot);
    await expect(lockFolder(folder)).resolves.toBeDefined();
  });

  it.runIf(process.platform === 'linux')(
    'is not held by another process that has the pid now, or from before this boot',
    async () => {
      const { started, boot } = await ownClaim();
      claim(7, process.pid, '1', boot);
      await expect(lockFolder(folder)).resolves.toBeDefined();
      claim(20, process.pid, started, 'another-boot');
      await expect(lockFolder(folder)).resolves.toBeDefined();
      claim(30, process.pid, started, boot);
      await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'folder-in-use' });
    },
  );

  it.runIf(process.platform === 'linux')('is held by another process that lives', async () => {
    const child = spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'ignore'] });
    try {
      const { boot } = await ownClaim();
      claim(9, child.pid, '', boot);
      await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'folder-in-use' });
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('that is no claim at all is nobody', async () => {
    writeFileSync(join(folder, 'lock.3'), 'nonsense');
    symlinkSync('nonsense', join(folder, 'lock.4'));
    writeFileSync(join(folder, 'lock.x'), 'nonsense');
    await expect(lockFolder(folder)).resolves.toBeDefined();
  });

  it('on a folder that is not there is refused', async () => {
    await expect(lockFolder(join(folder, 'none'))).rejects.toMatchObject({ code: 'folder-unusable' });
  });
});
