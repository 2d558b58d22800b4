import type { Envelope, HostReading } from '@tocsin/protocol/envelope';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Origin, Watcher } from '../profiles/profile.ts';
import type { LogRecord } from '../store/ports/log.ts';
import { type Meaning, type States, workOff } from '../workers/batch.ts';
import { SILENCE_KEY, type SilenceNotice, type SilenceState, silenceWatcher } from './silence.ts';

const NOW = 1_795_176_000_000;
const SECOND = 1000;
const HOUR = 3_600_000;
const watcher = silenceWatcher({ leastMs: 30 * SECOND });
const origin = (now: number, more: Partial<Origin> = {}): Origin => ({
  ...{ deviceId: 'h1', zoneId: null, envelopeId: 'e', now, byArrival: true, place: null },
  ...more,
});
const reading = { at: 0, cpu_percent: 1 } as HostReading;

/** One host and the ticks of its partition, in seconds after NOW. */
function host(more: Partial<Origin> = {}) {
  let state: SilenceState | null = null;
  let writes = 0;
  const told: string[] = [];
  const note = (items: readonly { item: unknown }[]): void => {
    for (const { item } of items) {
      const { kind, since, at } = item as SilenceNotice;
      told.push(`${kind} ${(since - NOW) / SECOND} ${(at - NOW) / SECOND}`);
    }
  };
  return {
    told,
    writes: () => writes,
    state: () => state,
    frame(at: number): void {
      const step = watcher.step(state, origin(NOW + at * SECOND, more), reading);
      if (step.state !== state) writes += 1;
      state = step.state;
      note(step.notices);
    },
    frames(from: number, to: number, every: number): void {
      for (let at = from; at <= to; at += every) this.frame(at);
    },
    tick(at: number, listening = -1e9): void {
      if (state === null) return;
      const step = watcher.tick(state, 'h1', NOW + at * SECOND, NOW + listening * SECOND);
      state = step.state;
      note(step.notices ?? []);
    },
    ticks(from: number, to: number, listening = -1e9): void {
      for (let at = from; at <= to; at += 10) this.tick(at, listening);
    },
  };
}

describe('a host that reported regularly and is silent', () => {
  test('is told once, after PRUNE_SECONDS and the step by which its last sign of life is known, and again when it is back', () => {
    const one = host();
    one.frames(0, 100, 5);
    one.ticks(100, 139);
    expect(one.told).toEqual([]);
    one.ticks(140, 600);
    expect(one.told).toEqual(['silent 100 140']);
    one.frame(900);
    expect(one.told).toEqual(['silent 100 140', 'back 100 900']);
    one.ticks(900, 930);
    expect(one.told).toHaveLength(2);
  });

  test('costs a write in ten seconds, not one for each frame', () => {
    const one = host();
    one.frames(0, 600, 1);
    expect(one.writes()).toBe(61);
  });

  test('is not told before it was noted three times', () => {
    const one = host();
    one.frames(0, 19, 1);
    one.ticks(20, 3600);
    expect(one.told).toEqual([]);
    one.tick(25 * 3600);
    expect(one.state()).toBeNull();
  });

  test('has three times its usual interval', () => {
    const one = host();
    one.frames(0, 600, 60);
    one.ticks(600, 780);
    expect(one.told).toEqual([]);
    one.ticks(790, 800);
    expect(one.told).toEqual(['silent 600 790']);
  });

  test('is not taken for a rare one because its first frame came long before the others', () => {
    const one = host();
    one.frame(-7 * 3600);
    one.frames(0, 100, 5);
    one.ticks(100, 130);
    expect(one.told).toEqual([]);
    one.ticks(140, 150);
    expect(one.told).toEqual(['silent 100 140']);
  });

  test('that takes a slower rhythm is told once or twice, not for ever', () => {
    const one = host();
    one.frames(0, 100, 5);
    for (let at = 220; at < 10_000; at += 120) {
      one.frame(at);
      one.ticks(at + 5, at + 119);
    }
    expect(one.told.filter((line) => line.startsWith('silent')).length).toBeLessThanOrEqual(3);
  });

  test('is not told for a time in which nobody listened', () => {
    const one = host();
    one.frames(0, 100, 5);
    // The server was down for an hour.
    one.ticks(3700, 3735, 3700);
    expect(one.told).toEqual([]);
    one.frames(3736, 3800, 5);
    one.ticks(3800, 3830, 3700);
    expect(one.told).toEqual([]);
  });

  test('is told in its time when nobody listened and it does not come back', () => {
    const one = host();
    one.frames(0, 100, 5);
    one.ticks(3700, 3740, 3700);
    expect(one.told).toEqual(['silent 100 3740']);
  });

  test('is given up after a week, which ends what was told; from then on it is a stranger', () => {
    const one = host();
    one.frames(0, 100, 5);
    one.tick(200);
    one.tick(100 + 7 * 24 * 3600);
    expect(one.state()?.silent).toBe(true);
    one.tick(101 + 7 * 24 * 3600);
    expect(one.told.map((line) => line.split(' ')[0])).toEqual(['silent', 'gone']);
    expect(one.state()).toBeNull();
  });

  test('that is a simulated one is told apart at ticks', () => {
    const one = host({ exercise: true });
    one.frames(0, 100, 5);
    const step = watcher.tick(one.state() as SilenceState, 'h1', NOW + HOUR, 0);
    expect(step.notices).toMatchObject([
      { key: SILENCE_KEY, exercise: true, item: { kind: 'silent', deviceId: 'h1' } },
    ]);
  });
});

