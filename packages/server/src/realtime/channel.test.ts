import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { TopicListener } from '../bus/ports/bus.ts';
import { createChannelPublisher, decodeMessage, encodeMessage, subscribeChannel } from './channel.ts';

const message = {
  channel: 'alerts',
  offset: 7,
  type: 'alert',
  zoneId: 'z1',
  severity: 4,
  createdAt: 5,
  body: '{"id":"ä"}',
};

describe('messages of a channel on the bus', () => {
  it('arrive as they were sent, with the time of their publication', async () => {
    const topics = new Map<string, TopicListener>();
    const pubsub = {
      publish: async (topic: string, payload: string) => topics.get(topic)?.(payload, 1000),
      subscribe: async (topic: string, listener: TopicListener) => {
        topics.set(topic, listener);
        return async () => undefined;
      },
    };
    const onMessage = vi.fn();
    const onDropped = vi.fn();
    await subscribeChannel({ pubsub, channel: 'alerts', onMessage, onDropped });
    await createChannelPublisher({ pubsub }).publish([message, { ...message, offset: 8, zoneId: null }]);
    await pubsub.publish('channel:alerts', 'junk');
    expect(onMessage.mock.calls).toEqual([
      [{ message, publishedAt: 1000 }],
      [{ message: { ...message, offset: 8, zoneId: null }, publishedAt: 1000 }],
    ]);
    expect(onDropped.mock.calls).toEqual([['malformed']]);
  });

  it('that the bus does not take are reported and never thrown', async () => {
    const away = new Error('away');
    const pubsub = { publish: () => Promise.reject(away), subscribe: () => Promise.reject(away) };
    const onFailure = vi.fn();
    await createChannelPublisher({ pubsub, onFailure }).publish([message]);
    await createChannelPublisher({ pubsub }).publish([message]);
    expect(onFailure.mock.calls).toEqual([[away]]);
  });

  it('are dropped when they are of another channel', () => {
    expect(decodeMessage('alerts', encodeMessage(message))).toEqual(message);
    expect(decodeMessage('other', encodeMessage(message))).toBe('other-channel');
  });

  it('are dropped when they are nothing of the kind', () => {
    const fields = JSON.parse(encodeMessage(message)) as unknown[];
    const wrong = fields.flatMap((_, at) =>
      [at === 3 ? 0 : null, true, {}, [], at === 0 || at === 2 || at === 6 ? 1 : -1, 1.5].map((value) =>
        fields.with(at, value),
      ),
    );
    for (const junk of [...wrong, fields.slice(1), [...fields, 1], {}, null, 7, 'x', []]) {
      expect(decodeMessage('alerts', JSON.stringify(junk))).toBe('malformed');
    }
    for (const junk of ['', '.', 'x', 'x.y', '{}', `${'a'.repeat(43)}.[]`]) {
      expect(decodeMessage('alerts', junk)).toBe('malformed');
    }
    fc.assert(fc.property(fc.json(), (text) => decodeMessage('alerts', text) === 'malformed'));
  });
});
