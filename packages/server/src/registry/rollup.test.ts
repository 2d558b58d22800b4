import { expect, test } from 'vitest';
import type { RollupOutcome } from '../store/ports/statistics.ts';
import { createRollup, nextStretch } from './rollup.ts';

test('a stretch goes towards the readings that a transaction can carry, by small steps and within bounds', () => {
  expect(nextStretch(60_000, 100_000)).toBe(60_000);
  expect(nextStretch(60_000, 200_000)).toBe(30_000);
  expect(nextStretch(60_000, 50_000_000)).toBe(15_000);
  expect(nextStretch(60_000, 0)).toBe(240_000);
  expect(nextStretch(100, 50_000_000)).toBe(100);
  expect(nextStretch(86_400_000, 0)).toBe(86_400_000);
});

interface Scripted {
  readonly calls: number[];
  readonly indexed: [number, number][];
  roll(end: number, stretch: number): Promise<RollupOutcome>;
  indexNewest(from: number, until: number): Promise<void>;
}

function scripted(outcomes: (RollupOutcome | Error)[]): Scripted {
  const calls: number[] = [];
  const indexed: [number, number][] = [];
  return {
    calls,
    indexed,
    indexNewest: async (from, until) => void indexed.push([from, until]),
    roll: async (_end, stretch) => {
      calls.push(stretch);
      const next = outcomes.shift() ?? { kind: 'busy' };
      if (next instanceof Error) throw next;
      return next;
    },
  };
}

test('a pass goes on until all that is complete is rolled up', async () => {
  const store = scripted([
    { kind: 'rolled', until: 10, readings: 5 },
    { kind: 'rolled', until: 100, readings: 7 },
  ]);
  const rollup = createRollup({ store, completeUntil: async () => 100, failed: () => {} });
  expect(await rollup.pass()).toBe(12);
  expect(store.calls).toHaveLength(2);
  expect(store.indexed).toEqual([[100 - 86_400_000, 100]]);
});

test('a pass ends when another process is at it', async () => {
  const store = scripted([{ kind: 'busy' }]);
  expect(await createRollup({ store, completeUntil: async () => 100, failed: () => {} }).pass()).toBe(0);
  expect(store.indexed).toEqual([]);
});

test('a stretch that failed is half as long the next time', async () => {
  const store = scripted([new Error('too long'), { kind: 'rolled', until: 100, readings: 1 }]);
  const rollup = createRollup({ store, completeUntil: async () => 100, failed: () => {} });
  await expect(rollup.pass()).rejects.toThrow('too long');
  await rollup.pass();
  expect(store.calls).toEqual([60_000, 30_000]);
});

test('the job tells of a failure, goes on after it and ends when told to', async () => {
  let release = (): void => {};
  const again = new Promise<void>((resolve) => {
    release = resolve;
  });
  const failures: unknown[] = [];
  const store = scripted([new Error('away')]);
  const rollup = createRollup({
    store: {
      ...store,
      roll: (end, stretch) => {
        if (failures.length > 0) release();
        return store.roll(end, stretch);
      },
    },
    completeUntil: async () => 100,
    restMs: 1,
    failed: (error) => failures.push(error),
  });
  rollup.start();
  await again;
  await rollup.stop();
  expect(failures).toHaveLength(1);
});
