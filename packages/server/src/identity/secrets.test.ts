import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { newId } from '../lib/ulid.ts';
import { passwordProblem } from './password-rules.ts';
import { createPasswords } from './passwords.ts';
import { seal, unseal } from './sealing.ts';
import { type ClusterKeys, deriveKey, deriveKeys, looksLikeSecret, newSecret, sha256, sha256Hex } from './secrets.ts';

const SECRET = 'x'.repeat(32);
const hexOf = (keys: ClusterKeys): string[] =>
  Object.values<KeyObject>({ ...keys }).map((key) => key.export().toString('hex'));

describe('keys of the cluster secret', () => {
  test('are HKDF-SHA-256 of RFC 5869', () => {
    const extracted = createHmac('sha256', 'tocsin').update(SECRET).digest();
    const expanded = createHmac('sha256', extracted)
      .update('an info')
      .update(Buffer.from([1]))
      .digest();
    expect(deriveKey(SECRET, 'an info').export()).toEqual(expanded);
  });

  test('are the same for the same secret, and one for each purpose', () => {
    const keys = hexOf(deriveKeys(SECRET));
    expect(new Set(keys).size).toBe(keys.length);
    expect(hexOf(deriveKeys(SECRET))).toEqual(keys);
  });

  test('need 32 characters', () => {
    expect(() => deriveKeys('x'.repeat(31))).toThrow('at least 32');
  });
});

describe('sealing', () => {
  const key = createSecretKey(Buffer.alloc(32, 1));

  test('opens with the same key and context only', () => {
    const sealed = seal(key, Buffer.from('secret'), 'a');
    expect(unseal(key, sealed, 'a').toString()).toBe('secret');
    expect(() => unseal(key, sealed, 'b')).toThrow();
    expect(() => unseal(createSecretKey(Buffer.alloc(32, 2)), sealed, 'a')).toThrow();
  });

  test.each([0, 11, 12, 20, -1])('notices a change of byte %i', (index) => {
    const sealed = seal(key, Buffer.from('a secret of some length'), 'a');
    const at = index < 0 ? sealed.length + index : index;
    sealed[at] = (sealed[at] ?? 0) ^ 1;
    expect(() => unseal(key, sealed, 'a')).toThrow('CLUSTER_SECRET');
  });

  test.each([0, 12, 27])('notices a text of %i bytes', (length) => {
    expect(() => unseal(key, Buffer.alloc(length), 'a')).toThrow();
  });

  test('never gives the same bytes twice', () => {
    expect(seal(key, Buffer.from('x'), 'a').equals(seal(key, Buffer.from('x'), 'a'))).toBe(false);
  });
});

test('secrets have 256 bits and one form', () => {
  expect(looksLikeSecret(newSecret())).toBe(true);
  expect(Buffer.from(newSecret(), 'base64url').length).toBe(32);
  expect(sha256Hex('ä')).toBe(sha256('ä').toString('hex'));
});

test('ids sort by their time', () => {
  const ids = [1, 1_700_000_000_000, 1_700_000_000_001].map(newId);
  expect([...ids].sort()).toEqual(ids);
  expect(ids[0]).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/);
});

describe('passwords', () => {
  test('are argon2id with the parameters of OWASP', async () => {
    const passwords = await createPasswords();
    expect(await passwords.hash('a password')).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  });

  test('that look alike are alike', async () => {
    const passwords = await createPasswords();
    const hash = await passwords.hash('caf\u00e9 caf\u00e9 caf\u00e9');
    expect(await passwords.verify(hash, 'cafe\u0301 cafe\u0301 cafe\u0301')).toBe(true);
    expect(await passwords.verify(hash, 'cafe cafe cafe')).toBe(false);
  });

  test('of nobody are worked on and never fit', async () => {
    const passwords = await createPasswords();
    expect(await passwords.verify(null, 'a password')).toBe(false);
  });

  test('wait in a line that ends: beyond it 503', async () => {
    const passwords = await createPasswords({ atOnce: 2, waiting: 3 });
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => passwords.hash('a password')));
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled').length).toBe(5);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ refusal: { code: 'overloaded' } });
    }
    expect(await passwords.hash('a password')).toContain('argon2id');
  });

  test('are counted in characters, not in UTF-16 units', () => {
    expect(passwordProblem('🔔🔕🎐🛎🔔🔕', 'a@b.test')).toBe('needs at least 8 characters');
    expect(passwordProblem('long enough it is', 'a@b.test')).toBeNull();
  });
});
