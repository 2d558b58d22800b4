import type { Envelope, HostReading } from '@tocsin/protocol/envelope';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Notice, Origin, Watcher } from '../profiles/profile.ts';
import type { LogRecord } from '../store/ports/log.ts';
import { type Meaning, type Outcome, type States, workOff } from '../workers/batch.ts';
import type { Detector } from './detector.ts';
import { cpuWatcher, hostDetector, type CpuEvent } from './host.ts';
import type { ThresholdState } from './threshold.ts';

const NOW = 1_795_176_000_000;
const SECOND = 1000;
const [COOLDOWN, LIVE] = [60 * SECOND, 60 * SECOND];
const watcher = cpuWatcher({ threshold: 90, cooldownMs: COOLDOWN, liveMs: LIVE });
const detector = hostDetector();

const reading = (at: number, cpu: number): HostReading => ({
  ...{ at, cpu_percent: cpu, mem_percent: 40.25, disk_percent: 70 },
  ...{ gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null },
});
const origin = (now: number, more: Partial<Origin> = {}): Origin => ({
  ...{ deviceId: 'h1', zoneId: 'rack', envelopeId: `e${now}`, now, byArrival: false, place: null },
  ...more,
});

/** What readings come to, one after the other: `[arrival, cpu, age]`, all in ms after NOW. Answers the arrivals of events. */
function events(...told: readonly (readonly [arrival: number, cpu: number, age?: number])[]): number[] {
  let state: ThresholdState | null = null;
  const arrivals: number[] = [];
  for (const [arrival, cpu, age = 0] of told) {
    const now = NOW + arrival;
    const step = watcher.step(state, origin(now), reading(now - age, cpu));
    state = step.state;
    if (step.notices.length > 0) arrivals.push(arrival);
  }
  return arrivals;
}

describe('a host that is watched for its processor', () => {
  test('is told of at its threshold and over it, not below', () => {
    expect(events([0, 89.99])).toEqual([]);
    expect(events([0, 90])).toEqual([0]);
    expect(events([0, 100])).toEqual([0]);
  });

  test('costs nothing while it is below: no state, no notice, the same step again', () => {
    const one = watcher.step(null, origin(NOW), reading(NOW, 12));
    expect(one).toEqual({ state: null, notices: [] });
    expect(watcher.step(null, origin(NOW + 1), reading(NOW + 1, 89))).toBe(one);
  });

  test('is told of once in a cool-down, however often it dips, and again when it is over after it', () => {
    expect(events([0, 95], [1, 95], [30_000, 20], [30_001, 99], [59_999, 99])).toEqual([0]);
    expect(events([0, 95], [60_000, 95])).toEqual([0, 60_000]);
    expect(events([0, 95], [60_000, 89], [75_000, 95], [90_000, 95], [135_000, 95])).toEqual([0, 75_000, 135_000]);
  });

  test('what is over only between the limits of two devices is each its own', () => {
    const first = watcher.step(null, origin(NOW), reading(NOW, 95));
    const other = watcher.step(null, origin(NOW, { deviceId: 'h2' }), reading(NOW, 95));
    expect([first, other].map(({ notices }) => notices[0]?.key)).toEqual(['device:h1', 'device:h2']);
  });

  test('is not told of by readings that are old at their arrival, and these begin no cool-down', () => {
    expect(events([0, 95, LIVE + 1])).toEqual([]);
    expect(events([0, 95, LIVE])).toEqual([0]);
    expect(events([0, 95, LIVE + 1], [1, 95])).toEqual([1]);
  });

  test('an older reading that comes behind begins nothing anew', () => {
    const patient = cpuWatcher({ threshold: 90, cooldownMs: 10 * SECOND, liveMs: LIVE });
    const { state } = patient.step(null, origin(NOW), reading(NOW, 95));
    const late = patient.step(state, origin(NOW + 20 * SECOND), reading(NOW - 5 * SECOND, 99));
    expect(late).toEqual({ state, notices: [] });
    expect(patient.step(state, origin(NOW + 20 * SECOND), reading(NOW + 1, 99)).notices).toHaveLength(1);
  });

  test('its state is forgotten when the cool-down is over and nothing that may still come would be told of twice', () => {
    const { state } = watcher.step(null, origin(NOW), reading(NOW, 95));
    const tick = (after: number): unknown => watcher.tick(state as ThresholdState, 'h1', NOW + after).state;
    expect(tick(COOLDOWN)).toBe(state);
    expect(tick(2 * COOLDOWN)).toBe(state);
    expect(tick(2 * COOLDOWN + 1)).toBeNull();
  });
});

