import { isIdentifier } from '@tocsin/protocol/identifiers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hostId } from './host-id.ts';

describe('the id of a host', () => {
  it.each([
    ['web-1.example.org', 'web-1.example.org'],
    ["Ada's MacBook Pro", 'Ada-s-MacBook-Pro'],
    ['-x-', 'x'],
    ['büro', 'b-ro'],
    ['x'.repeat(80), 'x'.repeat(64)],
  ])('of %j is %j', (name, id) => {
    expect(hostId(name)).toBe(id);
  });

  it.each(['', 'localhost', 'LOCALHOST', 'localhost.localdomain', '(none)', '日本', '---'])(
    'is not made of %j',
    (name) => {
      expect(hostId(name)).toBeNull();
    },
  );

  it('is always one that the wire takes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (name) => {
        const id = hostId(name);
        expect(id === null || isIdentifier(id)).toBe(true);
      }),
    );
  });
});
