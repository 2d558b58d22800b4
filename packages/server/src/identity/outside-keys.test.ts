import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createOutsideKeys, type OutsideKeys } from './outside-keys.ts';
import { verifyingKeyOf } from './verifying-keys.ts';

const jwk = (kid: string, more: object = {}): object => ({
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
  kid,
  ...more,
});

interface Provider {
  readonly keys: OutsideKeys;
  readonly requests: RequestInit[];
  answer: () => Response;
  now: number;
}

function provider(first: () => Response): Provider {
  const requests: RequestInit[] = [];
  const fake: Provider = {
    answer: first,
    now: 0,
    requests,
    keys: createOutsideKeys({
      url: 'https://idp.test/jwks.json',
      clock: { now: () => fake.now, monotonic: () => fake.now },
      fetch: async (_url, init) => {
        requests.push(init ?? {});
        return fake.answer();
      },
    }),
  };
  return fake;
}

const json = (keys: unknown) => (): Response => new Response(JSON.stringify({ keys }));

describe('the keys of an outside provider', () => {
  test('are read when a token first asks for one, once for all who ask at once', async () => {
    const idp = provider(json([jwk('a')]));
    expect(idp.requests.length).toBe(0);
    const found = await Promise.all([idp.keys.find('a'), idp.keys.find('a'), idp.keys.find('b')]);
    expect(found.map((key) => key?.algorithm)).toEqual(['ES256', 'ES256', undefined]);
    expect(idp.requests.length).toBe(1);
    expect(idp.requests[0]).toMatchObject({ redirect: 'error' });
    expect(idp.requests[0]?.signal).toBeInstanceOf(AbortSignal);
  });

  test('are read again for an unknown kid, at most once in 30 s', async () => {
    const idp = provider(json([jwk('a')]));
    await idp.keys.find('a');
    for (let count = 0; count < 20; count += 1) await idp.keys.find(`x${count}`);
    expect(idp.requests.length).toBe(1);
    idp.answer = json([jwk('b')]);
    idp.now = 30_000;
    expect(await idp.keys.find('b')).not.toBeNull();
    expect(await idp.keys.find('a')).toBeNull();
  });

  test('are forgotten after 10 minutes when the provider has taken them back', async () => {
    const idp = provider(json([jwk('a')]));
    await idp.keys.find('a');
    idp.answer = json([]);
    idp.now = 600_000;
    expect(await idp.keys.find('a')).toBeNull();
  });

  test.each([
    [
      'does not answer',
      () => {
        throw new TypeError('fetch failed');
      },
    ],
    ['answers 500', () => new Response('', { status: 500 })],
    ['answers text', () => new Response('<html>')],
    ['answers more than 256 KiB', () => new Response(`{"keys":[],"x":"${'x'.repeat(262_144)}"}`)],
    ['has no list', () => new Response('{"keys":{}}')],
  ])('stay good for an hour while it %s', async (_name, broken) => {
    const idp = provider(json([jwk('a')]));
    await idp.keys.find('a');
    idp.answer = broken;
    idp.now = 3_599_999;
    expect(await idp.keys.find('a')).not.toBeNull();
    idp.now = 3_700_000;
    expect(await idp.keys.find('a')).toBeNull();
  });
});

describe('a key is refused', () => {
  const rsa = (bits: number): object => ({
    ...generateKeyPairSync('rsa', { modulusLength: bits }).publicKey.export({ format: 'jwk' }),
    kid: 'r',
  });

  test.each([
    ['for encryption', jwk('a', { use: 'enc' })],
    ['whose operations lack verify', jwk('a', { key_ops: ['encrypt'] })],
    ['for another algorithm', jwk('a', { alg: 'ES384' })],
    ['without kid', jwk('')],
    ['that is a shared secret', { kty: 'oct', k: 'AAAA', kid: 'a' }],
    [
      'of another curve',
      { ...generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' }), kid: 'a' },
    ],
    ['that is no point', { kty: 'EC', crv: 'P-256', x: 'AAAA', y: 'AAAA', kid: 'a' }],
    ['of RSA with 1024 bits', rsa(1024)],
  ])('%s', (_name, key) => {
    expect(verifyingKeyOf(key as Record<string, unknown>)).toBeNull();
  });

  test('but not RSA with 2048 bits', () => {
    expect(verifyingKeyOf(rsa(2048) as Record<string, unknown>)?.algorithm).toBe('RS256');
  });
});
