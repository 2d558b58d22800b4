import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type ConnectionCount,
  connectionSpikeDetector,
  CONNECTIONS_KEY,
  SPIKE,
  type SpikeState,
} from './connection-spike.ts';
import type { Finding } from './detector.ts';

const { windowMs } = SPIKE;
const START = 1_700_000_000_000;

interface Arrival {
  readonly count: ConnectionCount;
  readonly now: number;
}

/** A process that counts: its windows are numbered from the start, its counts arrive a little after their windows. */
function gateway(instance: string): (window: number, numbers: Partial<ConnectionCount>) => Arrival {
  let sequence = 0;
  return (window, numbers) => {
    sequence += 1;
    const windowStart = START + window * windowMs;
    const count = { instance, sequence, windowStart, opened: 0, refused: 0, released: 0, ...numbers };
    return { count, now: windowStart + windowMs + 50 };
  };
}

interface Run {
  readonly findings: readonly Finding[];
  readonly state: SpikeState | null;
}

/** Through JSON between any two, as when another worker goes on. */
function run(arrivals: Iterable<Arrival>, from: SpikeState | null = null, stored = true): Run {
  const detector = connectionSpikeDetector(SPIKE);
  let state = from;
  const findings: Finding[] = [];
  for (const { count, now } of arrivals) {
    const step = detector.step(state, CONNECTIONS_KEY, count, now);
    state = stored ? (JSON.parse(JSON.stringify(step.state)) as SpikeState) : step.state;
    findings.push(...step.findings);
  }
  return { findings, state };
}

/** `each` connects in each of `windows` windows, one process. */
function steady(each: number, windows: number, from = 0, one = gateway('a')): Arrival[] {
  return Array.from({ length: windows }, (_, n) => one(from + n, { opened: each }));
}

/** Numbers of a Poisson process, by Knuth below 30 and as a rounded normal above; from a seed. */
function poisson(mean: number, seed: number): () => number {
  let word = seed >>> 0;
  const uniform = (): number => {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
    return (word + 0.5) / 4_294_967_296;
  };
  return () => {
    if (mean > 30) {
      const normal = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
      return Math.max(0, Math.round(mean + normal * Math.sqrt(mean)));
    }
    let events = -1;
    for (let left = 1; left > Math.exp(-mean); events += 1) left *= uniform();
    return events;
  };
}

