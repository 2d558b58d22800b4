import { expect, test } from 'vitest';
import { fingerprint } from './fingerprint.ts';

test('a fingerprint is the same for ever: kind, key and onset decide, nothing else', () => {
  expect(fingerprint('seismic.swarm', 'zone:z1', 1_795_000_000_000)).toBe(
    '44a02291ba6460210de739665edb25ed0cd20b13b793d57b74af51e4b252efe0',
  );
});

test('another kind, key or onset is another fingerprint, also where the texts run together', () => {
  const prints = [
    fingerprint('a', 'b', 1),
    fingerprint('a', 'b', 11),
    fingerprint('a', 'b1', 1),
    fingerprint('ab', '', 1),
    fingerprint('a","b', '', 1),
  ];
  expect(new Set(prints).size).toBe(prints.length);
});
