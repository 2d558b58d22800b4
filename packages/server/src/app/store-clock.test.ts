import { describe, expect, it } from 'vitest';
import { correction, createStoreClock } from './store-clock.ts';

const trip = (offset: number, ms = 10) => ({ sentAt: 1000, answeredAt: 1000 + ms, storeAt: 1000 + ms / 2 + offset });

describe('the clock beside the store', () => {
  it('is left alone while it differs by a second at most', () => {
    expect(correction(0, trip(999))).toBe(0);
    expect(correction(-5000, trip(-1000))).toBe(0);
  });

  it('follows the store when it differs by more, both ways', () => {
    expect(correction(0, trip(90_000))).toBe(90_000);
    expect(correction(0, trip(-61_000))).toBe(-61_000);
  });

  it('learns nothing from a slow round trip, or one during which it was set back', () => {
    expect(correction(70_000, trip(0, 501))).toBe(70_000);
    expect(correction(0, { sentAt: 1000, answeredAt: 900, storeAt: 99_000 })).toBe(0);
  });

  it('tells of a correction once, and corrects now() only', async () => {
    const heard: number[] = [];
    const local = { now: () => 1_000_000, monotonic: () => 5 };
    const db = { query: async () => [{ now: 1_090_000 }] as never[] };
    const clock = createStoreClock(db, local, (ms) => heard.push(ms));
    await clock.compare();
    await clock.compare();
    expect([clock.now(), clock.monotonic(), heard]).toEqual([1_090_000, 5, [90_000]]);
    await clock.stop();
  });

  it('asks again when the first answer took long, as one does that has to connect', async () => {
    let asked = 0;
    let time = 1_000_000;
    const local = { now: () => time, monotonic: () => 5 };
    const query = async () => {
      asked += 1;
      if (asked < 3) time += 600;
      return [{ now: time + 90_000 }] as never[];
    };
    const clock = createStoreClock({ query }, local, () => undefined);
    await clock.compare();
    expect([asked, clock.now() - time]).toEqual([3, 90_000]);
    await clock.stop();
  });
});