const meaning: Meaning = {
  decode: ({ body }) => JSON.parse(body) as Envelope,
  measure: () => ({ value: 0, fields: null }),
  notice: () => [],
  watchers: () => [watcher as Watcher<unknown>],
  detectors: () => [],
};

type Drawn = readonly [wait: number, device: number | null];

/** Frames of three hosts and ticks (null) in the order of the log. */
const drawings: fc.Arbitrary<readonly Drawn[]> = fc.array(
  fc.tuple(fc.integer({ min: 0, max: 25_000 }), fc.constantFrom(0, 1, 2, 0, null)),
  { maxLength: 120 },
);

function logOf(drawn: readonly Drawn[]): LogRecord[] {
  let now = NOW;
  return drawn.map(([wait, device], i): LogRecord => {
    now += wait;
    const record = { partition: 0, offset: i + 1, receivedAt: now, traceparent: null } as const;
    if (device === null)
      return { ...record, kind: 'tick', key: '', context: null, body: JSON.stringify({ listeningSince: NOW }) };
    const body = JSON.stringify({ id: `f${i}`, at: now, profile: 'host', readings: [reading] });
    const context = { device, zone: null, zoneId: null };
    return { ...record, kind: 'frame', key: `h${device}`, context, body };
  });
}

function toldBy(all: readonly LogRecord[], cuts: readonly boolean[]): unknown[] {
  const states: States = new Map();
  const told: unknown[] = [];
  for (let from = 0; from < all.length; ) {
    let to = from + 1;
    while (to < all.length && cuts[to % cuts.length] !== true) to += 1;
    const outcome = workOff(meaning, states, all.slice(from, to));
    expect(outcome.failed).toEqual([]);
    for (const { receivedAt, items } of outcome.notices) told.push(...items.map((item) => [receivedAt, item]));
    for (const [name, entry] of outcome.states) {
      if (entry.state === null) states.delete(name);
      else states.set(name, { ...entry, state: JSON.parse(JSON.stringify(entry.state)) as unknown });
    }
    from = to;
  }
  return told;
}

describe('hosts in a log', () => {
  test('batches change nothing of what is told', () => {
    fc.assert(
      fc.property(drawings, fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }), (drawn, cuts) => {
        expect(toldBy(logOf(drawn), cuts)).toEqual(toldBy(logOf(drawn), [false]));
      }),
    );
  });

  test('a silence is told when there was one, and ends before another begins', () => {
    fc.assert(
      fc.property(drawings, (drawn) => {
        const all = logOf(drawn);
        const silent = new Map<string, number>();
        for (const told of toldBy(all, [true])) {
          const [at, { kind, deviceId, since }] = told as [number, SilenceNotice];
          if (kind === 'silent') {
            expect(silent.has(deviceId)).toBe(false);
            silent.set(deviceId, since);
            const heard = all.findLast(({ key, receivedAt }) => key === deviceId && receivedAt <= at);
            expect(at - (heard?.receivedAt ?? 0)).toBeGreaterThanOrEqual(30 * SECOND);
          } else {
            expect(silent.get(deviceId)).toBe(since);
            silent.delete(deviceId);
          }
        }
      }),
    );
  });
});
