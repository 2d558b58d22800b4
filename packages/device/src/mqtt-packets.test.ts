import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MqttProtocolError, PING, readPackets, writeConnect, writePublish } from './mqtt-packets.ts';

/** Hex digits, written in groups. */
function packed(digits: string): string {
  return digits.replaceAll(' ', '');
}

function hex(bytes: Buffer): string {
  return bytes.toString('hex');
}

/** The remaining length, decoded as section 2.2.3 has it. */
function remaining(bytes: Buffer): { readonly value: number; readonly end: number } {
  let value = 0;
  let at = 1;
  for (let factor = 1; ; factor *= 128) {
    const byte = bytes[at] ?? 0;
    at += 1;
    value += (byte & 127) * factor;
    if (byte < 128) return { value, end: at };
  }
}

describe('packets that are written', () => {
  it('are CONNECT as section 3.1 shows it: name, level 4, flags, keep-alive, and the texts in their order', () => {
    const bytes = writeConnect({ clientId: 'c', keepAliveSeconds: 10, username: 'u', password: 'p' });
    expect(hex(bytes)).toBe(packed('1013 00044d51545404 c2 000a 000163 000175 000170'));
    expect(hex(writeConnect({ clientId: '', keepAliveSeconds: 0 }))).toBe(packed('100c 00044d51545404 02 0000 0000'));
  });

  it('are PUBLISH with QoS 1, not retained, not a duplicate: topic, packet id, payload', () => {
    expect(hex(writePublish('a/b', 10, 'hé'))).toBe(packed('320a 0003612f62 000a 68c3a9'));
  });

  it('have a remaining length that says how long they are, in as few bytes as it needs', () => {
    const size = fc.oneof(fc.nat(300), fc.constantFrom(121, 122, 123, 16_377, 16_378, 2_097_145, 2_097_146));
    fc.assert(
      fc.property(size, (length) => {
        const bytes = writePublish('t', 1, 'x'.repeat(length));
        const { value, end } = remaining(bytes);
        expect(bytes.length).toBe(end + value);
        expect(value).toBe(length + 5);
        expect(bytes[end - 1] === 0 && end > 2).toBe(false);
      }),
      { numRuns: 50 },
    );
  });

  it('refuse texts that no packet can hold', () => {
    expect(() => writePublish('t'.repeat(65_536), 1, '')).toThrow(RangeError);
    expect(() => writeConnect({ clientId: 'é'.repeat(32_768), keepAliveSeconds: 1 })).toThrow(RangeError);
  });
});

describe('packets that are read', () => {
  const ALL = Buffer.from(packed('20020000 4002ffff d000 20020105 40020001'), 'hex');
  const MEANING = [
    { kind: 'connected' },
    { kind: 'published', packetId: 65_535 },
    { kind: 'alive' },
    { kind: 'refused', code: 5 },
    { kind: 'published', packetId: 1 },
  ];

  it('are the same however the bytes were cut on their way', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(ALL.length), { maxLength: 8 }), (cuts) => {
        const places = [0, ...cuts.toSorted((a, b) => a - b), ALL.length];
        let rest: Buffer = Buffer.alloc(0);
        const heard = places.slice(1).flatMap((end, index) => {
          const read = readPackets(Buffer.concat([rest, ALL.subarray(places[index], end)]));
          ({ rest } = read);
          return [...read.packets];
        });
        expect(heard).toEqual(MEANING);
        expect(rest.length).toBe(0);
      }),
    );
  });

  it.each([
    ['a message (nobody subscribed)', '3003000161'],
    ['a PUBACK of three bytes', '4003000100'],
    ['a CONNACK that is too long', '2080017f'],
    ['an HTTP answer', '485454502f312e31'],
    ['a question for life, which only clients ask', 'c000'],
  ])('refuse %s', (_, bytes) => {
    expect(() => readPackets(Buffer.from(bytes, 'hex'))).toThrow(MqttProtocolError);
  });

  it('are bounded and refused by name, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
        try {
          const { packets, rest } = readPackets(Buffer.from(noise));
          expect(rest.length).toBeLessThan(4);
          expect(packets.length).toBeLessThanOrEqual(noise.length / 2);
        } catch (error) {
          expect(error).toBeInstanceOf(MqttProtocolError);
        }
      }),
    );
  });

  it('are not what a client writes itself', () => {
    expect(() => readPackets(PING)).toThrow(MqttProtocolError);
  });
});
