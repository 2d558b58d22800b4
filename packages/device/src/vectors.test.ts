/** The test vectors of `packages/protocol/fixtures/` against the functions that the device works with. */
import { createPrivateKey, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type EnvelopeVector, readFixture } from '@tocsin/tools/fixtures/shape';
import { describe, expect, test } from 'vitest';
import { signChallenge } from './challenge.ts';
import { learnOffset, readDate } from './clock.ts';
import { createSigner, type EnvelopeContent } from './envelope.ts';
import { readAnswer } from './http-sender.ts';
import { publicKeyHex, publicKeyPem } from './key.ts';
import { judge } from './verdict.ts';

const keys = new Map(readFixture('keys').keys.map((key) => [key.name, key]));

function privateKey(name: string): KeyObject {
  return createPrivateKey(keys.get(name)?.pkcs8Pem ?? '');
}

function checks(text: string, keyName: string, signature: string): boolean {
  const key = createPublicKey(privateKey(keyName));
  return verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'));
}

describe('keys', () => {
  test.each([...keys.values()])('$name: PKCS#8 and SEC 1 give the public key in both forms', (vector) => {
    for (const pem of [vector.pkcs8Pem, vector.sec1Pem]) {
      const key = createPrivateKey(pem);
      expect(publicKeyPem(key).trim()).toBe(vector.spkiPem.trim());
      expect([vector.spkiHex, vector.pointHex, vector.xyHex]).toContain(publicKeyHex(key));
    }
  });
});

describe('envelopes', () => {
  const { envelopes } = readFixture('envelopes');
  /** The SDK writes JSON in one way; what other devices write in another is as valid, but not its own. */
  const own = ({ canonical, payload, content }: EnvelopeVector): boolean => {
    const { id, at, profile, readings } = content as EnvelopeContent;
    return canonical && payload === JSON.stringify({ id, at, profile, readings });
  };

  test.each(envelopes.filter(own))('$name: has the signing input, and the signature checks', (vector) => {
    const sealed = createSigner(vector.deviceId, privateKey(vector.key)).seal(vector.content as EnvelopeContent);
    const end = sealed.lastIndexOf('.');
    expect(sealed.slice(0, end)).toBe(vector.signingInput);
    expect(checks(vector.signingInput, vector.key, sealed.slice(end + 1))).toBe(true);
  });

  test('the canonical ones that the SDK does not write are those of other ways to write JSON', () => {
    const others = envelopes.filter((vector) => vector.canonical && !own(vector));
    expect(others.map(({ name }) => name)).toEqual([
      ...['minus zero', 'numbers with exponents', 'the largest double', 'white space in the payload'],
      ...['escapes in the payload', 'members in another order', 'a member twice: the last counts'],
    ]);
  });
});

describe('challenges', () => {
  const { challenges, refused } = readFixture('challenge');

  test.each(challenges)('$name: exactly this text is signed', ({ deviceId, nonce, key, text }) => {
    const signature = signChallenge(privateKey(key), deviceId, nonce);
    expect(checks(text, key, signature)).toBe(true);
    expect(Buffer.from(signature, 'base64url')).toHaveLength(64);
  });

  test.each(refused)('$name is not signed', ({ deviceId, nonce }) => {
    const [first] = challenges;
    const sign = (): string => signChallenge(privateKey(first?.key ?? ''), deviceId, nonce);
    expect(sign).toThrow(expect.objectContaining({ code: 'challenge-invalid' }));
  });
});

describe('answers', () => {
  test.each(readFixture('answers').answers)('$name: $action', ({ status, code, ...vector }) => {
    const { retryAfter, date, action, waitMs } = vector;
    if (status === 0) {
      expect(judge({ kind: 'failed', reason: 'timeout' }).action).toBe(action);
      return;
    }
    const headers = {
      ...(retryAfter === null ? {} : { 'retry-after': retryAfter }),
      ...(date === null ? {} : { date }),
    };
    const text = status === 202 ? '{"id":"e1"}' : JSON.stringify(code === null ? {} : { code });
    const answer = readAnswer({ ok: true, status, headers, text, sentAt: 1000, receivedAt: 1050 }, 'e1');
    expect(judge(answer).action).toBe(action);
    expect(answer).toMatchObject({ kind: 'answered', retryAfterMs: waitMs });
  });
});

describe('clocks', () => {
  test.each(readFixture('clock').clocks)('$name: the bounds of the vector lie within ours', (vector) => {
    const { sent: sentAt, received: receivedAt, bounds } = vector;
    const date = readDate(vector.date);
    const known = date === null ? null : learnOffset(null, { date, sentAt, receivedAt });
    if (bounds === null) {
      expect(known).toBeNull();
      return;
    }
    expect(known?.lower).toBeLessThanOrEqual(bounds.least);
    expect(known?.upper).toBeGreaterThanOrEqual(bounds.most);
    // Wider by what a server that caches its `Date` is late, not by more.
    expect((known?.upper ?? 0) - (known?.lower ?? 0) - (bounds.most - bounds.least)).toBeLessThanOrEqual(500);
  });
});