describe('the alert of an event', () => {
  const told = (more: Partial<Origin> = {}): Notice =>
    watcher.step(null, origin(NOW + 2, more), reading(NOW, 95)).notices[0] as Notice;
  const found = ({ key, item }: Notice): unknown => detector.step(null, key, item as CpuEvent, NOW + 2);

  test('speaks of the device in its zone, with its place, the time of the reading, and what it rests on', () => {
    expect(found(told({ place: { latitude: 1, longitude: 2 } }))).toEqual({
      state: null,
      findings: [
        {
          ...{ kind: 'host.cpu', severity: 'moderate', status: 'actual', deviceId: 'h1', zoneId: 'rack', onset: NOW },
          ...{ latitude: 1, longitude: 2, headline: 'CPU alert at h1: CPU 95.0 %, RAM 40.3 %' },
          description: 'The processor of h1 was 95.0 % busy (alert from 90 %). Memory 40.3 %, disk 70.0 %.',
          evidence: {
            ...{ cpu_percent: 95, mem_percent: 40.25, disk_percent: 70, threshold: 90 },
            envelopes: [{ deviceId: 'h1', envelopeId: `e${NOW + 2}` }],
          },
        },
      ],
    });
  });

  test('has no place when the device has none', () => {
    expect(found(told({ zoneId: null }))).toMatchObject({
      findings: [{ zoneId: null, latitude: null, longitude: null }],
    });
  });

  test('is not made of an event that only a later version knows', () => {
    expect(found({ key: 'device:h1', item: { kind: 'host.fan', at: NOW } })).toEqual({ state: null, findings: [] });
  });
});

const meaning: Meaning = {
  decode: ({ body }) => JSON.parse(body) as Envelope,
  measure: () => ({ value: 0, fields: null }),
  notice: () => [],
  watchers: () => [watcher as Watcher<unknown>],
  detectors: (key) => (key.startsWith('device:') ? [detector as Detector<unknown, unknown>] : []),
};

type Sample = readonly [device: number, wait: number, readings: readonly (readonly [age: number, cpu: number])[]];

/** Envelopes of three devices in the order of their arrival. Ages may be negative: clocks are ahead by up to 30 s. */
const samples: fc.Arbitrary<readonly Sample[]> = fc.array(
  fc.tuple(
    fc.integer({ min: 0, max: 2 }),
    fc.integer({ min: 0, max: 40_000 }),
    fc.array(fc.tuple(fc.integer({ min: -30_000, max: 90_000 }), fc.constantFrom(10, 89.9, 90, 100)), {
      minLength: 1,
      maxLength: 4,
    }),
  ),
  { maxLength: 40 },
);

function records(told: readonly Sample[]): LogRecord[] {
  let now = NOW;
  return told.map(([device, wait, readings], i) => {
    now += wait;
    const body = {
      id: `e${i}`,
      at: now,
      profile: 'host',
      readings: readings.map(([age, cpu]) => reading(now - age, cpu)),
    };
    return {
      ...{ partition: 0, offset: i + 1, kind: 'envelope', receivedAt: now, key: `h${device}`, traceparent: null },
      ...{ context: { device, zone: null, zoneId: null }, body: JSON.stringify(body) },
    };
  });
}

/** Works records off in batches that end where `cuts` says, states going through JSON; answers what was told, and states. */
function run(all: readonly LogRecord[], cuts: readonly boolean[]): { told: Outcome['notices']; states: States } {
  const states: States = new Map();
  const told: Outcome['notices'] = [];
  for (let from = 0; from < all.length; ) {
    let to = from + 1;
    while (to < all.length && cuts[to % Math.max(1, cuts.length)] !== true) to += 1;
    const outcome = workOff(meaning, states, all.slice(from, to));
    expect(outcome.failed).toEqual([]);
    told.push(...outcome.notices);
    for (const [name, entry] of outcome.states) {
      if (entry.state === null) states.delete(name);
      else states.set(name, { ...entry, state: JSON.parse(JSON.stringify(entry.state)) as unknown });
    }
    from = to;
  }
  return { told, states };
}

