import { describe, expect, it } from 'vitest';
import { INSTANCES_KEY, KEYS, NAMESPACES, boardKey, bucketKey, cellKey, keyBuilder, topicChannel } from './keys.ts';

describe('keys in Redis', () => {
  it('begin with their namespace and have one hash tag', () => {
    for (const row of Object.values(KEYS)) {
      expect(row.pattern.startsWith(`${row.namespace}:`)).toBe(true);
      expect(row.pattern.match(/\{[^{}]+\}/g)).toHaveLength(1);
    }
  });

  it('are in a namespace of the source document, but for channels', () => {
    const known = new Set(NAMESPACES.map(({ namespace }) => namespace));
    for (const row of Object.values(KEYS)) expect(known.has(row.namespace)).toBe(row.type !== 'channel');
  });

  it('are made from the table', () => {
    expect(bucketKey('a:b')).toBe('rl:{a:b}');
    expect(boardKey('ws:ip:127.0.0.1')).toBe('session:board:{ws:ip:127.0.0.1}');
    expect(topicChannel('t')).toBe('bus:{t}');
    expect(INSTANCES_KEY).toBe('session:{instances}');
    expect(cellKey('sign-in:x:blocked')).toBe('rl:cell:{sign-in:x:blocked}');
    expect(cellKey('ws:free:/ws/alerts:u:0')).toBe('session:cell:{ws:free:/ws/alerts:u:0}');
  });

  it('are never the same for two kinds, whatever the callers give', () => {
    const made = [bucketKey('x'), boardKey('x'), cellKey('sign-in:x'), boardKey('instances'), INSTANCES_KEY];
    expect(new Set(made).size).toBe(made.length);
    expect(bucketKey('cell:{sign-in:x}')).not.toBe(cellKey('sign-in:x'));
  });

  it('refuse a cell that no row keeps, and a row without one place', () => {
    expect(() => cellKey('other:x')).toThrow(RangeError);
    expect(() => keyBuilder(KEYS.instances)).toThrow(RangeError);
    expect(() => keyBuilder(KEYS.logIds)).toThrow(RangeError);
  });
});
