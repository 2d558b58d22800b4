import { expect, test } from 'vitest';
import { growsSteadily } from './soak-verdict.ts';

const series = (length: number, value: (i: number) => number): number[] => Array.from({ length }, (_, i) => value(i));

test('memory that grows in every part of the run grows steadily, whatever the collector does in between', () => {
  expect(growsSteadily(series(60, (i) => 100 + i + (i % 3) * 40))).toBe(true);
});

test('memory that swings, or grows only while it warms up, does not', () => {
  expect(growsSteadily(series(60, (i) => 100 + (i % 7) * 20))).toBe(false);
  expect(growsSteadily(series(60, (i) => Math.min(300, 100 + i * 20)))).toBe(false);
});

test('a little growth, or a run of fewer than ten samples, says nothing', () => {
  expect(growsSteadily(series(60, (i) => 200 + i * 0.3))).toBe(false);
  expect(growsSteadily([1, 2, 3, 4, 5, 6])).toBe(false);
});
