import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChunkBuilder, JOIN_BYTES, stretchAfter } from './chunk.ts';
import type { Entry, Filter } from './entry.ts';

const entry = (offset: number, size: number, zoneId: string | null = null): Entry => ({
  offset,
  at: 0,
  zoneId,
  severity: 2,
  frame: Buffer.alloc(size, offset),
});
const ANY: Filter = { zone: null, minSeverity: null };

describe('chunks', () => {
  it('hold the frames in order, all of them, and none is over the bound unless it is one frame', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2 * JOIN_BYTES }), { maxLength: 20 }), (sizes) => {
        const builder = new ChunkBuilder();
        const frames = sizes.map((size, index) => Buffer.alloc(size, index));
        for (const frame of frames) builder.add(frame);
        const chunks = builder.chunks();
        expect(Buffer.concat(chunks.map(({ bytes }) => bytes)).equals(Buffer.concat(frames))).toBe(true);
        expect(chunks.reduce((sum, { messages }) => sum + messages, 0)).toBe(frames.length);
        for (const { bytes, messages } of chunks) expect(bytes.length <= JOIN_BYTES || messages === 1).toBe(true);
      }),
    );
  });

  it('of one frame are the very bytes of it', () => {
    const builder = new ChunkBuilder();
    const frame = Buffer.alloc(10);
    builder.add(frame);
    expect(builder.chunks()[0]?.bytes).toBe(frame);
  });
});

describe('a stretch of the history', () => {
  it('is as long as one chunk allows, and passes over what the filter does not want', () => {
    const all = Array.from({ length: 100 }, (_, index) => entry(index + 1, 1000, index % 2 === 0 ? 'a' : 'b'));
    const find = (offset: number): Entry | undefined => all[offset - 1];
    expect(stretchAfter(find, ANY, 0, 100)).toMatchObject({ last: 32, chunk: { messages: 32 } });
    expect(stretchAfter(find, { zone: 'a', minSeverity: null }, 0, 100)).toMatchObject({
      last: 64,
      chunk: { messages: 32 },
    });
    expect(stretchAfter(find, { zone: 'c', minSeverity: null }, 0, 100)).toEqual({ last: 100, chunk: null });
  });

  it('ends where something is missing, and is none without its first message', () => {
    const find = (offset: number): Entry | undefined => (offset === 5 ? undefined : entry(offset, 10));
    expect(stretchAfter(find, ANY, 0, 100)).toMatchObject({ last: 4 });
    expect(stretchAfter(find, ANY, 4, 100)).toBeNull();
  });

  it('takes a frame over the bound alone', () => {
    const find = (offset: number): Entry => entry(offset, 2 * JOIN_BYTES);
    expect(stretchAfter(find, ANY, 0, 3)).toMatchObject({ last: 1, chunk: { messages: 1 } });
  });
});
