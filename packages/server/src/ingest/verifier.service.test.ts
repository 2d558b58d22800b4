/** On the built files: a thread can't be started from TypeScript. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { afterEach, describe, expect, test } from 'vitest';
import type { Verifier, VerifierOptions } from './verifier.ts';

const built = new URL('../../dist/src/ingest/verifier.js', import.meta.url).href;
const { createVerifier } = (await import(/* @vite-ignore */ built)) as {
  createVerifier: (options: VerifierOptions) => Verifier;
};
const pairs = Array.from({ length: 5 }, () => generateKeyPairSync('ec', { namedCurve: 'P-256' }));

describe('the verifier on threads', () => {
  let verifier: Verifier | undefined;
  afterEach(() => verifier?.close());

  test('a thousand signatures at once, good and bad, of several keys, are each answered rightly', async () => {
    verifier = createVerifier({ threads: 2, onThreadLost: () => undefined });
    const { check } = verifier;
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => {
        const { publicKey, privateKey } = pairs[i % pairs.length] ?? generateKeyPairSync('ec', { namedCurve: 'P-256' });
        const dsaEncoding = i % 2 === 0 ? 'der' : 'ieee-p1363';
        const signature = sign('sha256', Buffer.from(`text ${i}`), { key: privateKey, dsaEncoding });
        return check(i % 3 === 0 ? 'another text' : `text ${i}`, publicKey, i % 7 === 0 ? Buffer.alloc(64) : signature);
      }),
    );
    expect(answers).toEqual(Array.from({ length: 1000 }, (_, i) => i % 3 !== 0 && i % 7 !== 0));
  });

  test('a thread that dies in mid-work leaves no answer out', async () => {
    const lost: unknown[] = [];
    verifier = createVerifier({ threads: 1, onThreadLost: (error) => lost.push(error) });
    const { check } = verifier;
    const [pair] = pairs;
    if (pair === undefined) throw new Error('no key');
    const signature = sign('sha256', Buffer.from('x'), pair.privateKey);
    // Not what a thread expects: it throws there.
    const poison = { export: () => null } as never;
    const first = verifier.check('x', pair.publicKey, signature);
    expect(await first).toBe(true);
    await expect(
      Promise.race([verifier.check('x', poison, signature), Promise.resolve('still running')]),
    ).resolves.toBe('still running');
    expect(await Promise.all(Array.from({ length: 20 }, () => check('x', pair.publicKey, signature)))).toEqual(
      Array(20).fill(true),
    );
  });
});
