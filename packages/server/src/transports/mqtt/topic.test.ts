import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { deviceTopic, overlap, topicMistake } from './topic.ts';

describe('a topic filter', () => {
  test.each([
    ['devices/+/metrics', 'devices/web-1/metrics', 'web-1'],
    ['devices/+/metrics', 'devices//metrics', ''],
    ['devices/+/metrics', 'devices/web-1/readings', null],
    ['devices/+/metrics', 'devices/web-1/metrics/more', null],
    ['devices/+/metrics', 'devices/web-1', null],
    ['devices/+/metrics', '/devices/web-1/metrics', null],
    ['site/+/+/metrics', 'site/milan/web-1/metrics', 'web-1'],
    ['fleet/#', 'fleet/web-1', 'web-1'],
    ['fleet/#', 'fleet/web-1/any/thing', 'web-1'],
    ['fleet/#', 'fleet', ''],
    ['fleet/#', 'other/web-1', null],
    ['fleet/+/#', 'fleet/web-1/metrics', 'web-1'],
    ['fleet/+/#', 'fleet/web-1', 'web-1'],
    ['+', 'web-1', 'web-1'],
    ['+/metrics', '$SYS/metrics', null],
    ['#', '$SYS/broker/load', null],
    ['/+', '/web-1', 'web-1'],
  ])('%s finds in %s the device %j', (filter, topic, device) => {
    expect(deviceTopic(filter).deviceOf(topic)).toBe(device);
  });

  test('needs a level that stands for the device', () => {
    for (const filter of ['devices/metrics', 'a', '']) {
      expect(topicMistake(filter)).toContain('must have a level +');
      expect(() => deviceTopic(filter)).toThrow(RangeError);
    }
    expect(topicMistake('$share/group/devices/+/metrics')).toContain('must not begin with $');
    expect(topicMistake('devices/+/metrics')).toBeNull();
    expect(topicMistake('fleet/#')).toBeNull();
  });

  test.each([
    ['devices/+/metrics', 'devices/+/readings', false],
    ['devices/+/metrics', 'devices/#', true],
    ['#', 'devices/+/readings', true],
    ['+/+/metrics', 'devices/+/readings', false],
    ['+/+/+', 'devices/+/readings', true],
    ['devices/+', 'devices/+/#', true],
    ['devices/+/x', 'devices/+', false],
    ['a/#', 'a', true],
    ['a/b/#', 'a', false],
  ])('%s and %s meet: %s', (one, other, meets) => {
    expect(overlap(one, other)).toBe(meets);
    expect(overlap(other, one)).toBe(meets);
  });

  test('meets another wherever a topic fits both', () => {
    const level = fc.constantFrom('a', 'b', '');
    const filter = fc
      .tuple(fc.array(fc.oneof(level, fc.constant('+')), { maxLength: 3 }), fc.constantFrom([], ['#'], ['+']))
      .map(([levels, end]) => [...levels, ...end].join('/'))
      .filter((text) => topicMistake(text) === null);
    const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'));
    fc.assert(
      fc.property(filter, filter, topic, (one, other, name) => {
        const both = [one, other].every((text) => deviceTopic(text).deviceOf(name) !== null);
        if (both) expect(overlap(one, other)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
