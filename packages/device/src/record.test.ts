import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeRecord, encodeRecord, PAYLOAD_MOST_BYTES, readRecords } from './record.ts';

/** Well-formed: lone surrogates cannot be written as UTF-8, and JSON has none. */
const text = fc.string({ unit: 'binary', maxLength: 60 }).filter((each) => Buffer.from(each).toString() === each);
const payloads = fc.array(text, { minLength: 1, maxLength: 12 });
const written = (list: readonly string[]): Buffer => Buffer.concat(list.map(encodeRecord));
const texts = (file: Buffer): string[] => readRecords(file).records.map(({ payload }) => payload);

describe('records of a file', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(payloads, (list) => {
        const file = written(list);
        expect(texts(file)).toEqual(list);
        expect(readRecords(file).damaged).toBe(0);
      }),
    );
  });

  it('torn off at every single byte: those before the tear come back, nothing else does', () => {
    const list = ['first', '', 'third: ä€😀', 'x'.repeat(200), '{"at":1}'];
    const ends = list.map((_, index) => written(list.slice(0, index + 1)).length);
    const file = written(list);
    for (let cut = 0; cut <= file.length; cut += 1) {
      const whole = ends.filter((end) => end <= cut).length;
      expect(texts(file.subarray(0, cut))).toEqual(list.slice(0, whole));
      expect(readRecords(file.subarray(0, cut)).damaged).toBe(0);
    }
  });

  it('with bits flipped anywhere: only the record that is hit is missing, nothing is invented', () => {
    fc.assert(
      fc.property(payloads, fc.nat(), fc.integer({ min: 1, max: 255 }), (list, place, mask) => {
        const file = written(list);
        const at = place % file.length;
        file[at] = (file[at] ?? 0) ^ mask;
        const hit = list.findIndex((_, index) => written(list.slice(0, index + 1)).length > at);
        expect(texts(file)).toEqual(list.filter((_, index) => index !== hit));
        expect(readRecords(file).damaged).toBe(hit === list.length - 1 ? 0 : 1);
      }),
    );
  });

  it('after a torn end, as of a write that was cut short, come back too', () => {
    const file = Buffer.concat([encodeRecord('one'), encodeRecord('torn').subarray(0, 9), encodeRecord('two')]);
    expect(texts(file)).toEqual(['one', 'two']);
    expect(readRecords(file).damaged).toBe(1);
  });

  it('that stand within the text of another are not taken for records', () => {
    const inner = encodeRecord('forged').toString('latin1');
    expect(texts(written([inner, inner]))).toEqual([inner, inner]);
    const damaged = written([inner, 'next']);
    damaged[5] = 0xff;
    expect(texts(damaged)).toEqual(['next']);
  });

  it('are bounded', () => {
    expect(() => encodeRecord('x'.repeat(PAYLOAD_MOST_BYTES + 1))).toThrow(RangeError);
    const huge = Buffer.from(encodeRecord('x'));
    huge.writeUInt32BE(0xffff_ffff, 4);
    expect(decodeRecord(huge, 0)).toBeNull();
    expect(texts(Buffer.alloc(100_000, 0xff))).toEqual([]);
  });
});
