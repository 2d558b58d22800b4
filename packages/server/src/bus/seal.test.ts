import { createHmac, createSecretKey, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { open, SEALED_MOST, seal } from './seal.ts';

const key = createSecretKey(randomBytes(32));
const payload = '["alerts",7,"{\\"id\\":\\"ä\\"}"]';

describe('sealed messages of the bus', () => {
  it('open as they were sealed, whatever they say', () => {
    expect(open(key, 't', seal(key, 't', payload, 1000), 1500)).toEqual({ payload, publishedAt: 1000 });
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), fc.nat(), (said, topic, at) => {
        // A lone surrogate has no UTF-8: Redis could not carry it either.
        const text = Buffer.from(said).toString();
        expect(open(key, topic, seal(key, topic, text, at), at)).toEqual({ payload: text, publishedAt: at });
      }),
    );
  });

  it('are an HMAC-SHA-256 over purpose, topic, time and payload', () => {
    const mac = createHmac('sha256', key).update('tocsin-bus-1\n3:t:1:1000:x').digest('base64url');
    expect(seal(key, 't:1', 'x', 1000)).toBe(`${mac}.1000.x`);
  });

  it('count for 60 s and not longer, in both directions', () => {
    const sealed = seal(key, 't', payload, 100_000);
    expect(open(key, 't', sealed, 160_000)).toMatchObject({ payload });
    expect(open(key, 't', sealed, 160_001)).toBe('stale');
    expect(open(key, 't', sealed, 40_000)).toMatchObject({ payload });
    expect(open(key, 't', sealed, 39_999)).toBe('stale');
  });

  it('are dropped when any part was changed, the key is another, or the topic is', () => {
    const sealed = seal(key, 't', payload, 1000);
    for (let at = 0; at < sealed.length; at++) {
      const other = sealed[at] === 'A' ? 'Q' : 'A';
      expect(['forged', 'malformed']).toContain(
        open(key, 't', sealed.slice(0, at) + other + sealed.slice(at + 1), 1000),
      );
      expect(['forged', 'malformed']).toContain(open(key, 't', sealed.slice(0, at) + sealed.slice(at + 1), 1000));
    }
    expect(open(createSecretKey(randomBytes(32)), 't', sealed, 1000)).toBe('forged');
    expect(open(key, 'other', sealed, 1000)).toBe('forged');
    expect(open(key, 't', `${sealed} `, 1000)).toBe('forged');
  });

  it('cannot move a border between topic, time and payload', () => {
    const sealed = seal(key, 't', '5.x', 1000);
    const [mac] = sealed.split('.');
    expect(open(key, 't', `${mac}.10005.x`, 1000)).toBe('forged');
    expect(open(key, 't:1000', `${mac}.5.x`, 1000)).toBe('forged');
  });

  it('say nothing of their age before they are ours', () => {
    const stranger = createSecretKey(randomBytes(32));
    expect(open(key, 't', seal(stranger, 't', payload, 0), 1_000_000)).toBe('forged');
  });

  it('are dropped when they are nothing of the kind, or longer than the bound', () => {
    const mac = 'a'.repeat(43);
    for (const junk of [
      '',
      '.',
      'x',
      'x.y',
      '{}',
      `${mac}.[]`,
      `${mac}.x.y`,
      `${mac}..y`,
      `${mac}.01.y`,
      `${mac}.-1.y`,
    ]) {
      expect(open(key, 't', junk, 0)).toBe('malformed');
    }
    for (const junk of [`${mac}.1.`, `${mac}.1.y`]) expect(open(key, 't', junk, 0)).toBe('forged');
    const room = SEALED_MOST - seal(key, 't', '', 1000).length;
    expect(open(key, 't', seal(key, 't', 'x'.repeat(room), 1000), 1000)).toMatchObject({ publishedAt: 1000 });
    expect(open(key, 't', seal(key, 't', 'x'.repeat(room + 1), 1000), 1000)).toBe('malformed');
  });
});
