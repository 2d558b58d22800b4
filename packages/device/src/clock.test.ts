import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createClock, learnOffset, type OffsetBounds, readDate } from './clock.ts';
import { createFakeTime } from './fake-time.suite.ts';

const START = Date.UTC(2026, 10, 28, 12, 0, 0);

describe('the Date of an answer', () => {
  it('is read when it is one, and not when it is missing or absurd', () => {
    expect(readDate('Sat, 28 Nov 2026 12:00:00 GMT')).toBe(START);
    const absurd = ['Sat, 28 Nov 2026', '2026-11-28T12:00:00Z', 'Sat, 31 Feb 2026 12:00:00 GMT', 'soon', ''];
    const outside = ['Thu, 01 Jan 1970 00:00:00 GMT', 'Fri, 01 Jan 2100 00:00:00 GMT'];
    for (const header of [undefined, ...absurd, ...outside]) expect(readDate(header)).toBeNull();
  });
});

/** Exchanges as they may be: pauses, ways there and back, what the server takes to answer; drift of our quartz. */
const exchanges = fc.array(
  fc.record({ pause: fc.nat(600_000), there: fc.nat(3000), work: fc.nat(5000), back: fc.nat(3000) }),
  { minLength: 1, maxLength: 40 },
);

describe('the offset that is learned', () => {
  it('lies within the bounds whatever the ways, with a drifting quartz, and its error under half of the best round trip and second', () => {
    const drifts = fc.double({ min: -100e-6, max: 100e-6, noNaN: true });
    fc.assert(
      fc.property(exchanges, drifts, fc.integer({ min: -1e9, max: 1e9 }), (list, drift, ahead) => {
        let bounds: OffsetBounds | null = null;
        let truth = START;
        /** Our counter runs by `drift` too fast. */
        const counter = (): number => (truth - START) * (1 + drift);
        for (const { pause, there, work, back } of list) {
          truth += pause;
          const sentAt = counter();
          truth += there;
          const date = Math.floor((truth + ahead) / 1000) * 1000;
          truth += work + back;
          const receivedAt = counter();
          bounds = learnOffset(bounds, { date, sentAt, receivedAt });
          const offset = truth + ahead - receivedAt;
          if (bounds === null) throw new Error('nothing was learned');
          // 1 ms: the sums are of doubles near 2^41.
          expect(offset).toBeGreaterThanOrEqual(bounds.lower - 1 - 11_000 * 100e-6);
          expect(offset).toBeLessThanOrEqual(bounds.upper + 1 + 11_000 * 100e-6);
        }
      }),
    );
  });

  it('gets better with every answer at another part of the second, never worse than the last one alone', () => {
    let bounds: OffsetBounds | null = null;
    for (let step = 0; step < 20; step += 1) {
      const at = step * 1050;
      bounds = learnOffset(bounds, { date: START + Math.floor(at / 1000) * 1000, sentAt: at, receivedAt: at + 10 });
    }
    if (bounds === null) throw new Error('nothing was learned');
    expect(bounds.upper - bounds.lower).toBeLessThan(350);
    expect(Math.abs((bounds.upper + bounds.lower) / 2 - START)).toBeLessThan(200);
  });

  it('is forgotten for an answer that contradicts it', () => {
    const first = learnOffset(null, { date: START, sentAt: 0, receivedAt: 10 });
    const moved = learnOffset(first, { date: START + 3_600_000, sentAt: 1000, receivedAt: 1010 });
    expect(moved).toEqual({ lower: START + 3_600_000 - 1010, upper: START + 3_600_000 + 1250 - 1000, at: 1010 });
  });

  it('is not learned from an answer that took longer than a minute, or came before it was asked for', () => {
    expect(learnOffset(null, { date: START, sentAt: 0, receivedAt: 60_001 })).toBeNull();
    expect(learnOffset(null, { date: START, sentAt: 5, receivedAt: 4 })).toBeNull();
    expect(learnOffset(null, { date: START, sentAt: Number.NaN, receivedAt: 4 })).toBeNull();
  });
});

describe('the corrected clock', () => {
  it("is the machine's until the server's is known, then goes on when somebody sets the machine's", () => {
    const time = createFakeTime(START - 7_200_000);
    const clock = createClock(time);
    expect(clock.now()).toBe(START - 7_200_000);
    expect(clock.offset()).toBeNull();
    const at = time.monotonic();
    clock.learn({ date: START, sentAt: at, receivedAt: at });
    expect(clock.now()).toBe(START + 625);
    expect(clock.offset()).toEqual({ offsetMs: 7_200_625, uncertaintyMs: 625 });
    time.setWall(0);
    time.advance(1000);
    expect(clock.now()).toBe(START + 1625);
  });

  it('is less sure the longer it heard nothing', () => {
    const time = createFakeTime(START);
    const clock = createClock(time);
    clock.learn({ date: START, sentAt: time.monotonic(), receivedAt: time.monotonic() });
    time.advance(3_600_000);
    expect(clock.offset()?.uncertaintyMs).toBe(625 + 720);
  });
});
