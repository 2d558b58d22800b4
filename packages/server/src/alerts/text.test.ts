import { LIMITS } from '@tocsin/protocol/limits';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonical } from '../lib/canonical-json.ts';
import { cleanEvidence, cleanHeadline, cleanText } from './text.ts';

test.each([
  ['C0', 'a\u0000\u0007\u001bb', 'ab'],
  ['DEL and C1', 'a\u007f\u0080\u009fb', 'ab'],
  ['overrides and isolates of direction', 'a\u202e\u2066\u2069b', 'ab'],
  ['noncharacters', 'a\ufffe\uffffb', 'ab'],
  ['line ends and separators, as one space', 'a\r\n\u2028\u2029\u0085b', 'a b'],
  ['lone surrogates, as U+FFFD', 'a\ud800b', 'a\ufffdb'],
])('%s do not reach viewers', (_name, text, clean) => {
  expect(cleanText(text, 100)).toBe(clean);
});

test('markup and other scripts stay as they are', () => {
  const text = '<b>Erdbeben</b> & زلزال 地震 👩‍🚒';
  expect(cleanText(text, 100)).toBe(text);
});

test('a text that is too long ends in an ellipsis and never in half a character', () => {
  expect(cleanText('abcdef', 5)).toBe('abcd…');
  expect(cleanText('abc😀f', 5)).toBe('abc…');
  expect(cleanHeadline('x'.repeat(100_000))).toHaveLength(LIMITS.headlineCharacters.value);
});

test('whatever comes in, a line of bounded, well-formed text comes out, and a second pass changes nothing', () => {
  const units = fc.array(fc.integer({ min: 0, max: 0xffff })).map((codes) => String.fromCharCode(...codes));
  fc.assert(
    fc.property(units, fc.integer({ min: 2, max: 40 }), (text, most) => {
      const clean = cleanText(text, most);
      expect(clean.length).toBeLessThanOrEqual(most);
      expect(clean).not.toMatch(/[\u0000-\u001F\u007F-\u009F\u2028-\u202E\u2066-\u2069]|\p{Surrogate}/u);
      expect(cleanText(clean, most)).toBe(clean);
    }),
  );
});

test('evidence keeps at most the first envelopes', () => {
  const most = LIMITS.evidenceEnvelopes.value;
  const envelopes = Array.from({ length: most + 5 }, (_, index) => ({ deviceId: `d${index}`, envelopeId: 'e' }));
  const clean = cleanEvidence({ sensors: most + 5, envelopes });
  expect(clean).toEqual({ sensors: most + 5, envelopes: envelopes.slice(0, most) });
});

test('evidence that is hostile becomes small plain JSON', () => {
  const deep = (levels: number): unknown => (levels === 0 ? 'x' : { inner: deep(levels - 1) });
  const wide = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`k${index}`, index]));
  const matrix = Array.from({ length: 1000 }, () => Array.from({ length: 1000 }, () => 'y'.repeat(1000)));
  const clean = cleanEvidence({ deep: deep(100), wide, bad: Number.NaN, fn: () => 1, matrix });
  expect(clean['bad']).toBeNull();
  expect(clean).not.toHaveProperty('fn');
  expect(Object.keys(clean['wide'] as object)).toHaveLength(64);
  expect(canonical(clean).length).toBeLessThan(100_000);
  const named = cleanEvidence({ 'n\u0000ame': 'a\u0000b' });
  expect(named).toEqual({ name: 'ab' });
});

test('a member called __proto__ stays a member', () => {
  const clean = cleanEvidence(JSON.parse('{"__proto__":{"polluted":true}}') as Record<string, unknown>);
  expect(Object.keys(clean)).toEqual(['__proto__']);
  expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
});
