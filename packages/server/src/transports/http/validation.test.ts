import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readCursor, toPage, writeCursor } from './paging.ts';
import { parseInteger, parseNumber, parseTime } from './validation.ts';

const refused: object = { refusal: expect.objectContaining({ code: 'malformed-parameter' }) as unknown };

describe('parameters', () => {
  test.each(['', ' ', 'x', '1x', '0x10', 'NaN', 'Infinity', '1e999', '--1', '1,2'])('%j is no number', (text) => {
    expect(() => parseNumber(text, 'a')).toThrow(expect.objectContaining(refused));
  });

  test('numbers are read as they are written', () => {
    fc.assert(
      fc.property(
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        (value) => parseNumber(String(value), 'a') === value,
      ),
    );
    expect([parseNumber('.5', 'a'), parseNumber('-1.', 'a')]).toEqual([0.5, -1]);
  });

  test.each(['', '1.5', '11', '-1', '1e1', ' 1'])('%j is no whole number from 0 to 10', (text) => {
    expect(() => parseInteger(text, 'a', 0, 10)).toThrow(expect.objectContaining(refused));
  });

  test.each([
    ['1700000000123', 1_700_000_000_123],
    ['2023-11-14T22:13:20Z', 1_700_000_000_000],
    ['2023-11-14T22:13:20.5Z', 1_700_000_000_500],
    ['2023-11-14T23:13:20+01:00', 1_700_000_000_000],
    ['2023-11-14T23:13:20 01:00', 1_700_000_000_000],
    ['2023-11-14T22:13:20', 1_700_000_000_000],
    ['2023-11-14 22:13', 1_699_999_980_000],
    ['2023-11-14', 1_699_920_000_000],
    ['2023-13-01', null],
    ['yesterday', null],
    ['', null],
    ['1e12', null],
  ])('the time %j is %j', (text, time) => {
    if (time === null) expect(() => parseTime(text, 'from')).toThrow(expect.objectContaining(refused));
    else expect(parseTime(text, 'from')).toBe(time);
  });
});

describe('cursors', () => {
  test('come back as they were written', () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 40 }).filter((text) => !text.includes('\0')),
        fc.maxSafeInteger(),
        (text, number) => {
          expect(readCursor({ cursor: writeCursor([text, number]) }, ['string', 'number'])).toEqual([text, number]);
        },
      ),
    );
  });

  test('of another list, and what is none, are refused', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
        ),
        (cursor) => {
          expect(() => readCursor({ cursor }, ['number', 'number', 'string'])).toThrow(
            expect.objectContaining(refused),
          );
        },
      ),
    );
    expect(() => readCursor({ cursor: writeCursor(['a']) }, ['number'])).toThrow();
  });

  test('the last page has none', () => {
    const key = (row: number): number[] => [row];
    expect(toPage([3, 2, 1], 3, key, String)).toEqual({ items: ['3', '2', '1'], next: null });
    expect(toPage([3, 2, 1], 2, key, String)).toEqual({ items: ['3', '2'], next: writeCursor([2]) });
    expect(toPage([], 2, key, String)).toEqual({ items: [], next: null });
  });
});
