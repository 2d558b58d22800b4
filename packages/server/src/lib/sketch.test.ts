import fc from 'fast-check';
import { expect, test } from 'vitest';
import { binOf, mergeSketches, quantiles, RELATIVE_ERROR, valueOf, type Sketch } from './sketch.ts';

const value = fc.oneof(
  fc.constant(0),
  fc.double({ min: -1e120, max: 1e120, noNaN: true }).filter((v) => v === 0 || Math.abs(v) >= 1e-120),
  fc.double({ min: -100, max: 100, noNaN: true }).filter((v) => v === 0 || Math.abs(v) >= 1e-120),
);

function sketchOf(values: readonly number[]): Sketch {
  const counts = new Map<number, number>();
  for (const v of values) counts.set(binOf(v), (counts.get(binOf(v)) ?? 0) + 1);
  const bins = [...counts.keys()].sort((a, b) => a - b);
  return { bins, counts: bins.map((bin) => counts.get(bin) ?? 0) };
}

test('a value read back from its bin is at most 1 % off', () => {
  fc.assert(
    fc.property(value, (v) => {
      expect(Math.abs(valueOf(binOf(v)) - v)).toBeLessThanOrEqual(Math.abs(v) * (RELATIVE_ERROR + 1e-9));
    }),
  );
});

test('bins sort as their values do', () => {
  fc.assert(
    fc.property(value, value, (a, b) => {
      if (a < b) expect(binOf(a)).toBeLessThanOrEqual(binOf(b));
    }),
  );
});

test('a quantile lies within 1 % of the two values that it interpolates between', () => {
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1, maxLength: 200 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (values, q) => {
        const sorted = values.toSorted((a, b) => a - b);
        const [got = Number.NaN] = quantiles(sketchOf(values), [q], sorted[0] ?? 0, sorted.at(-1) ?? 0) ?? [];
        const rank = q * (sorted.length - 1);
        const low = sorted[Math.floor(rank)] ?? 0;
        const high = sorted[Math.ceil(rank)] ?? 0;
        const exact = low + (rank - Math.floor(rank)) * (high - low);
        const most = Math.max(Math.abs(low), Math.abs(high)) * (RELATIVE_ERROR + 1e-9);
        expect(Math.abs(got - exact)).toBeLessThanOrEqual(most);
      },
    ),
  );
});

test('a sketch of equal values answers that value, because the extremes are known', () => {
  expect(quantiles(sketchOf([7.3, 7.3, 7.3]), [0.5, 0.95, 0.99], 7.3, 7.3)).toEqual([7.3, 7.3, 7.3]);
});

test('an empty sketch has no quantiles', () => {
  expect(quantiles({ bins: [], counts: [] }, [0.5], 0, 0)).toBeNull();
});

test('sketches that are merged are the sketch of all their values', () => {
  fc.assert(
    fc.property(fc.array(fc.array(value)), (parts) => {
      expect(mergeSketches(parts.map(sketchOf))).toEqual(sketchOf(parts.flat()));
    }),
  );
});
