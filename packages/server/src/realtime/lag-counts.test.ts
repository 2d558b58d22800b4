import fc from 'fast-check';
import { expect, test } from 'vitest';
import { quantiles, RELATIVE_ERROR } from '../lib/sketch.ts';
import { createLagCounts, LAG_MOST_MS } from './lag-counts.ts';

const lag = fc.oneof(fc.nat(50), fc.nat(20_000), fc.nat(LAG_MOST_MS));

test('quantiles of the counts are within 1 % of the exact ones', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(lag, fc.integer({ min: 1, max: 5 })), { minLength: 1 }), (added) => {
      const counts = createLagCounts();
      const all: number[] = [];
      for (const [ms, count] of added) {
        counts.add(ms, count);
        all.push(...Array<number>(count).fill(ms));
      }
      all.sort((a, b) => a - b);
      const found = quantiles(counts.sketch(), [0, 0.5, 0.99, 1], 0, LAG_MOST_MS) ?? [];
      for (const [index, q] of [0, 0.5, 0.99, 1].entries()) {
        const rank = q * (all.length - 1);
        const low = all[Math.floor(rank)] ?? 0;
        const exact = low + (rank - Math.floor(rank)) * ((all[Math.ceil(rank)] ?? 0) - low);
        expect(Math.abs((found[index] ?? 0) - exact)).toBeLessThanOrEqual(exact * (RELATIVE_ERROR + 1e-9));
      }
    }),
  );
});

test('what seems to come before its message counts as 0, what is over an hour as an hour', () => {
  const counts = createLagCounts();
  counts.add(-5, 2);
  counts.add(Number.NaN, 1);
  counts.add(1e12, 1);
  const { bins, counts: held } = counts.sketch();
  expect([bins[0], held]).toEqual([0, [3, 1]]);
  counts.add(LAG_MOST_MS, 1);
  expect(counts.sketch().counts).toEqual([3, 2]);
});

test('cleared counts are empty, as are new ones', () => {
  const counts = createLagCounts();
  expect(counts.sketch()).toEqual({ bins: [], counts: [] });
  counts.add(7, 1);
  counts.clear();
  expect(counts.sketch()).toEqual({ bins: [], counts: [] });
});
