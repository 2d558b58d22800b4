import { createSecretKey, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { openMessage, sealMessage } from './channel.ts';

const key = createSecretKey(randomBytes(32));
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
  it('arrive as they were sent', () => {
    expect(openMessage(key, 'alerts', sealMessage(key, message, 1000), 1500)).toEqual({ message, publishedAt: 1000 });
  });

  it('count for 60 s and not longer, in both directions', () => {
    const sealed = sealMessage(key, message, 100_000);
    expect(openMessage(key, 'alerts', sealed, 160_000)).toMatchObject({ message });
    expect(openMessage(key, 'alerts', sealed, 160_001)).toBe('stale');
    expect(openMessage(key, 'alerts', sealed, 39_999)).toBe('stale');
  });

  it('are dropped when any part was changed, the key is another, or the channel is', () => {
    const sealed = sealMessage(key, message, 1000);
    for (let at = 0; at < sealed.length; at++) {
      const other = sealed[at] === 'A' ? 'Q' : 'A';
      expect(typeof openMessage(key, 'alerts', sealed.slice(0, at) + other + sealed.slice(at + 1), 1000)).toBe(
        'string',
      );
    }
    expect(openMessage(createSecretKey(randomBytes(32)), 'alerts', sealed, 1000)).toBe('forged');
    expect(openMessage(key, 'other', sealed, 1000)).toBe('other-channel');
  });

  it('are dropped when they are nothing of the kind', () => {
    for (const junk of ['', '.', 'x', 'x.y', '{}', `${'a'.repeat(43)}.[]`]) {
      expect(['malformed', 'forged']).toContain(openMessage(key, 'alerts', junk, 0));
    }
  });
});
