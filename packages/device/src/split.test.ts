import fc from 'fast-check';
import { LIMITS } from '@tocsin/protocol/limits';
import { describe, expect, it } from 'vitest';
import { createSigner } from './envelope.ts';
import { createKey } from './key.ts';
import { readingsRoom, splitReadings } from './split.ts';

const ROOM = readingsRoom('m1', 'seismic');

describe('splitting a report', () => {
  it('keeps every reading, in order, in as few envelopes as the bounds allow', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(400), { minLength: 1, maxLength: 60 }), (sizes) => {
        const readings = sizes.map((size, index) => ({ index, text: 'ä'.repeat(size) }));
        const parts = splitReadings(readings, 2000);
        expect(parts.flatMap((part) => JSON.parse(part.readings))).toEqual(readings);
        for (const [index, part] of parts.entries()) {
          expect(Buffer.byteLength(part.readings)).toBeLessThanOrEqual(2000);
          expect(JSON.parse(part.readings)).toHaveLength(part.count);
          const next = parts[index + 1];
          if (next === undefined) continue;
          const first = JSON.stringify(JSON.parse(next.readings)[0]);
          expect(Buffer.byteLength(part.readings) + Buffer.byteLength(first) + 2).toBeGreaterThan(2000);
        }
      }),
    );
  });

  it('makes envelopes of at most 500 readings', () => {
    const readings = Array.from({ length: 1201 }, (_, value) => ({ value }));
    expect(splitReadings(readings, ROOM).map(({ count }) => count)).toEqual([500, 500, 201]);
  });

  it('fills an envelope to what the signer takes and not further, for the longest ids too', () => {
    for (const deviceId of ['m', 'x'.repeat(64)]) {
      for (const profile of ['seismic', 'host', 'mobile'] as const) {
        const room = readingsRoom(deviceId, profile);
        const fits = [{ text: 'x'.repeat(room - '[{"text":""}]'.length - 1) }];
        const [part] = splitReadings(fits, room);
        const signer = createSigner(deviceId, createKey());
        const readings = JSON.parse(part?.readings ?? '') as object[];
        const sealed = signer.seal({ id: 'i'.repeat(64), at: 8.64e15, profile, readings });
        expect(sealed.length).toBeLessThanOrEqual(LIMITS.bodyBytes.value);
        expect(sealed.length).toBeGreaterThan(LIMITS.bodyBytes.value - 16);
        expect(() => splitReadings([{ text: `${fits[0]?.text}xx` }], room)).toThrow(
          expect.objectContaining({ code: 'reading-too-large' }),
        );
      }
    }
  });

  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  it.each([
    ['no list', null],
    ['an empty list', []],
    ['a text', ['a']],
    ['a list', [[1]]],
    ['null', [null]],
    ['nothing', [undefined]],
    ['NaN inside', [{ value: Number.NaN }]],
    ['Infinity far inside', [{ at: 1, x: [1, Number.POSITIVE_INFINITY] }]],
    ['a cycle', [cycle]],
    ['a bigint', [{ value: 1n }]],
  ])('refuses %s', (_, readings) => {
    expect(() => splitReadings(readings as object[], ROOM)).toThrow(
      expect.objectContaining({ code: 'reading-invalid' }),
    );
  });
});
