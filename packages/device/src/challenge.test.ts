import { verify } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { signChallenge } from './challenge.ts';
import { createKey, publicKeyPem } from './key.ts';

const key = createKey();
const NONCE = 'abcdefghijklmnopqrstuvwxyz_-0123456789';

describe('the signature of a challenge', () => {
  it('covers the fixed text with id and nonce, and checks as r||s', () => {
    const signature = Buffer.from(signChallenge(key, 'm1', NONCE), 'base64url');
    expect(signature).toHaveLength(64);
    const check = (text: string): boolean =>
      verify('sha256', Buffer.from(text), { key: publicKeyPem(key), dsaEncoding: 'ieee-p1363' }, signature);
    expect(check(`tocsin-challenge:m1:${NONCE}`)).toBe(true);
    expect(check(NONCE)).toBe(false);
  });

  it.each([
    ['too short', 'a'.repeat(21)],
    ['too long', 'a'.repeat(65)],
    ['with a dot, as an envelope has', `${'a'.repeat(30)}.b`],
    ['with a colon', `${'a'.repeat(30)}:b`],
    ['with a line end', `${'a'.repeat(30)}\n`],
    ['empty', ''],
    ['no text', 12345678901234567890123n as unknown as string],
  ])('is refused for a nonce that is %s', (_, nonce) => {
    expect(() => signChallenge(key, 'm1', nonce)).toThrow(expect.objectContaining({ code: 'challenge-invalid' }));
  });

  it('is refused for an id that is none', () => {
    for (const id of ['', 'a:b', 'a/b', 'x'.repeat(65)]) {
      expect(() => signChallenge(key, id, NONCE)).toThrow(expect.objectContaining({ code: 'challenge-invalid' }));
    }
  });

  it('is given for no text that does not fit the pattern of the wire', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 70 }), (nonce) => {
        const fits = /^[A-Za-z0-9_-]{22,64}$/.test(nonce);
        if (fits) expect(signChallenge(key, 'm1', nonce)).toMatch(/^[A-Za-z0-9_-]{86}$/);
        else expect(() => signChallenge(key, 'm1', nonce)).toThrow('nonce');
      }),
      { numRuns: 200 },
    );
  });
});
