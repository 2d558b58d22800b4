/** Wycheproof's JWS vectors against the code that checks tokens. Each `valid` one that is refused on purpose is named. */
import { readFileSync } from 'node:fs';
import { sharedPath } from '@tocsin/testkit/machine';
import { describeWith } from '@tocsin/testkit/needs';
import { expect, test } from 'vitest';
import { verifyCompact, verifyingKeyOf } from './verifying-keys.ts';

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  readonly jws: string | object;
  readonly result: 'valid' | 'invalid' | 'acceptable';
}

interface Group {
  readonly comment: string;
  readonly public?: Record<string, unknown>;
  readonly private?: Record<string, unknown>;
  readonly tests: readonly Vector[];
}

/** Why a valid vector is refused, by the key's algorithm. */
const REFUSED_ALGORITHMS: Readonly<Record<string, string>> = {
  HS256: 'no shared secrets',
  HS384: 'no shared secrets',
  HS512: 'no shared secrets',
  ES384: 'not on our list',
  ES512: 'not on our list',
  ES521: 'not on our list',
  RS384: 'not on our list',
  RS512: 'not on our list',
  PS256: 'not on our list',
  PS384: 'not on our list',
  PS512: 'not on our list',
};

function load(): Group[] {
  const path = sharedPath('data', 'wycheproof', 'json_web_signature_test.json');
  return (JSON.parse(readFileSync(path, 'utf8')) as { testGroups: Group[] }).testGroups;
}

async function accepts(group: Group, vector: Vector): Promise<boolean> {
  const key = verifyingKeyOf(group.public ?? group.private ?? {});
  if (key === null || typeof vector.jws !== 'string') return false;
  return (await verifyCompact(vector.jws, key)) !== null;
}

describeWith(['shared-data'], 'Wycheproof json_web_signature', () => {
  const cases = load().flatMap((group) => group.tests.map((vector) => ({ group, vector })));

  test('those that we accept are these', async () => {
    const accepted: number[] = [];
    for (const { group, vector } of cases) if (await accepts(group, vector)) accepted.push(vector.tcId);
    expect(cases.length).toBe(401);
    expect(accepted).toEqual([18, 33, 259, 260, 261, 262, 263, 345, 349, 378]);
  });

  test('every invalid one is refused', async () => {
    const wrong: string[] = [];
    for (const { group, vector } of cases) {
      if (vector.result === 'invalid' && (await accepts(group, vector))) wrong.push(`${vector.tcId} ${vector.comment}`);
    }
    expect(wrong).toEqual([]);
  });

  test('every valid one with an algorithm of ours is accepted, the others are refused by name', async () => {
    const refused = new Set<string>();
    for (const { group, vector } of cases) {
      if (vector.result !== 'valid' || (await accepts(group, vector))) continue;
      const algorithm = String((group.public ?? group.private)?.['alg']);
      if (REFUSED_ALGORITHMS[algorithm] === undefined)
        refused.add(`${vector.tcId} ${group.comment} ${algorithm} ${vector.comment}`);
    }
    expect([...refused]).toEqual([]);
  });
});
