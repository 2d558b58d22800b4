import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIRST_PAUSE_MS, LONGEST_PAUSE_MS, pauseAfter, readRetryAfter, RETRY_AFTER_MOST_MS } from './retry.ts';

const NOW = Date.UTC(2026, 10, 28, 19, 30, 0);

describe('the pause after a failure', () => {
  it('doubles from a second to a minute', () => {
    const whole = [1, 2, 3, 4, 5, 6, 7, 8].map((attempts) => pauseAfter(attempts, undefined, 1));
    expect(whole).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    expect(pauseAfter(3, undefined, 0)).toBe(2000);
  });

  it('is never shorter than what the other side asked for, up to a bound', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 31 }),
        fc.nat(1e9),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (n, asked, random) => {
          const pause = pauseAfter(n, asked, random);
          expect(pause).toBeGreaterThanOrEqual(Math.min(asked, RETRY_AFTER_MOST_MS));
          expect(pause).toBeGreaterThanOrEqual(FIRST_PAUSE_MS / 2);
          expect(pause).toBeLessThanOrEqual(Math.max(LONGEST_PAUSE_MS, RETRY_AFTER_MOST_MS));
          expect(Number.isInteger(pause)).toBe(true);
        },
      ),
    );
  });
});

describe('Retry-After', () => {
  it.each([
    ['30', 30_000],
    ['0', 0],
    [' 7 ', 7000],
    ['Sat, 28 Nov 2026 19:31:00 GMT', 60_000],
    ['Saturday, 28-Nov-26 19:31:00 GMT', 60_000],
    ['Sat Nov 28 19:31:00 2026', 60_000],
    ['Sat, 28 Nov 2026 19:29:00 GMT', 0],
  ])('%j is read', (header, ms) => {
    expect(readRetryAfter(header, NOW)).toBe(ms);
  });

  it.each([
    '',
    'soon',
    '-1',
    '1.5',
    '1e3',
    '0x10',
    '2026-11-28T19:31:00Z',
    'Sat, 99 Nov 2026 19:31:00 GMT',
    '9'.repeat(65),
    undefined,
  ])('%j is none', (header) => {
    expect(readRetryAfter(header, NOW)).toBeUndefined();
  });

  it('is a number of ms from 0 on, or none, whatever is sent', () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        const ms = readRetryAfter(header, NOW);
        expect(ms === undefined || ms >= 0).toBe(true);
      }),
    );
  });
});
