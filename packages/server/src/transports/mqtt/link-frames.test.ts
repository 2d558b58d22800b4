import fc from 'fast-check';
import { generate, parser, type Packet } from 'mqtt-packet';
import { expect, test } from 'vitest';
import { createFrameFilter } from './link-frames.ts';

const MOST = 300;

function publish(topic: string, bytes: number, version: 4 | 5, more: object = {}): Buffer {
  const payload = Buffer.alloc(bytes, 120);
  const packet = { cmd: 'publish', topic, payload, qos: 1, messageId: 7, dup: false, retain: false, ...more };
  return generate(packet as Packet, { protocolVersion: version });
}

/** What comes out when the bytes come in pieces. */
function filtered(bytes: Buffer, step: number, version: 4 | 5 = 4): Buffer | null {
  const filter = createFrameFilter(MOST, version);
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step) {
    const parts = filter(bytes.subarray(at, at + step));
    if (parts === null) return null;
    out.push(...parts);
  }
  return Buffer.concat(out);
}

function packets(bytes: Buffer, version: 4 | 5): object[] {
  const found: object[] = [];
  const read = parser({ protocolVersion: version });
  read.on('packet', (packet: Packet) => {
    if (packet.cmd !== 'publish') return;
    const { cmd, topic, messageId, retain, dup, qos, payload } = packet;
    found.push({ cmd, topic, messageId, retain, dup, qos, bytes: payload.length });
  });
  read.parse(bytes);
  return found;
}

test('what is small enough passes byte for byte, however it is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 270 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 400 }),
      (sizes, step) => {
        const bytes = Buffer.concat([
          Buffer.from([0xd0, 0]),
          ...sizes.map((size) => publish('devices/a/metrics', size, 4)),
          Buffer.from([0xd0, 0]),
        ]);
        expect(filtered(bytes, step)?.equals(bytes)).toBe(true);
      },
    ),
  );
});

test.each([4, 5] as const)(
  'a message that is too large becomes an empty retained one, however it is cut (version %i)',
  (version) => {
    const bytes = Buffer.concat([
      publish('devices/a/metrics', 10, version),
      publish('devices/b/metrics', 100_000, version, { messageId: 513, dup: true }),
      publish('devices/d/metrics', 400, version, { qos: 0, messageId: undefined }),
      publish('devices/c/metrics', 20, version, { messageId: 8 }),
    ]);
    for (const step of [1, 2, 3, 7, 64, 1000, 65_536, bytes.length]) {
      expect(packets(filtered(bytes, step, version) ?? Buffer.alloc(0), version)).toMatchObject([
        { topic: 'devices/a/metrics', bytes: 10, retain: false, messageId: 7 },
        { topic: 'devices/b/metrics', bytes: 0, retain: true, messageId: 513, dup: true, qos: 1 },
        { topic: 'devices/d/metrics', bytes: 0, retain: true, qos: 0 },
        { topic: 'devices/c/metrics', bytes: 20, retain: false, messageId: 8 },
      ]);
    }
  },
);

test('a topic longer than the limit passes whole, without its message', () => {
  const topic = 't'.repeat(60_000);
  const bytes = filtered(publish(topic, 10, 4), 999);
  expect(packets(bytes ?? Buffer.alloc(0), 4)).toMatchObject([{ topic, bytes: 0, retain: true, messageId: 7 }]);
});

test('another packet that is too large, a length without an end and a topic longer than its packet are not MQTT', () => {
  expect(filtered(Buffer.from([0x90, 0xff, 0xff, 0x03, 0]), 1)).toBeNull();
  expect(filtered(Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01]), 1)).toBeNull();
  const liar = Buffer.concat([Buffer.from([0x30, 0xad, 0x02, 0xff, 0xff]), Buffer.alloc(299)]);
  expect(filtered(liar, 50)).toBeNull();
});
