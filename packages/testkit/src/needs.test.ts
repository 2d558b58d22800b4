import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { lacking, NEEDS, programPath, sharedPath } from './machine.ts';

describe('what the machine has', () => {
  it('answers every need with a reason or null, and the same each time', () => {
    for (const need of NEEDS) {
      const reason = lacking(need);
      expect(reason === null || reason.length > 0).toBe(true);
      expect(lacking(need)).toBe(reason);
    }
  });

  it('finds a program that exists and not one that does not', () => {
    expect(programPath('sh')).toMatch(/\/sh$/);
    expect(programPath('no-such-program-of-ours')).toBeNull();
  });

  it('looks for shared data beside the checkout', () => {
    expect(lacking('shared-data') === null).toBe(existsSync(sharedPath('data')));
  });
});
