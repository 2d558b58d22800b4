import { describe, expect, test } from 'vitest';
import { degreesOfFreedom, ratioAt, recursiveStaLta } from './sta-lta.ts';

describe('recursive STA/LTA', () => {
  test("it is ObsPy's formula sample by sample", () => {
    const trace = Array.from({ length: 200 }, (_, i) => Math.sin(i * 0.7) * (i > 120 ? 5 : 1));
    const ratios = recursiveStaLta(trace, 5, 50);
    let [sta, lta] = [0, 1e-99];
    trace.forEach((value, i) => {
      if (i === 0) return;
      sta = (1 / 5) * value ** 2 + (1 - 1 / 5) * sta;
      lta = (1 / 50) * value ** 2 + (1 - 1 / 50) * lta;
      expect(ratios[i]).toBeCloseTo(i < 50 ? 0 : sta / lta, 9);
    });
  });

  test('the ratio of a number of standard deviations is the quantile of chi-square', () => {
    // Tables: upper 0.1 % of chi-square is 36.12 with 14 degrees of freedom, 76.08 with 42; 3.0902 standard deviations.
    expect(Math.abs(ratioAt(3.0902, 14) * 14 - 36.12)).toBeLessThan(0.2);
    expect(Math.abs(ratioAt(3.0902, 42) * 42 - 76.08)).toBeLessThan(0.2);
    expect(ratioAt(0, 1000)).toBeCloseTo(1, 2);
  });

  test('a recursive average has twice the freedom of a plain one of the same length', () => {
    expect(degreesOfFreedom(9, 0.5)).toBe(18);
  });
});
