import { createPublicKey, createSign, generateKeyPairSync, sign } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { toDer, verifySignature } from './signature.ts';

interface Vectors {
  readonly testGroups: readonly {
    readonly publicKeyDer: string;
    readonly tests: readonly {
      readonly tcId: number;
      readonly msg: string;
      readonly sig: string;
      readonly result: string;
      readonly comment: string;
    }[];
  }[];
}

const folder = new URL('../../../../../shared/data/wycheproof/', import.meta.url);
const present = existsSync(folder);

function vectors(name: string): Vectors {
  return JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Vectors;
}

/** A vector's message is bytes; ours is ASCII text, so bytes travel as latin1. */
async function wrongAnswers(name: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const group of vectors(name).testGroups) {
    const key = createPublicKey({ key: Buffer.from(group.publicKeyDer, 'hex'), format: 'der', type: 'spki' });
    for (const { tcId, msg, sig, result, comment } of group.tests) {
      const good = await verifySignature(Buffer.from(msg, 'hex').toString('latin1'), key, Buffer.from(sig, 'hex'));
      if (good !== (result === 'valid')) wrong.push(`${tcId} ${result} ${comment} (${sig.length / 2} bytes)`);
    }
  }
  return wrong;
}

describe.skipIf(!present)('Wycheproof P-256 (needs ../shared)', () => {
  test('every vector in r||s form is answered as it says', async () => {
    const wrong = await wrongAnswers('ecdsa_secp256r1_sha256_p1363_test.json');
    expect(wrong).toEqual([]);
  });

  test('every vector in DER is answered as it says', async () => {
    expect(await wrongAnswers('ecdsa_secp256r1_sha256_test.json')).toEqual([]);
  });
});

describe('signatures', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  test('r||s becomes the DER that OpenSSL makes, leading zeros and high bits included', async () => {
    for (let i = 0; i < 300; i += 1) {
      const text = `message ${i}`;
      const raw = sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' });
      expect(await verifySignature(text, publicKey, raw)).toBe(true);
      expect(await verifySignature(text, publicKey, toDer(raw))).toBe(true);
      expect(await verifySignature(`${text}.`, publicKey, raw)).toBe(false);
    }
  });

  test('what is not a signature is false, never an error', async () => {
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.alloc(64),
      Buffer.alloc(72, 0x30),
      Buffer.alloc(64, 0xff),
      Buffer.from('30', 'hex'),
    ]) {
      expect(await verifySignature('x', publicKey, bytes)).toBe(false);
    }
  });

  test('a signature over another hash does not check', async () => {
    const other = createSign('sha384').update('x').sign(privateKey);
    expect(await verifySignature('x', publicKey, other)).toBe(false);
  });
});
