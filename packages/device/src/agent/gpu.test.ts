import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createFakeTime, type FakeTime } from '../fake-time.suite.ts';
import { systemTime } from '../time-source.ts';
import { type AskNvidia, createGpu, type Gpu } from './gpu.ts';

/** A nvidia-smi of the test's own. */
function scripted(): { readonly ask: AskNvidia; asked: number; answer: (text: string | null) => Promise<void> } {
  let resolve: (text: string | null) => void = () => undefined;
  const self = {
    asked: 0,
    ask: (() => {
      self.asked += 1;
      return new Promise<string | null>((settle) => (resolve = settle));
    }) as AskNvidia,
    answer: async (text: string | null) => {
      resolve(text);
      await new Promise((done) => setImmediate(done));
    },
  };
  return self;
}

function make(ask: AskNvidia): { gpu: Gpu; time: FakeTime } {
  const time = createFakeTime(0);
  return { gpu: createGpu({ ask, freshMs: 15_000, time, random: () => 0.5 }), time };
}

describe('the GPU', () => {
  it('is the last number that was heard, until that is too old', async () => {
    const nvidia = scripted();
    const { gpu, time } = make(nvidia.ask);
    expect(gpu.percent()).toBeNull();
    gpu.ask();
    await nvidia.answer('12\n80\n');
    expect(gpu.percent()).toBe(80);
    time.advance(15_000);
    expect(gpu.percent()).toBe(80);
    time.advance(1);
    expect(gpu.percent()).toBeNull();
  });

  it('is asked one question at a time, however long that hangs', async () => {
    const nvidia = scripted();
    const { gpu, time } = make(nvidia.ask);
    for (let frame = 0; frame < 100; frame += 1) {
      gpu.ask();
      time.advance(5000);
    }
    expect(nvidia.asked).toBe(1);
    await nvidia.answer('7');
    gpu.ask();
    expect(nvidia.asked).toBe(2);
  });

  it('is asked less and less often while it fails, at least once an hour, and as before once it works', async () => {
    const nvidia = scripted();
    const { gpu, time } = make(nvidia.ask);
    const asked: number[] = [];
    for (let frame = 0; frame < 24 * 720; frame += 1) {
      const before = nvidia.asked;
      gpu.ask();
      if (nvidia.asked > before) {
        asked.push(frame * 5);
        await nvidia.answer(null);
      }
      time.advance(5000);
    }
    expect(asked.length).toBeGreaterThanOrEqual(24);
    expect(asked.length).toBeLessThan(60);
    expect(asked.slice(0, 3)).toEqual([0, 35, 105]);
    time.advance(3_600_000);
    gpu.ask();
    await nvidia.answer('5');
    time.advance(5000);
    const before = nvidia.asked;
    gpu.ask();
    expect(nvidia.asked).toBe(before + 1);
  });

  it('is not asked any more once it is closed', () => {
    const nvidia = scripted();
    const { gpu } = make(nvidia.ask);
    gpu.close();
    gpu.ask();
    expect(nvidia.asked).toBe(0);
  });
});

describe('the program nvidia-smi', () => {
  const path = process.env['PATH'];
  let folder = '';
  afterEach(() => {
    process.env['PATH'] = path;
    rmSync(folder, { recursive: true, force: true });
  });

  async function run(script: string | null): Promise<Gpu> {
    folder = mkdtempSync(join(tmpdir(), 'tocsin-gpu-'));
    if (script !== null) {
      writeFileSync(join(folder, 'nvidia-smi'), `#!/bin/sh\n${script}\n`);
      chmodSync(join(folder, 'nvidia-smi'), 0o755);
    }
    process.env['PATH'] = script === null ? folder : `${folder}${delimiter}${path ?? ''}`;
    return createGpu({ freshMs: 60_000, time: systemTime, random: Math.random });
  }

  it.skipIf(process.platform === 'win32')('is asked for the load of every GPU', async () => {
    const gpu = await run(
      '[ "$*" = "--query-gpu=utilization.gpu --format=csv,noheader,nounits" ] && printf "11\\n64\\n"',
    );
    gpu.ask();
    await expect.poll(() => gpu.percent(), { timeout: 15_000 }).toBe(64);
  });

  it.skipIf(process.platform === 'win32')(
    'may be missing, fail, or hang: there is no number, and nobody waits',
    async () => {
      for (const script of [null, 'exit 9', 'exec sleep 600']) {
        const gpu = await run(script);
        gpu.ask();
        expect(gpu.percent()).toBeNull();
        gpu.close();
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});
