import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemTime } from '../time-source.ts';
import { createMachine, MeasureError } from './machine.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-machine-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('this machine', () => {
  it.each([undefined, null])('says numbers that can be (proc %j)', async (proc) => {
    const machine = createMachine({ disk: folder, time: systemTime, ...(proc === undefined ? {} : { proc }) });
    const { busy, total } = await machine.cpuTimes();
    expect(busy).toBeGreaterThan(0);
    expect(total).toBeGreaterThanOrEqual(busy);
    for (const percent of [await machine.memoryPercent(), await machine.diskPercent()]) {
      expect(percent).toBeGreaterThan(0);
      expect(percent).toBeLessThanOrEqual(100);
    }
  });

  it('says what cannot be read, by its path', async () => {
    const gone = createMachine({ disk: join(folder, 'gone'), time: systemTime, proc: folder });
    await expect(gone.cpuTimes()).rejects.toThrow(`${folder}/stat cannot be read: ENOENT`);
    await expect(gone.memoryPercent()).rejects.toThrow(MeasureError);
    await expect(gone.diskPercent()).rejects.toThrow('gone cannot be asked: ENOENT');
    writeFileSync(join(folder, 'stat'), 'nonsense');
    await expect(gone.cpuTimes()).rejects.toThrow('says nothing that can be used');
  });

  it.skipIf(process.platform !== 'linux')('has file systems without a size, which say nothing', async () => {
    await expect(createMachine({ disk: '/proc', time: systemTime }).diskPercent()).rejects.toThrow(MeasureError);
  });
});
