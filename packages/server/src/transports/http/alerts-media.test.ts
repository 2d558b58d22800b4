import { expect, test } from 'vitest';
import { preferredType } from './alerts-media.ts';

const JSON_TYPE = 'application/json';
const CAP = 'application/cap+xml';

test.each([
  [undefined, JSON_TYPE],
  ['', JSON_TYPE],
  ['*/*', JSON_TYPE],
  ['application/*', JSON_TYPE],
  [CAP, CAP],
  ['Application/CAP+XML; charset=utf-8', CAP],
  [`${CAP}, */*;q=0.1`, CAP],
  [`${JSON_TYPE}, ${CAP}`, JSON_TYPE],
  [`${CAP};q=0.9, ${JSON_TYPE};q=0.8`, CAP],
  [`${CAP};q=0.8, ${JSON_TYPE};q=0.9`, JSON_TYPE],
  [`${CAP};q=0, */*`, JSON_TYPE],
  [`${JSON_TYPE};q=0, */*;q=0.1`, CAP],
  [`application/*;q=0.2, ${CAP};q=0.1`, JSON_TYPE],
  ['text/html', JSON_TYPE],
  [`${CAP};q=2`, JSON_TYPE],
  [`${CAP};q=x`, JSON_TYPE],
  [`${CAP}, `.repeat(1000), JSON_TYPE],
] as const)('Accept: %s is answered with %s', (accept, type) => {
  expect(preferredType(accept, [JSON_TYPE, CAP])).toBe(type);
});
