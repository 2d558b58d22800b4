import { expect, test } from 'vitest';
import { createIdFactory, isUlid } from './ulid.ts';

test('a ULID says its time in the first ten characters', () => {
  // The example of the specification.
  expect(createIdFactory()(1469918176385).slice(0, 10)).toBe('01ARYZ6S41');
});

test('ids rise strictly within a millisecond, across milliseconds and when the clock goes back', () => {
  const next = createIdFactory();
  const ids = [5, 5, 5.9, 5.2, 6, 3, 6, 1e12, 7].flatMap((now) => [next(now), next(now)]);
  expect(ids.every(isUlid)).toBe(true);
  expect(new Set(ids).size).toBe(ids.length);
  expect([...ids].sort()).toEqual(ids);
});

test('when the random bits run over, the order holds all the same', () => {
  const next = createIdFactory(() => (1n << 80n) - 1n);
  expect([next(9), next(9), next(9)]).toEqual([
    '0000000009ZZZZZZZZZZZZZZZZ',
    '000000000AZZZZZZZZZZZZZZZZ',
    '000000000BZZZZZZZZZZZZZZZZ',
  ]);
});

test.each(['', '01ARYZ6S41', '81ARYZ6S41TSV4RRFFQ69G5FAV', '01aryz6s41tsv4rrffq69g5fav', '01ARYZ6S41TSV4RRFFQ69G5FAU'])(
  '%s is not a ULID',
  (text) => {
    expect(isUlid(text)).toBe(false);
  },
);