describe('connection spike', () => {
  const begun = run(steady(20, 60)).state;
  const usual = (): SpikeState | null => begun;

  test.each([0.02, 0.5, 5, 20, 33, 60, 300, 5000])(
    'steady traffic of %d connects a window makes none in two days',
    (rate) => {
      for (const seed of [1, 2]) {
        const next = poisson(rate, seed);
        const one = gateway('a');
        const arrivals = function* (): Generator<Arrival> {
          for (let window = 0; window < 17_280; window += 1) {
            const opened = next();
            if (opened > 0) yield one(window, { opened });
          }
        };
        expect(run(arrivals(), null, false).findings).toEqual([]);
      }
    },
  );

  test('ten times as many make one within the window, with its evidence', () => {
    fc.assert(
      // From 20 on: ten times 11 is 110, and both windows of a Poisson 110 stay below the least threshold, 100, once in 50.
      fc.property(fc.integer({ min: 20, max: 5000 }), fc.nat(), (rate, seed) => {
        const [next, more] = [poisson(rate, seed), poisson(10 * rate, seed + 1)];
        const one = gateway('a');
        const calm = Array.from({ length: 60 }, (_, n) => one(n, { opened: next() }));
        const flood = Array.from({ length: 30 }, (_, n) => one(60 + n, { opened: more() }));
        const before = run(calm);
        const { findings } = run(flood.slice(0, 2), before.state);
        const all = run(flood, before.state).findings;
        return (
          before.findings.length === 0 &&
          findings[0]?.onset !== undefined &&
          findings[0].onset <= START + 61 * windowMs &&
          new Set(all.map(({ onset }) => onset)).size === 1
        );
      }),
      { numRuns: 50 },
    );
    const { findings } = run([gateway('a2')(60, { opened: 150, refused: 60 })], usual());
    expect(findings).toMatchObject([
      {
        ...{ kind: 'system.connection-spike', severity: 'moderate', status: 'actual', onset: START + 60 * windowMs },
        ...{ zoneId: null, deviceId: null, latitude: null, longitude: null },
        headline: 'Connection spike: 210 WebSocket handshakes in 10 s (usual: 20)',
      },
    ]);
    expect(findings[0]?.evidence).toEqual({
      ...{ connects: 210, opened: 150, returned: 0, refused: 60, baseline: 20, threshold: 100, instances: 1 },
      ...{ windowSeconds: 10, windowStart: START + 60 * windowMs },
    });
  });

  test('none is told within the first five minutes, nor below the floor', () => {
    expect(run(steady(5000, 30)).findings).toEqual([]);
    expect(run([...steady(5000, 1), ...steady(5000, 30, 1000)]).findings).toHaveLength(1);
    expect(run([gateway('b')(60, { opened: 100 })], usual()).findings).toEqual([]);
    expect(run([gateway('b')(60, { opened: 101 })], usual()).findings).toHaveLength(1);
  });

  test('refused handshakes count as those that were let in', () => {
    expect(run([gateway('b')(60, { refused: 500 })], usual()).findings).toMatchObject([{ severity: 'severe' }]);
  });

  test('what many processes count in a window is one spike, told again when it has grown by half or is worse', () => {
    const arrivals = ['b', 'c', 'd', 'e', 'f', 'g'].map((name) => gateway(name)(60, { opened: 90 }));
    const { findings } = run(arrivals, usual());
    expect(findings.map(({ evidence: { connects, instances } }) => [connects, instances])).toEqual([
      [180, 2],
      [270, 3],
      [450, 5],
      [540, 6],
    ]);
    expect(findings.map(({ severity }) => severity)).toEqual(['moderate', 'moderate', 'moderate', 'severe']);
    expect(new Set(findings.map(({ onset }) => onset)).size).toBe(1);
  });

  test('the order in which processes tell of a window does not matter for its onset nor for what is told last', () => {
    const names = ['b', 'c', 'd', 'e'];
    fc.assert(
      fc.property(fc.shuffledSubarray(names, { minLength: 4 }), (order) => {
        const { findings } = run(
          order.map((name) => gateway(name)(60, { opened: 100 * 2 ** names.indexOf(name) })),
          usual(),
        );
        return findings.every(({ onset }) => onset === START + 60 * windowMs) && findings.at(-1)?.severity === 'severe';
      }),
    );
  });

  test('a count that comes twice, or too late, changes nothing', () => {
    const one = gateway('b');
    const first = one(60, { opened: 90 });
    const { state, findings } = run([first, first, first], usual());
    expect(findings).toEqual([]);
    expect(state?.windows.at(-1)).toMatchObject({ opened: 90, instances: 1 });
    const later = run(steady(20, 10, 61, gateway('c')), state).state;
    const late = gateway('d')(62, { opened: 10_000 });
    expect(run([{ ...late, now: late.now + 60_000 }, first], later)).toEqual({ state: later, findings: [] });
  });

  test('the same counts make the same alerts, whoever works them off and however often they come', () => {
    const numbers = fc.record({
      gap: fc.nat(4),
      by: fc.nat(2),
      opened: fc.nat(400),
      refused: fc.nat(50),
      released: fc.nat(30),
    });
    const arrivalsOf = (
      all: readonly { gap: number; by: number; opened: number; refused: number; released: number }[],
    ): Arrival[] => {
      const gateways = ['x', 'y', 'z'].map((name) => gateway(name));
      let window = 60;
      return all.flatMap(({ gap, by, ...count }) => {
        // Half of them in the window before.
        window += Math.floor(gap / 2);
        const one = gateways[by];
        return one === undefined ? [] : [one(window, count)];
      });
    };
    fc.assert(
      fc.property(fc.array(numbers, { minLength: 50, maxLength: 300 }), fc.infiniteStream(fc.nat(3)), (all, again) => {
        const arrivals = arrivalsOf(all);
        const repeats = again[Symbol.iterator]();
        const doubled = arrivals.flatMap((arrival, n) => {
          const earlier = arrivals[n - Number(repeats.next().value)];
          return earlier === undefined ? [arrival] : [arrival, { count: earlier.count, now: arrival.now }];
        });
        const once = run(arrivals, begun, false);
        expect(run(arrivals, begun)).toEqual(once);
        expect(run(doubled, begun)).toEqual(once);
      }),
      { numRuns: 100 },
    );
  });

  test('a count that comes late, but before its window is learned, still makes the alert, with the onset of its window', () => {
    const state = run(steady(20, 3, 60, gateway('c')), usual()).state;
    expect(run([gateway('d')(60, { opened: 500 })], state).findings).toMatchObject([{ onset: START + 60 * windowMs }]);
  });

  test('windows without counts were empty, however long ago', () => {
    const many = run(steady(1000, 60)).state;
    expect(run([gateway('b')(60, { opened: 2900 })], many).findings).toEqual([]);
    expect(run([gateway('b')(60 + 360, { opened: 2900 })], many).findings).toHaveLength(1);
  });

  test('a flood that goes on is one spike; after five quiet minutes the next is another', () => {
    const one = gateway('b');
    const windows = (from: number, to: number, opened: number): Arrival[] =>
      Array.from({ length: to - from }, (_, n) => one(from + n, { opened }));
    const arrivals = [...windows(60, 360, 700), ...windows(360, 560, 20), ...windows(560, 565, 900)];
    const { findings } = run(arrivals, usual());
    expect(findings.map(({ onset }) => (onset - START) / windowMs)).toEqual([60, 560]);
  });

  test('a flood that comes and goes within five minutes is one spike', () => {
    const one = gateway('b');
    const arrivals = Array.from({ length: 300 }, (_, n) => one(60 + n, { opened: n % 25 === 0 ? 500 : 20 }));
    expect(run(arrivals, usual()).findings).toHaveLength(1);
  });

  test('those that a restart of ours let go come back for free, wherever they go; others do not', () => {
    const [old, next] = [gateway('old'), gateway('next')];
    const restart = [old(60, { released: 3000 }), next(60, { opened: 1200 }), next(61, { opened: 1800 })];
    const { findings, state } = run(restart, usual());
    expect(findings).toEqual([]);
    expect(state?.away).toEqual([]);
    expect(run([next(62, { opened: 300 })], state).findings).toHaveLength(1);
    expect(run([old(60, { released: 3000 }), next(61, { refused: 600 })], usual()).findings).toHaveLength(1);
    expect(run([old(60, { released: 3000 }), next(122, { opened: 600 })], usual()).findings).toHaveLength(1);
  });

  test('a clock that was far ahead and was set back begins anew, a late count does not', () => {
    const ahead = run([gateway('b')(1_000_000, { opened: 1 })], usual()).state;
    const { count, now } = gateway('c')(61, { opened: 7 });
    expect(run([{ count, now: now + 3_600_000 }], ahead).state).toEqual(ahead);
    const anew = run([{ count, now }], ahead).state;
    expect(anew).toMatchObject({ newest: Math.floor(START / windowMs) + 61, spike: null, baseline: { seen: 0 } });
  });

  test('what is no count, or lies ahead of its arrival, is left out', () => {
    const detector = connectionSpikeDetector(SPIKE);
    const { count, now } = gateway('b')(60, { opened: 5000 });
    const wrong = [null, 7, 'x', {}, { ...count, opened: -1 }, { ...count, refused: 0.5 }, { ...count, instance: 3 }];
    for (const item of wrong)
      expect(detector.step(begun, CONNECTIONS_KEY, item, now)).toEqual({ state: begun, findings: [] });
    expect(detector.step(begun, CONNECTIONS_KEY, count, now - 100_000).findings).toEqual([]);
  });

  test('time alone changes nothing', () => {
    const detector = connectionSpikeDetector(SPIKE);
    if (begun === null) throw new Error('no state');
    expect(detector.tick(begun, CONNECTIONS_KEY, START + 1e9).state).toBe(begun);
  });

  test('what is remembered stays small, whatever happens', () => {
    const gateways = Array.from({ length: 1500 }, (_, n) => gateway(`g${n}`));
    const crowd = run(
      gateways.map((one) => one(60, { opened: 3, released: 1 })),
      usual(),
      false,
    ).state;
    expect(Object.keys(crowd?.heard ?? {})).toHaveLength(1000);
    const long = run(
      Array.from({ length: 500 }, (_, n) => gateway(`h${n}`)(64 + n, { opened: 1, released: 500 })),
      crowd,
      false,
    ).state;
    expect(long?.windows.length).toBeLessThanOrEqual(4);
    expect(long?.away.length).toBeLessThanOrEqual(64);
    expect(Object.keys(long?.heard ?? {}).length).toBeLessThanOrEqual(4);
  });
});
