import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { textFrame } from './frame.ts';
import { decodeFrames } from './scripted-sink.suite.ts';

describe('frames', () => {
  it('builds the single-frame unmasked text message of RFC 6455 section 5.7', () => {
    expect([...textFrame('Hello')]).toEqual([0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
  });

  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 200_000])('carries a message of %i bytes', (length) => {
    const text = 'x'.repeat(length);
    expect(decodeFrames(textFrame(text))).toEqual([text]);
  });

  it('carries any text, and frames that follow each other come apart again', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (texts) => {
        expect(decodeFrames(Buffer.concat(texts.map(textFrame)))).toEqual(texts);
      }),
    );
  });
});
