import { textFrame } from '@tocsin/server/realtime/frame';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { clientFrame, createFrameReader } from './frame-reader.ts';

/** What a reader heard of these bytes, cut into chunks of these sizes. */
function hear(bytes: Buffer, sizes: readonly number[], shift = 0): string[] {
  const heard: string[] = [];
  const wanted = new Set<number>();
  const reader = createFrameReader(
    {
      wants: (offset) => !wanted.has(offset),
      message(offset, text) {
        wanted.add(offset);
        heard.push(text === null ? `again ${offset}` : `first ${offset} of ${text.length}`);
      },
      text: (text) => heard.push(text),
      control: (kind, code) => heard.push(`${kind} ${code}`),
    },
    shift,
  );
  let at = 0;
  for (let i = 0; at < bytes.length; i += 1) {
    const size = Math.min(bytes.length - at, sizes[i % sizes.length] ?? 1);
    reader.read(bytes, at, at + size);
    at += size;
  }
  return heard;
}

const alert = (offset: number, type = 'alert'): string =>
  `{"type":"${type}","offset":${offset},"data":{"headline":"bench 1.5","description":"${'x'.repeat(900)}"}}`;

test('messages are read the same wherever the bytes are cut', () => {
  const texts = [
    '{"type":"welcome","offset":6}',
    alert(7),
    alert(7),
    '{"type":"authenticated"}',
    alert(8, 'alert-update'),
  ];
  const bytes = Buffer.concat([...texts.map(textFrame), Buffer.from([0x89, 0]), Buffer.from([0x88, 2, 0x0f, 0xa1])]);
  const whole = hear(bytes, [bytes.length]);
  expect(whole).toEqual([
    texts[0],
    `first 7 of ${alert(7).length}`,
    'again 7',
    texts[3],
    `first 8 of ${alert(8, 'alert-update').length}`,
    'ping 0',
    'close 4001',
  ]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }), (sizes) => {
      expect(hear(bytes, sizes)).toEqual(whole);
    }),
  );
});

test('of Socket.IO only events are messages, whatever the ids in its hellos look like', () => {
  const hello = '0{"sid":"abcdefghijkalmnopqrs","pingInterval":600000,"pingTimeout":20000,"maxPayload":1000000}';
  const bytes = Buffer.concat([textFrame(hello), textFrame(`42["alert",${alert(3)}]`)]);
  expect(hear(bytes, [bytes.length], 11)).toEqual([hello, `first 3 of ${alert(3).length + 1}`]);
});

test('a client frame says its length and a mask', () => {
  expect([...clientFrame('hi')]).toEqual([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
  expect(clientFrame('x'.repeat(200)).subarray(0, 4)).toEqual(Buffer.from([0x81, 0xfe, 0, 200]));
});
