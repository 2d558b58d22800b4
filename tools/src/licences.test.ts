import { describe, expect, it } from 'vitest';
import { checkLicences, refusal, SHIPPED, satisfies } from './licences.ts';

describe('licences', () => {
  it('of everything that is installed are permissive, and there are some', () => {
    const { packages, refused } = checkLicences();
    expect(packages).toBeGreaterThan(50);
    expect(refused).toEqual([]);
  });

  it('of a choice need one that fits, of a combination all', () => {
    expect(satisfies('(MIT OR GPL-3.0)', SHIPPED)).toBe(true);
    expect(satisfies('MIT AND GPL-3.0', SHIPPED)).toBe(false);
    expect(satisfies('GPL-3.0', SHIPPED)).toBe(false);
  });

  it('are stricter for what is shipped than for tools, and must be named', () => {
    expect(refusal('node_modules/a', { version: '1.0.0', license: 'MPL-2.0' })).toEqual(['a 1.0.0 is under MPL-2.0']);
    expect(refusal('node_modules/a', { version: '1.0.0', license: 'MPL-2.0', dev: true })).toEqual([]);
    expect(refusal('node_modules/a', { version: '1.0.0' })).toEqual(['a 1.0.0 names no licence']);
  });
});
