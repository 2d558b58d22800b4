import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createHistogram, histogramOf } from './histogram.ts';

const durations = fc.array(fc.double({ min: 0.001, max: 2_000_000, noNaN: true }), { minLength: 1, maxLength: 200 });

function exact(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(1, Math.ceil(q * values.length)) - 1] ?? 0;
}

describe('histogram', () => {
  it('answers every quantile within 1 % of the exact one, or 1 µs', () => {
    fc.assert(
      fc.property(durations, fc.double({ min: 0, max: 1, noNaN: true }), (values, q) => {
        const histogram = createHistogram();
        for (const value of values) histogram.add(value);
        const wanted = exact(values, q);
        expect(Math.abs(histogram.quantile(q) - wanted)).toBeLessThanOrEqual(Math.max(0.001, wanted * 0.01));
      }),
    );
  });

  it('is the same whether values went into one or into several that were merged', () => {
    fc.assert(
      fc.property(durations, durations, (one, other) => {
        const [first, second, whole] = [createHistogram(), createHistogram(), createHistogram()];
        for (const value of one) first.add(value);
        for (const value of other) second.add(value);
        for (const value of [...one, ...other]) whole.add(value);
        const merged = histogramOf(first.record());
        merged.merge(second.record());
        expect(merged.record()).toEqual(whole.record());
        expect(merged.count).toBe(one.length + other.length);
      }),
    );
  });

  it('counts what is beyond its range and before zero at its ends', () => {
    const histogram = createHistogram();
    histogram.add(-5);
    histogram.add(1e12);
    expect([histogram.count, histogram.quantile(0), histogram.greatest]).toEqual([2, 0, 1e12]);
    expect(createHistogram().quantile(0.5)).toBe(0);
  });
});