const essence = (told: Outcome['notices']): unknown[] =>
  told.flatMap(({ key, receivedAt, items }) => items.map((item) => [key, receivedAt, item]));

const tickAt = (receivedAt: number): LogRecord => ({
  ...{ partition: 0, offset: 0, kind: 'tick', receivedAt, key: '', traceparent: null, context: null, body: '' },
});
const ticked = (all: readonly LogRecord[]): LogRecord[] => all.flatMap((record) => [record, tickAt(record.receivedAt)]);

describe('hosts in a log, whatever they send', () => {
  test('no device is told of twice within a cool-down by arrival, and none that is over is left out', () => {
    fc.assert(
      fc.property(samples, (drawn) => {
        const all = records(drawn);
        const { told } = run(all, [true]);
        for (const device of ['h0', 'h1', 'h2']) {
          const mine = told.filter(({ key }) => key === `device:${device}`);
          const items = mine.flatMap(({ items: some, receivedAt }) =>
            some.map((item) => ({ arrival: receivedAt, at: (item as CpuEvent).at })),
          );
          for (const [i, { arrival }] of items.entries())
            if (i > 0) expect(arrival - (items[i - 1]?.arrival ?? 0)).toBeGreaterThanOrEqual(COOLDOWN);
          for (const { key, receivedAt, body } of all.filter((record) => record.key === device)) {
            const live = (JSON.parse(body) as { readings: HostReading[] }).readings.filter(
              ({ at, cpu_percent }) => cpu_percent >= 90 && receivedAt - at <= LIVE,
            );
            const last = items.findLast(({ arrival }) => arrival <= receivedAt);
            const covered = last !== undefined && receivedAt - last.arrival < COOLDOWN;
            const older = last !== undefined && live.every(({ at }) => at <= last.at);
            if (live.length > 0) expect([key, covered || older]).toEqual([key, true]);
          }
        }
      }),
    );
  });

  test('batches and ticks change nothing of what is told', () => {
    fc.assert(
      fc.property(samples, fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }), (drawn, cuts) => {
        const all = records(drawn);
        const whole = essence(run(all, [false]).told);
        expect(essence(run(all, cuts).told)).toEqual(whole);
        expect(essence(run(ticked(all), cuts).told)).toEqual(whole);
      }),
    );
  });

  test('nothing is left of them in the end', () => {
    fc.assert(
      fc.property(samples, (drawn) => {
        const all = records(drawn);
        const end = tickAt(NOW + 3_600_000);
        const { states } = run([...all, end], [true]);
        expect([...states.keys()]).toEqual([]);
      }),
    );
  });

  test('a batch of cool hosts leaves nothing to write but their readings', () => {
    const cool = records(Array.from({ length: 30 }, (_, i): Sample => [i % 3, 10, [[0, 20 + i]]]));
    const { rows, notices, findings, states } = workOff(meaning, new Map(), cool);
    expect(rows).toHaveLength(30);
    expect([notices, findings, states.size]).toEqual([[], [], 0]);
  });

  test('an event leaves one finding under its key and no state there', () => {
    const { notices } = workOff(meaning, new Map(), records([[1, 0, [[0, 95]]]]));
    const told = notices.map(({ key, receivedAt, items }): LogRecord => {
      const record = { partition: 12, offset: 1, kind: 'finding', traceparent: null, context: null } as const;
      return { ...record, key, receivedAt, body: JSON.stringify(items) };
    });
    const outcome = workOff(meaning, new Map(), told);
    expect(outcome.findings.map(({ key, finding }) => [key, finding.kind, finding.deviceId])).toEqual([
      ['device:h1', 'host.cpu', 'h1'],
    ]);
    expect(outcome.states.size).toBe(0);
  });
});
