import { describe, expect, test } from 'vitest';
import { NETWORK } from '../profiles/seismic/detection.ts';
import { weightOf } from './association.ts';
import { add, burst, grid, listen, noise, shake, START, type Trace } from './ground.suite.ts';
import { networkDetector } from './network.ts';
import type { NetworkInput, NetworkState } from './network-state.ts';
import { distanceKm, offset } from './travel.ts';

const SOURCE = { latitude: 16.4, longitude: -98.6 };
/** What findings are there, by onset. */
const onsets = (findings: readonly { onset: number }[]): number[] => [...new Set(findings.map(({ onset }) => onset))];

function felt(size = 0.5, traces: Trace[] = grid(4, 35, 120)): Trace[] {
  shake(traces, SOURCE, 50, size);
  return traces;
}

describe('a network', () => {
  test('an earthquake is one alert, near its place, and its onset never changes', () => {
    const { findings } = listen(felt());
    expect(onsets(findings)).toHaveLength(1);
    expect(findings.length).toBeGreaterThan(1);
    const [first] = findings;
    expect(first?.kind).toBe('seismic.event');
    expect(distanceKm(SOURCE, { latitude: first?.latitude ?? 0, longitude: first?.longitude ?? 0 })).toBeLessThan(60);
    expect((first?.onset ?? 0) - START).toBeGreaterThan(49_000);
    expect((first?.onset ?? 0) - START).toBeLessThan(60_000);
  });

  test('noise is none', () => {
    expect(listen(grid(4, 35, 300, 2)).findings).toEqual([]);
  });

  test('one station alone makes none, however much it shakes and for however long', () => {
    const bumped = grid(4, 35, 120, 3);
    for (const axis of [0, 1, 2]) add(bumped[5] ?? noise('', SOURCE, 1, 1), axis, 50, burst(20, 3, axis + 1));
    for (const from of [60, 70, 80, 90]) add(bumped[5] ?? noise('', SOURCE, 1, 1), 1, from, burst(20, 2, from));
    expect(listen(bumped).findings).toEqual([]);
  });

  test('a lorry that passes station after station makes none', () => {
    const traces = grid(4, 35, 180, 4);
    // 35 km apart at 90 km/h would be 23 minutes; even two stations within a minute are nothing.
    for (const [i, from] of [
      [0, 60],
      [1, 110],
    ] as const) {
      const hum = burst(0.01, 1000, i + 5);
      const trace = traces[i];
      if (trace !== undefined)
        for (const axis of [0, 1, 2]) add(trace, axis, from, (t) => hum(t) * Math.exp(-(((t - 15) / 8) ** 2)));
    }
    expect(listen(traces).findings).toEqual([]);
  });

  test('the same spike on every station at once makes none, however long it rings', () => {
    for (const shape of [
      (t: number): number => (t < 0.04 ? 5 : 0),
      (t: number): number => (t < 0.3 ? 5 * Math.sin(60 * t) : 0),
      (t: number): number => (t < 1.5 ? 2 * Math.sin(30 * t) : 0),
    ]) {
      const traces = grid(4, 35, 100, 5);
      for (const trace of traces) for (const axis of [0, 1, 2]) add(trace, axis, 60, shape);
      expect(listen(traces).findings).toEqual([]);
    }
  });

  test('clocks that are hours off change neither that nor where', () => {
    const right = listen(felt());
    const wrong = listen(felt(), (deviceId) => (Number(deviceId.slice(1)) % 3) * 3_600_000 - 3_600_000);
    expect(onsets(wrong.findings)).toHaveLength(1);
    expect(Math.abs((wrong.findings[0]?.onset ?? 0) - (right.findings[0]?.onset ?? 0))).toBeLessThan(1500);
    const quiet = listen(grid(4, 35, 200, 6), (deviceId) => Number(deviceId.slice(1)) * 100_000);
    expect(quiet.findings).toEqual([]);
  });

  test('strong shaking needs fewer stations than the quorum, and comes earlier', () => {
    const weak = listen(felt(0.05));
    const strong = listen(felt(5));
    expect(strong.findings[0]?.evidence['stations']).toBeLessThan(NETWORK.quorum);
    expect(weak.findings[0]?.evidence['lane']).toBe('quorum');
  });

  test('a larger earthquake right after the first is told, a smaller one right after is not', () => {
    const later = (size: number): number => {
      const traces = felt(0.3, grid(4, 35, 200));
      shake(traces, { latitude: 16.7, longitude: -98.3 }, 105, size);
      return onsets(listen(traces).findings).length;
    };
    expect(later(5)).toBe(2);
    expect(later(0.02)).toBe(1);
  });

  test('two earthquakes far apart at the same time are two', () => {
    const here = grid(3, 30, 120);
    const there = grid(3, 30, 120, 9).map((trace) => ({
      ...trace,
      deviceId: `t${trace.deviceId}`,
      place: offset(trace.place, 2000, 90),
    }));
    shake(here, SOURCE, 50, 0.5);
    shake(there, offset(SOURCE, 2000, 90), 52, 0.5);
    expect(onsets(listen([...here, ...there]).findings)).toHaveLength(2);
  });

  test('the same log gives the same findings wherever its state was saved', () => {
    const { told } = listen(felt());
    const run = (save: boolean): unknown => {
      const detector = networkDetector(NETWORK);
      let state: NetworkState | null = null;
      return told.map((input) => {
        const step = detector.step(
          save ? (JSON.parse(JSON.stringify(state)) as NetworkState | null) : state,
          'network:x',
          input,
          input.at + 2000,
        );
        state = step.state;
        return step.findings;
      });
    };
    expect(run(true)).toEqual(run(false));
  });

  test('after the earthquake its state goes', () => {
    const { network } = listen(felt());
    const detector = networkDetector(NETWORK);
    const later = detector.tick(network ?? { stations: {}, picks: [], events: [] }, 'network:x', START + 1_000_000);
    expect(later.state?.events).toEqual([]);
    expect(
      detector.tick(later.state ?? { stations: {}, picks: [], events: [] }, 'network:x', START + 10 * 86_400_000).state,
    ).toBeNull();
  });

  test('a station that cries wolf has a lighter vote', () => {
    const facts = { latitude: 0, longitude: 0, heardAt: 0, busy: 0, busyAt: 0 };
    const weight = (busy: number, now = 0): number =>
      weightOf(NETWORK, { stations: { s: { ...facts, busy } }, picks: [], events: [] }, 's', now);
    expect(weight(0)).toBe(1);
    const [some, many] = [1, 20].map((busy) => weight(busy));
    expect(some).toBeLessThan(1);
    expect(many).toBeLessThan(some ?? 0);
    expect(weight(20, 7_200_000)).toBeGreaterThan(0.99);
  });

  test('a flood of picks stays bounded', () => {
    const detector = networkDetector(NETWORK);
    let state: NetworkState | null = null;
    for (let i = 0; i < 400; i += 1) {
      const place = offset({ latitude: 16, longitude: -99 }, 3000, (i * 37) % 360);
      const pick: NetworkInput = {
        kind: 'pick',
        at: START + i,
        again: false,
        amplitude: 0.01,
        level: 3,
        lasted: 500,
        clipped: false,
        ...place,
        deviceId: `f${i}`,
        envelopeId: 'e',
      };
      state = detector.step(state, 'network:x', pick, START + 2000 + i).state;
    }
    expect(state?.picks.length).toBeLessThanOrEqual(2000);
  });
});
