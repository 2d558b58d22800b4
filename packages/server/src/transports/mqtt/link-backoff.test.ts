import { expect, test } from 'vitest';
import { createBackoff, HELD_MS } from './link-backoff.ts';

test('waits double from the least to the most', () => {
  const backoff = createBackoff(1000, 60_000, () => 0.5);
  expect(Array.from({ length: 8 }, () => backoff.next())).toEqual([
    1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000,
  ]);
});

test('each wait is moved by at most a fifth to either side', () => {
  expect(createBackoff(1000, 60_000, () => 0).next()).toBe(800);
  expect(createBackoff(1000, 60_000, () => 1).next()).toBe(1200);
});

test('a connection that held begins the waits anew, one that did not goes on with them', () => {
  const backoff = createBackoff(1000, 60_000, () => 0.5);
  backoff.next();
  backoff.next();
  backoff.held(HELD_MS - 1);
  expect(backoff.next()).toBe(4000);
  backoff.held(HELD_MS);
  expect(backoff.next()).toBe(1000);
});
