import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backOffMs, readRetryAfter, spreadMs } from './retry.ts';

const NOW = Date.UTC(2026, 10, 28, 12, 0, 0);
const draw = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('Retry-After', () => {
  it('is seconds or a date, never negative, at most an hour', () => {
    expect(readRetryAfter('7', NOW)).toBe(7000);
    expect(readRetryAfter('0', NOW)).toBe(0);
    expect(readRetryAfter('Sat, 28 Nov 2026 12:00:30 GMT', NOW)).toBe(30_000);
    expect(readRetryAfter('Sat, 28 Nov 2026 11:00:00 GMT', NOW)).toBe(0);
    expect(readRetryAfter('999999', NOW)).toBe(3_600_000);
    expect(readRetryAfter('Sun, 28 Nov 2027 11:00:00 GMT', NOW)).toBe(3_600_000);
  });

  it('that is missing or neither is none', () => {
    for (const header of [undefined, '', 'soon', '-x', '-5', '1.5', '2026-11-28T12:00:30Z']) {
      expect(readRetryAfter(header, NOW)).toBeNull();
    }
  });

  it('that is a date needs the Date of the same answer, not a clock that may be wrong', () => {
    expect(readRetryAfter('Sat, 28 Nov 2026 12:00:30 GMT', null)).toBeNull();
    expect(readRetryAfter('7', null)).toBe(7000);
  });

  it('is kept, and spread by no more than half a second or a fifth', () => {
    fc.assert(
      fc.property(fc.nat(3_600_000), draw, (ms, random) => {
        const wait = spreadMs(ms, random);
        expect(wait).toBeGreaterThanOrEqual(ms);
        expect(wait).toBeLessThanOrEqual(ms + Math.max(500, ms * 0.2));
      }),
    );
  });
});

describe('a back-off', () => {
  it('doubles to its bound, with full jitter down to a tenth', () => {
    const bounds = { firstMs: 1000, mostMs: 60_000 };
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), draw, (failures, random) => {
        const most = Math.min(60_000, 1000 * 2 ** Math.min(failures - 1, 40));
        const wait = backOffMs(failures, bounds, random);
        expect(wait).toBeGreaterThanOrEqual(most * 0.1 - 1e-6);
        expect(wait).toBeLessThanOrEqual(most);
      }),
    );
    expect([1, 2, 3, 7].map((failures) => backOffMs(failures, bounds, 0.999_999_999))).toEqual([
      ...[1000, 2000, 4000, 60_000].map((ms) => expect.closeTo(ms, 2)),
    ]);
  });
});
