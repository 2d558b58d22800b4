import { describe, expect, test } from 'vitest';
import type { ConnectionCount } from '../detectors/connection-spike.ts';
import { createHandshakeCounts, type HandshakeCounts } from './handshake-counts.ts';

const START = 1_700_000_000_000;

interface Bench {
  readonly counts: HandshakeCounts;
  readonly appended: ConnectionCount[];
  readonly failures: unknown[];
  /** Timers that run. */
  timers(): number;
  /** Moves the clock and runs what is due. */
  pass(ms: number): Promise<void>;
  /** What an append does; resolves when null. */
  store: (() => Promise<void>) | null;
}

function bench(): Bench {
  let now = START + 2000;
  let timers: { at: number; work: () => void }[] = [];
  const it: Bench = {
    appended: [],
    failures: [],
    store: null,
    timers: () => timers.length,
    async pass(ms) {
      now += ms;
      const due = timers.filter(({ at }) => at <= now);
      timers = timers.filter(({ at }) => at > now);
      for (const { work } of due) work();
      for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    },
    counts: createHandshakeCounts({
      instance: 'i',
      windowMs: 10_000,
      now: () => now,
      append: async (count) => {
        await it.store?.();
        it.appended.push(count);
      },
      failed: (error) => it.failures.push(error),
      later: (work, ms) => {
        const timer = { at: now + ms, work };
        timers.push(timer);
        return () => {
          timers = timers.filter((other) => other !== timer);
        };
      },
    }),
  };
  return it;
}

const away = (): Promise<void> => Promise.reject(new Error('away'));

describe('counts of handshakes', () => {
  test('are one record at the end of each window in which something was counted', async () => {
    const it = bench();
    it.counts.opened();
    it.counts.opened();
    it.counts.refused();
    expect(it.timers()).toBe(1);
    await it.pass(7999);
    expect(it.appended).toEqual([]);
    await it.pass(1);
    const first = { instance: 'i', sequence: 1, windowStart: START, opened: 2, refused: 1, released: 0 };
    expect(it.appended).toEqual([first]);
    expect(it.timers()).toBe(0);
    await it.pass(100_000);
    it.counts.released(0);
    expect(it.timers()).toBe(0);
    it.counts.released(4);
    await it.pass(10_000);
    expect(it.appended).toEqual([
      first,
      { instance: 'i', sequence: 2, windowStart: START + 110_000, opened: 0, refused: 0, released: 4 },
    ]);
  });

  test('of the next window do not get into the one before, however late its timer runs', async () => {
    const it = bench();
    it.counts.opened();
    // No timer runs meanwhile.
    const late = it.pass(10_000);
    it.counts.opened();
    await late;
    await it.pass(20_000);
    expect(it.appended.map(({ windowStart, opened }) => [windowStart - START, opened])).toEqual([
      [0, 1],
      [10_000, 1],
    ]);
  });

  test('are sent again as they were while the store is away, in order, and given up after a minute', async () => {
    const it = bench();
    it.store = away;
    for (let window = 0; window < 9; window += 1) {
      it.counts.opened();
      await it.pass(10_000);
    }
    expect(it.appended).toEqual([]);
    expect(it.failures.length).toBeGreaterThan(5);
    it.store = null;
    await it.pass(10_000);
    expect(it.appended.map(({ sequence }) => sequence)).toEqual([5, 6, 7, 8, 9].slice(-it.appended.length));
    expect(it.appended.length).toBeGreaterThanOrEqual(4);
    expect(it.timers()).toBe(0);
  });

  test('stop being tried when nothing new comes and the store stays away', async () => {
    const it = bench();
    it.store = away;
    it.counts.opened();
    for (let window = 0; window < 10; window += 1) await it.pass(10_000);
    expect(it.timers()).toBe(0);
    expect(it.failures.length).toBeLessThanOrEqual(7);
  });

  test('are appended at once when asked for, and what is counted after that in the same window too', async () => {
    const it = bench();
    it.counts.opened();
    it.counts.released(7);
    await it.counts.flush(1000);
    it.counts.refused();
    await it.pass(10_000);
    expect(
      it.appended.map(({ sequence, windowStart, opened, refused, released }) => [
        sequence,
        windowStart - START,
        opened,
        refused,
        released,
      ]),
    ).toEqual([
      [1, 0, 1, 0, 7],
      [2, 0, 0, 1, 0],
    ]);
  });

  test('end with a last record and no timer', async () => {
    const it = bench();
    it.counts.opened();
    await it.counts.stop(1000);
    it.counts.opened();
    expect(it.appended.map(({ opened }) => opened)).toEqual([1]);
    expect(it.timers()).toBe(0);
  });

  test('do not hold up who flushes them when the store does not answer', async () => {
    const it = bench();
    it.store = () => new Promise(() => undefined);
    it.counts.opened();
    await it.counts.flush(5);
    expect(it.appended).toEqual([]);
  });
});
