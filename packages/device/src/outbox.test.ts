import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openOutbox, type Outbox, type Report, type Waiting } from './outbox.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tocsin-outbox-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const NOW = Date.UTC(2026, 10, 28);
const BOUNDS = { bytes: 1_048_576, envelopes: 1000 };

function reportOf(value: number | string, urgent = false): Report {
  return { profile: 'seismic', urgent, count: 1, readings: JSON.stringify([{ at: NOW, value }]) };
}

async function open(
  folder = root,
  bounds = BOUNDS,
  dropped: (entry: Waiting) => void = () => undefined,
): Promise<Outbox> {
  return openOutbox({ folder, ...bounds, dropped });
}

/** Everything that waits, in the order it is handed out. */
async function drain(outbox: Outbox): Promise<{ id: string; readings: string }[]> {
  const found = [];
  for (let entry = outbox.take(0); entry !== null; entry = outbox.take(0)) {
    const report = await outbox.read(entry);
    found.push({ id: entry.id, readings: report?.readings ?? 'damaged' });
  }
  return found;
}

const files = (folder = root): string[] => readdirSync(folder).filter((name) => name.startsWith('outbox-'));
const bytesOnDisk = (): number => files().reduce((sum, name) => sum + statSync(join(root, name)).size, 0);

describe('the outbox', () => {
  it('gives back after a restart what was put and not settled, once, in order, with its id', async () => {
    const first = await open();
    const ids = [];
    for (let value = 0; value < 20; value += 1) ids.push(...(await first.put([reportOf(value)], NOW)));
    for (let count = 0; count < 5; count += 1) {
      const entry = first.take(0);
      if (entry !== null) await first.settle(entry);
    }
    await first.close();
    const second = await open();
    expect(await drain(second)).toEqual(
      ids.slice(5).map((id, index) => ({ id, readings: reportOf(index + 5).readings })),
    );
    await second.close();
  });

  it('without a close, as after kill -9, has all that was put', async () => {
    const killed = await open();
    const ids = (
      await Promise.all(Array.from({ length: 50 }, (_, value) => killed.put([reportOf(value)], NOW)))
    ).flat();
    const copy = mkdtempSync(join(root, 'copy-'));
    for (const name of files()) cpSync(join(root, name), join(copy, name));
    const next = await open(copy);
    expect((await drain(next)).map(({ id }) => id)).toEqual(ids);
    await next.close();
    await killed.close();
  });

  it('torn at every byte has every record before the tear, once, and goes on from there', async () => {
    const killed = await open();
    const ids: string[] = [];
    const ends: number[] = [];
    const path = join(root, 'outbox-0000000001.log');
    for (let value = 0; value < 4; value += 1) {
      ids.push(...(await killed.put([reportOf(value)], NOW)));
      ends.push(statSync(path).size);
    }
    await killed.close();
    const whole = readFileSync(path);
    const folder = mkdtempSync(join(root, 'torn-'));
    for (let cut = 0; cut <= whole.length; cut += 1) {
      for (const name of files(folder)) rmSync(join(folder, name));
      writeFileSync(join(folder, 'outbox-0000000001.log'), whole.subarray(0, cut));
      const torn = await open(folder);
      const survivors = ids.slice(0, ends.filter((end) => end <= cut).length);
      expect(torn.count()).toBe(survivors.length);
      if (cut % 7 !== 0) {
        await torn.close();
        continue;
      }
      const [added] = await torn.put([reportOf('more')], NOW);
      await torn.close();
      const again = await open(folder);
      expect((await drain(again)).map(({ id }) => id)).toEqual([...survivors, added]);
      await again.close();
    }
  }, 60_000);

  it('with any sequence of puts, settlements, closes and crashes invents nothing, doubles nothing, loses nothing', async () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ put: fc.integer({ min: 1, max: 4 }), size: fc.nat(30_000) }) },
      { weight: 4, arbitrary: fc.record({ settle: fc.integer({ min: 1, max: 6 }) }) },
      { weight: 1, arbitrary: fc.constant({ crash: true as const }) },
      { weight: 1, arbitrary: fc.constant({ close: true as const }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const folder = mkdtempSync(join(root, 'run-'));
        let outbox = await open(folder);
        const crashed: Outbox[] = [];
        let expected: string[] = [];
        for (const each of steps) {
          if ('put' in each) {
            const reports = Array.from({ length: each.put }, () => reportOf('x'.repeat(each.size)));
            expected.push(...(await outbox.put(reports, NOW)));
          } else if ('settle' in each) {
            for (let count = 0; count < each.settle; count += 1) {
              const entry = outbox.take(0);
              if (entry === null) break;
              expect((await outbox.read(entry))?.count).toBe(1);
              await outbox.settle(entry);
              expected = expected.filter((id) => id !== entry.id);
            }
          } else {
            // A crash that the disk survives: what was written is there, nobody closed anything.
            if ('close' in each) await outbox.close();
            else crashed.push(outbox);
            outbox = await open(folder);
            expect(outbox.damaged()).toBe(0);
          }
          expect(outbox.count()).toBe(expected.length);
        }
        const again = await open(folder);
        expect((await drain(again)).map(({ id }) => id)).toEqual(expected);
        for (const each of [...crashed, outbox, again]) await each.close();
      }),
      { numRuns: 40 },
    );
  }, 60_000);

  it('drops the oldest telemetry when it is full, tells of each, and keeps urgent ones', async () => {
    const dropped: string[] = [];
    const outbox = await open(root, { bytes: BOUNDS.bytes, envelopes: 5 }, ({ id }) => dropped.push(id));
    const urgent = await outbox.put([reportOf('urgent', true)], NOW);
    const telemetry: string[] = [];
    for (let value = 0; value < 10; value += 1) telemetry.push(...(await outbox.put([reportOf(value)], NOW)));
    expect(dropped).toEqual(telemetry.slice(0, 6));
    await outbox.close();
    const again = await open(root, { bytes: BOUNDS.bytes, envelopes: 5 });
    expect((await drain(again)).map(({ id }) => id)).toEqual([...urgent, ...telemetry.slice(6)]);
    await again.close();
  });

  it('full of urgent ones refuses telemetry, and lets the oldest urgent go for an urgent one', async () => {
    const dropped: string[] = [];
    const outbox = await open(root, { bytes: BOUNDS.bytes, envelopes: 2 }, ({ id }) => dropped.push(id));
    const [first] = await outbox.put([reportOf(1, true)], NOW);
    await outbox.put([reportOf(2, true)], NOW);
    await expect(outbox.put([reportOf(3)], NOW)).rejects.toMatchObject({ code: 'outbox-full' });
    expect(dropped).toEqual([]);
    await outbox.put([reportOf(4, true)], NOW);
    expect(dropped).toEqual([first]);
    await outbox.close();
  });

  it('opened with smaller bounds drops down to them', async () => {
    const large = await open();
    const ids = (await Promise.all(Array.from({ length: 20 }, (_, value) => large.put([reportOf(value)], NOW)))).flat();
    await large.close();
    const dropped: string[] = [];
    const small = await open(root, { bytes: BOUNDS.bytes, envelopes: 5 }, ({ id }) => dropped.push(id));
    expect(dropped).toEqual(ids.slice(0, 15));
    await small.close();
  });

  it('takes little more of the disk than what waits, also when one old envelope never goes', async () => {
    const outbox = await open();
    const [stuck] = await outbox.put([reportOf('stuck')], NOW);
    const first = outbox.take(0);
    if (first === null) throw new Error('nothing waits');
    outbox.giveBack(first, 1e12);
    let most = 0;
    for (let round = 0; round < 120; round += 1) {
      await outbox.put(
        Array.from({ length: 4 }, () => reportOf('x'.repeat(10_000))),
        NOW,
      );
      for (let entry = outbox.take(0); entry !== null; entry = outbox.take(0)) await outbox.settle(entry);
      most = Math.max(most, bytesOnDisk());
    }
    expect(most).toBeLessThan(6 * 65_536);
    await outbox.close();
    const again = await open();
    expect((await drain(again)).map(({ id }) => id)).toEqual([stuck]);
    await again.close();
  });

  it('leaves no file behind once everything is settled', async () => {
    const outbox = await open();
    await outbox.put([reportOf(1), reportOf(2)], NOW);
    for (let entry = outbox.take(0); entry !== null; entry = outbox.take(0)) await outbox.settle(entry);
    await outbox.close();
    expect(files()).toEqual([]);
  });

  it('says of an envelope that the disk has damaged since that it is gone', async () => {
    const outbox = await open();
    await outbox.put([reportOf(1)], NOW);
    truncateSync(join(root, files()[0] ?? ''), 10);
    const entry = outbox.take(0);
    if (entry === null) throw new Error('nothing waits');
    expect(await outbox.read(entry)).toBeNull();
    await outbox.close();
  });

  it('rejects a report of several envelopes as a whole', async () => {
    const outbox = await open(root, { bytes: BOUNDS.bytes, envelopes: 3 });
    await expect(
      outbox.put(
        [1, 2, 3, 4].map((value) => reportOf(value)),
        NOW,
      ),
    ).rejects.toMatchObject({ code: 'outbox-full' });
    expect(outbox.count()).toBe(0);
    await outbox.close();
  });

  it('in a folder that is gone rejects with a code, and works again when it is back', async () => {
    const folder = mkdtempSync(join(root, 'gone-'));
    const outbox = await open(folder);
    rmSync(folder, { recursive: true });
    await expect(outbox.put([reportOf(1)], NOW)).rejects.toMatchObject({ code: 'folder-unusable' });
    expect(outbox.count()).toBe(0);
    mkdirSync(folder);
    await outbox.put([reportOf(2)], NOW);
    expect(outbox.count()).toBe(1);
    await outbox.close();
  });
});
