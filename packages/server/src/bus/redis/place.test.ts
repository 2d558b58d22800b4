import { describe, expect, it } from 'vitest';
import { hasCode } from '../../lib/coded-error.ts';
import { parseRedisNode, parseRedisNodes, parseRedisUrl, redisPlaceOf } from './place.ts';

const plain = { port: 6379, tls: false, username: null, password: null, db: 0 };

describe('where Redis is', () => {
  it.each([
    ['redis://h', { ...plain, host: 'h' }],
    ['redis://h/', { ...plain, host: 'h' }],
    ['rediss://h:7000/3', { ...plain, host: 'h', port: 7000, tls: true, db: 3 }],
    ['redis://:p%40ss%2F:@h', { ...plain, host: 'h', password: 'p@ss/:' }],
    ['redis://u:p@[2001:db8::1]:7', { ...plain, host: '2001:db8::1', port: 7, username: 'u', password: 'p' }],
  ])('is read from a URL: %s', (text, node) => {
    expect(parseRedisUrl(text)).toEqual(node);
  });

  it.each([
    'http://h',
    'h:6379',
    'redis://',
    'redis://h?tls=true',
    'redis://h/x',
    'redis://h/1/2',
    'redis://h:0',
    'redis://h:70000',
    'redis://%zz@h',
    'redis://a b',
    'redis://h#x',
    'redis:///tmp/redis.sock',
  ])('is not read from %s', (text) => {
    expect(parseRedisUrl(text)).toBeUndefined();
  });

  it.each([
    ['h:7000', { ...plain, host: 'h', port: 7000 }],
    ['[::1]:7000', { ...plain, host: '::1', port: 7000 }],
    ['redis://u:p:1@h:7000', { ...plain, host: 'h', port: 7000, username: 'u', password: 'p:1' }],
  ])('is read from an entry of a list: %s', (text, node) => {
    expect(parseRedisNode(text)).toEqual(node);
  });

  it.each(['h', 'redis://h', 'redis://:p@h', 'u:p@h:1', 'redis://h:1/2', 'h:1/2', '::1:7', ''])(
    'is not read from an entry %s',
    (text) => {
      expect(parseRedisNode(text)).toBeUndefined();
    },
  );

  it('has one way in for a list: the first credentials, and TLS when one entry has it', () => {
    expect(parseRedisNodes(['a:1', 'rediss://u:p@b:2', 'redis://v:q@c:3'])).toEqual({
      hosts: [
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
        { host: 'c', port: 3 },
      ],
      tls: true,
      username: 'u',
      password: 'p',
    });
  });

  it('never repeats an entry in an error', () => {
    for (const texts of [[], ['a:1', 'redis://:hunter2@b']]) {
      const thrown = (() => {
        try {
          return parseRedisNodes(texts);
        } catch (error) {
          return error;
        }
      })();
      expect(hasCode(thrown, 'redis-place')).toBe(true);
      expect(String(thrown)).not.toContain('hunter2');
    }
  });

  it('is what the settings name, or nowhere', () => {
    const none = { redisUrl: null, redisClusterNodes: null, redisSentinels: null, redisSentinelName: null };
    expect(redisPlaceOf(none)).toBeNull();
    expect(redisPlaceOf({ ...none, redisUrl: 'redis://h' })).toEqual({ kind: 'single', url: 'redis://h' });
    expect(redisPlaceOf({ ...none, redisClusterNodes: ['a:1'] })).toEqual({ kind: 'cluster', nodes: ['a:1'] });
    expect(redisPlaceOf({ ...none, redisSentinels: ['a:1'], redisSentinelName: 'm' })).toEqual({
      kind: 'sentinel',
      sentinels: ['a:1'],
      name: 'm',
    });
  });
});
