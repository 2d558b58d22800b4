import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createCheckedSignatures } from './checked-signatures.ts';
import type { VerifyingKey } from './signing-keys.ts';

const key = (kid: string): VerifyingKey => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { kid, algorithm: 'ES256', publicKey };
};
const payload = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('signatures that were found good', () => {
  it('count for the key they were checked with, and for no other under its name', () => {
    const checked = createCheckedSignatures(10);
    const one = key('k');
    checked.set('digest', one, payload('a'));
    expect(checked.get('digest', one)).toEqual(payload('a'));
    expect(checked.get('digest', { ...one })).toEqual(payload('a'));
    expect(checked.get('digest', key('k'))).toBeUndefined();
    expect(checked.get('digest', one)).toBeUndefined();
  });

  it('are bounded, and the longest unused goes first', () => {
    const checked = createCheckedSignatures(2);
    const one = key('k');
    checked.set('a', one, payload('a'));
    checked.set('b', one, payload('b'));
    checked.set('a', one, payload('a'));
    checked.set('c', one, payload('c'));
    expect(checked.size).toBe(2);
    expect([checked.get('a', one), checked.get('b', one), checked.get('c', one)]).toEqual([
      payload('a'),
      undefined,
      payload('c'),
    ]);
  });
});
