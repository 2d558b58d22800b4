import fc from 'fast-check';
import { expect, test } from 'vitest';
import { coverRange, DAY_MS, FIVE_MINUTES_MS, type Cover, type Span } from './statistics-cover.ts';

const time = fc.oneof(
  fc.integer({ min: 0, max: 4 * DAY_MS }),
  fc.integer({ min: 0, max: 4 * 288 }).map((n) => n * FIVE_MINUTES_MS),
  fc.integer({ min: 0, max: 4 }).map((n) => n * DAY_MS),
);
const width = fc.constantFrom(null, 1000, 60_000, FIVE_MINUTES_MS, 3_600_000, DAY_MS, 2 * DAY_MS);

function spans(cover: Cover): Span[] {
  return [...cover.days, ...cover.fiveMinutes, ...cover.raw].toSorted((a, b) => a.from - b.from);
}

test('the spans of a cover are the range, without gap or overlap', () => {
  fc.assert(
    fc.property(time, time, width, (a, b, by) => {
      const [from, to] = a < b ? [a, b] : [b, a];
      let end = from;
      for (const span of spans(coverRange({ from, to, width: by, lostUntil: 0 }))) {
        expect(span.from).toBe(end);
        expect(span.to).toBeGreaterThan(span.from);
        end = span.to;
      }
      expect(end).toBe(to);
    }),
  );
});

test('two ranges that meet cover what the whole range covers, also where raw readings are gone', () => {
  fc.assert(
    fc.property(time, time, time, fc.nat(4 * 288), (a, b, c, lost) => {
      const [from = 0, middle = 0, to = 0] = [a, b, c].toSorted((x, y) => x - y);
      const lostUntil = lost * FIVE_MINUTES_MS;
      const bounds = (x: number, y: number): number[] => {
        const parts = spans(coverRange({ from: x, to: y, width: null, lostUntil }));
        return parts.length === 0 ? [] : [parts[0]?.from ?? 0, parts.at(-1)?.to ?? 0];
      };
      const joined = [...bounds(from, middle), ...bounds(middle, to)];
      const whole = bounds(from, to);
      expect([joined[0], joined.at(-1)]).toEqual([whole[0], whole.at(-1)]);
      if (joined.length === 4) expect(joined[1]).toBe(joined[2]);
    }),
  );
});

test('where raw readings are gone nothing is read raw, however the range is cut', () => {
  fc.assert(
    fc.property(time, time, (a, b) => {
      const query = { from: Math.min(a, b), to: Math.max(a, b), width: null, lostUntil: 5 * DAY_MS };
      expect(coverRange(query).raw).toEqual([]);
    }),
  );
});

test('no row of the rollups straddles a bucket', () => {
  expect(coverRange({ from: 0, to: 3 * DAY_MS, width: 3_600_000, lostUntil: 0 }).days).toEqual([]);
  expect(coverRange({ from: 0, to: 3 * DAY_MS, width: 60_000, lostUntil: 0 })).toMatchObject({
    days: [],
    fiveMinutes: [],
  });
});
