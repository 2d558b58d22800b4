import { describe, expect, test } from 'vitest';
import { type Baseline, learn, learnEmpty, NOTHING_USUAL, thresholdOf } from './baseline.ts';

const OPTIONS = { floor: 100, warmUp: 30 };
const after = (counts: readonly number[], from: Baseline = NOTHING_USUAL): Baseline =>
  counts.reduce((baseline, counted) => learn(OPTIONS, baseline, counted), from);
const steady = (counted: number, windows: number): number[] => Array.from({ length: windows }, () => counted);

describe('what is usual', () => {
  test('is not known before the warm-up has passed', () => {
    expect(thresholdOf(OPTIONS, after(steady(50, 29)))).toBeNull();
    expect(thresholdOf(OPTIONS, after(steady(50, 30)))).toBe(150);
  });

  test('never makes a threshold below the floor', () => {
    expect(thresholdOf(OPTIONS, after(steady(1, 1000)))).toBe(100);
    expect(thresholdOf(OPTIONS, learnEmpty(OPTIONS, NOTHING_USUAL, 1000))).toBe(100);
  });

  test('is at first the plain average of the windows', () => {
    expect(after([10, 20, 30]).mean).toBeCloseTo(20);
  });

  test('allows for more where the numbers vary more', () => {
    const varying = after(Array.from({ length: 1000 }, (_, n) => (n % 2 === 0 ? 100 : 900)));
    expect(varying.mean).toBeGreaterThan(450);
    expect(thresholdOf(OPTIONS, varying)).toBeGreaterThan(3000);
    expect(thresholdOf(OPTIONS, after(steady(500, 1000)))).toBeCloseTo(1500);
  });

  test('moves little by one flood, however large, and follows one that stays', () => {
    const before = after(steady(100, 200));
    expect(after([1_000_000], before).mean).toBeLessThan(107);
    expect(after(steady(1000, 100), before).mean).toBeGreaterThan(500);
  });

  test('of windows without anything is the same one by one and all at once', () => {
    const before = after(steady(100, 200));
    expect(learnEmpty(OPTIONS, before, 50)).toEqual(after(steady(0, 50), before));
    const long = learnEmpty(OPTIONS, before, 1e9);
    expect(long.seen).toBe(1e9 + 200);
    expect(long.mean).toBeLessThan(1e-40);
  });
});
