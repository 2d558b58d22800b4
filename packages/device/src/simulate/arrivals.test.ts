import { describe, expect, it } from 'vitest';
import {
  type Arrival,
  type ArrivalSource,
  baseArrivals,
  earthquakeArrivals,
  mergeArrivals,
  waveformArrivals,
} from './arrivals.ts';
import { createRandom } from './random.ts';

function take(source: ArrivalSource, count: number): Arrival[] {
  const taken: Arrival[] = [];
  for (let next = source.peek(); next !== null && taken.length < count; next = source.peek()) {
    taken.push(next);
    source.advance();
  }
  return taken;
}

const FELT = { pMs: 0, sMs: 0, pPeak: 1, sPeak: 1 };

describe('arrivals', () => {
  it('of a regular schedule are evenly spread and do not drift', () => {
    const due = take(baseArrivals(3, 'regular', createRandom('s')), 3001).map((arrival) => arrival.due);
    expect(due[1]).toBeCloseTo(1000 / 3);
    expect(due[3000]).toBeCloseTo(1_000_000, 3);
  });

  it('of a Poisson schedule have the rate as their mean and as much spread as a Poisson process', () => {
    const due = take(baseArrivals(100, 'poisson', createRandom('s')), 20_000).map((arrival) => arrival.due);
    const gaps = due.map((at, i) => at - (due[i - 1] ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    expect(mean).toBeGreaterThan(9.7);
    expect(mean).toBeLessThan(10.3);
    expect(deviation / mean).toBeGreaterThan(0.95);
    expect(deviation / mean).toBeLessThan(1.05);
  });

  it('are the same for the same seed, others for another', () => {
    const times = (seed: string): number[] =>
      take(baseArrivals(10, 'poisson', createRandom(seed)), 5).map(({ due }) => due);
    expect(times('one')).toEqual(times('one'));
    expect(times('one')).not.toEqual(times('other'));
  });

  it('of waveforms give each device a packet in each period, at its own moment', () => {
    const taken = take(waveformArrivals([4, 9], 1024), 4);
    expect(taken).toEqual([
      { kind: 'waveform', due: 1024, device: 4 },
      { kind: 'waveform', due: 1536, device: 9 },
      { kind: 'waveform', due: 2048, device: 4 },
      { kind: 'waveform', due: 2560, device: 9 },
    ]);
  });

  it('of earthquakes that overlap come in the order of time, and end with the last one', () => {
    const source = earthquakeArrivals(
      (n) => (n < 2 ? n * 100 : null),
      (n) => [150, 50].map((ms): Arrival => ({ kind: 'earthquake', due: n * 100 + ms, device: n, felt: FELT })),
    );
    expect(take(source, 10).map(({ kind, due }) => [kind, due])).toEqual([
      ['origin', 0],
      ['earthquake', 50],
      ['origin', 100],
      ['earthquake', 150],
      ['earthquake', 150],
      ['earthquake', 250],
    ]);
  });

  it('of several sources are merged by time; without a rate and without devices there are none', () => {
    const merged = mergeArrivals([
      baseArrivals(1, 'regular', createRandom('s')),
      waveformArrivals([1], 700),
      baseArrivals(0, 'poisson', createRandom('s')),
      waveformArrivals([], 700),
    ]);
    expect(take(merged, 5).map(({ due }) => due)).toEqual([0, 700, 1000, 1400, 2000]);
    expect(mergeArrivals([]).peek()).toBeNull();
  });
});
