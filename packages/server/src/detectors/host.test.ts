import type { Envelope, HostReading } from '@tocsin/protocol/envelope';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Notice, Origin, Watcher } from '../profiles/profile.ts';
import type { LogRecord } from '../store/ports/log.ts';
import { type Meaning, type Outcome, type States, workOff } from '../workers/batch.ts';
import type { Detector } from './detector.ts';
import { type HostEnd, type HostEvent, type HostPart, hostDetector, hostWatchers } from './host.ts';
import { LAPSE_MS, type ThresholdState } from './threshold.ts';

const NOW = 1_795_176_000_000;
const SECOND = 1000;
const [COOLDOWN, LIVE] = [60 * SECOND, 60 * SECOND];
const OFF = { cpu: null, memory: null, disk: null, gpu: null };
function watcherOf(part: HostPart, limit: number | null, cooldownMs = COOLDOWN): Watcher<ThresholdState> {
  const all = hostWatchers({ limits: { ...OFF, [part]: limit }, cooldownMs, liveMs: LIVE });
  return all.find(({ name }) => name === part) as Watcher<ThresholdState>;
}
const watcher = watcherOf('cpu', 90);
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
    if (step.notices.some(({ item }) => (item as HostEvent).kind === 'host.cpu')) arrivals.push(arrival);
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
    const patient = watcherOf('cpu', 90, 10 * SECOND);
    const { state } = patient.step(null, origin(NOW), reading(NOW, 95));
    const late = patient.step(state, origin(NOW + 20 * SECOND), reading(NOW - 5 * SECOND, 99));
    expect(late).toEqual({ state, notices: [] });
    expect(patient.step(state, origin(NOW + 20 * SECOND), reading(NOW + 1, 99)).notices).toHaveLength(2);
  });

  test('its state is forgotten when the cool-down is over and nothing that may still come would be told of twice', () => {
    const over = watcher.step(null, origin(NOW), reading(NOW, 95));
    const { state } = watcher.step(over.state, origin(NOW + 1), reading(NOW + 1, 0));
    const tick = (after: number): unknown => watcher.tick(state as ThresholdState, 'h1', NOW + after, NOW).state;
    expect(tick(COOLDOWN)).toBe(state);
    expect(tick(2 * COOLDOWN)).toBe(state);
    expect(tick(2 * COOLDOWN + 1)).toBe(state);
    expect(tick(2 * COOLDOWN + 2)).toBeNull();
  });
});

describe('the alert of an event', () => {
  const told = (more: Partial<Origin> = {}): Notice =>
    watcher.step(null, origin(NOW + 2, more), reading(NOW, 95)).notices[0] as Notice;
  const found = ({ key, item }: Notice): unknown => detector.step(null, key, item as HostEvent, NOW + 2);

  test('speaks of the device in its zone, with its place, the time of the reading, and what it rests on', () => {
    expect(found(told({ place: { latitude: 1, longitude: 2 } }))).toEqual({
      state: null,
      findings: [
        {
          ...{ kind: 'host.cpu', severity: 'moderate', status: 'actual', deviceId: 'h1', zoneId: 'rack', onset: NOW },
          ...{ latitude: 1, longitude: 2, headline: 'CPU alert at h1: CPU 95.0 %, RAM 40.3 %' },
          description: 'The processor of h1 was 95.0 % busy (alert from 90 %). Memory 40.3 %, disk 70.0 %.',
          evidence: {
            ...{ cpu_percent: 95, mem_percent: 40.25, disk_percent: 70, gpu_percent: null, threshold: 90 },
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
          const everything = mine.flatMap(({ items: some, receivedAt }) =>
            some.map((item) => ({ arrival: receivedAt, at: (item as HostEvent).at, kind: (item as HostEvent).kind })),
          );
          const items = everything.filter(({ kind }) => kind === 'host.cpu');
          for (const [i, { arrival }] of items.entries())
            if (i > 0) expect(arrival - (items[i - 1]?.arrival ?? 0)).toBeGreaterThanOrEqual(COOLDOWN);
          for (const { key, receivedAt, body } of all.filter((record) => record.key === device)) {
            const live = (JSON.parse(body) as { readings: HostReading[] }).readings.filter(
              ({ at, cpu_percent }) => cpu_percent >= 90 && receivedAt - at <= LIVE,
            );
            const last = items.findLast(({ arrival }) => arrival <= receivedAt);
            const covered = last !== undefined && receivedAt - last.arrival < COOLDOWN;
            const newest = everything.findLast(({ arrival }) => arrival <= receivedAt);
            const older = newest !== undefined && live.every(({ at }) => at <= newest.at);
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
        const ends = [1, 2].map((days) => tickAt(NOW + 7_200_000 + days * LAPSE_MS));
        const { states } = run([...all, ...ends], [true]);
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

  test('there are never two open for a device: each begin comes after the end of the one before, each end after a begin', () => {
    fc.assert(
      fc.property(samples, (drawn) => {
        const { told } = run(records(drawn), [true]);
        for (const device of ['h0', 'h1', 'h2']) {
          let open: number | null = null;
          for (const item of told.filter(({ key }) => key === `device:${device}`).flatMap(({ items }) => items)) {
            const { kind, at } = item as HostEvent;
            if (kind === 'host.cpu') expect(open).toBeNull();
            else expect((item as HostEnd).onset).toBe(open);
            open = kind === 'host.cpu' ? at : null;
          }
        }
      }),
    );
  });

  test('every one that is open ends when the values fall, or by itself a day later', () => {
    fc.assert(
      fc.property(samples, fc.boolean(), (drawn, fall) => {
        const all = records(drawn);
        const later = (all.at(-1)?.receivedAt ?? NOW) + 60_000;
        const fallen = ['h0', 'h1', 'h2'].map((key, i): LogRecord => {
          const body = JSON.stringify({ id: `f${i}`, at: later, profile: 'host', readings: [reading(later, 10)] });
          return { ...tickAt(later), kind: 'envelope', key, body, context: { device: i, zone: null, zoneId: null } };
        });
        const { told } = run([...all, ...(fall ? fallen : [tickAt(later + 2 * LAPSE_MS)])], [true]);
        const items = told.flatMap((notices) => notices.items.map((item) => [notices.key, item as HostEnd] as const));
        const begun = items
          .filter(([, { kind }]) => (kind as string) === 'host.cpu')
          .map(([key, { at }]) => `${key} ${at}`);
        const ended = items.filter(([, { kind }]) => kind === 'host.end').map(([key, { onset }]) => `${key} ${onset}`);
        expect(ended.sort()).toEqual(begun.sort());
      }),
    );
  });
});

describe('the end of an event', () => {
  /** What values of one device come to, a minute and a second apart. */
  function told(
    part: HostPart,
    limit: number | null,
    values: readonly (number | null)[],
    byArrival = false,
  ): unknown[] {
    const one = watcherOf(part, limit);
    let state: ThresholdState | null = null;
    return values.map((value, i) => {
      const now = NOW + i * 61 * SECOND;
      const at = byArrival ? i : now;
      const { cpu_percent, ...rest } = reading(at, value ?? 0);
      const numbers = {
        cpu: { cpu_percent },
        memory: { mem_percent: value },
        disk: { disk_percent: value },
        gpu: { gpu_percent: value },
      };
      const step = one.step(state, origin(now, { byArrival }), {
        cpu_percent,
        ...rest,
        ...numbers[part],
      } as HostReading);
      state = step.state;
      return step.notices.map(({ item }) => {
        const { kind, reason } = item as HostEnd;
        return kind === 'host.end' ? reason : kind;
      });
    });
  }

  test('is a reading below the limit less five points; between them nothing changes', () => {
    expect(told('cpu', 90, [95, 89, 85, 84.9, 50])).toEqual([['host.cpu'], [], [], ['below'], []]);
  });

  test('is another event when the cool-down is over and the value is not', () => {
    expect(told('memory', 95, [95, 95, 80])).toEqual([['host.memory'], ['again', 'host.memory'], ['below']]);
  });

  test('is there for every part, and readings without a number say nothing', () => {
    expect(told('disk', 95, [99, 10])).toEqual([['host.disk'], ['below']]);
    expect(told('gpu', 50, [null, 60, null, 10, null])).toEqual([[], ['host.gpu'], [], ['below'], []]);
  });

  test('is 0 for limits that leave no room below, and never for a limit of 0', () => {
    expect(told('cpu', 3, [3, 1, 0])).toEqual([['host.cpu'], [], ['below']]);
    expect(told('cpu', 0, [0, 0])).toEqual([['host.cpu'], ['again', 'host.cpu']]);
    expect(told('cpu', 5, [5, 0])).toEqual([['host.cpu'], ['below']]);
  });

  test('of a host whose clock is anything: frames count as of their arrival, however old they call themselves', () => {
    expect(told('cpu', 90, [95, 95, 10], true)).toEqual([['host.cpu'], ['again', 'host.cpu'], ['below']]);
    const { notices } = watcher.step(null, origin(NOW, { byArrival: true }), reading(5, 95));
    expect(notices.map(({ item }) => (item as HostEvent).at)).toEqual([NOW]);
  });

  test('comes with the next reading or tick when the rule was switched off', () => {
    const { state } = watcher.step(null, origin(NOW), reading(NOW, 95));
    const off = watcherOf('cpu', null);
    const next = off.step(state, origin(NOW + 1), reading(NOW + 1, 99));
    expect(next.notices.map(({ item }) => (item as HostEnd).reason)).toEqual(['off']);
    const tick = off.tick(state as ThresholdState, 'h1', NOW + 1, NOW);
    expect(tick.notices?.map(({ key, item }) => [key, (item as HostEnd).onset])).toEqual([['device:h1', NOW]]);
    expect(told('cpu', null, [100])).toEqual([[]]);
  });

  test('of a simulated device that ended by itself goes where its begin went', () => {
    const { state } = watcher.step(null, origin(NOW, { exercise: true }), reading(NOW, 95));
    const tick = watcher.tick(state as ThresholdState, 'h1', NOW + 2 * LAPSE_MS, NOW);
    expect(tick).toMatchObject({ state: { at: NOW }, notices: [{ key: 'device:h1', exercise: true }] });
  });

  test('says why in the words of the alert, and names it by kind and onset', () => {
    const end: HostEnd = { kind: 'host.end', of: 'host.disk', onset: NOW, at: NOW + 9, reason: 'below', value: 42.25 };
    expect(detector.step(null, 'device:h1', end, NOW).findings).toMatchObject([
      {
        ...{ kind: 'host.disk', ends: true, onset: NOW, description: 'Over: 42.3 %.' },
        evidence: { ended: { at: NOW + 9, reason: 'below', percent: 42.25 } },
      },
    ]);
  });

  test.each([
    [
      'memory',
      'Memory alert at h1: RAM 96.0 %, CPU 95.0 %',
      'moderate',
      'The memory of h1 was 96.0 % used (alert from 1 %). Processor 95.0 %, disk 97.0 %, graphics 98.0 %.',
    ],
    [
      'disk',
      'Disk alert at h1: disk 97.0 %',
      'severe',
      'The disk of h1 was 97.0 % full (alert from 1 %). Processor 95.0 %, memory 96.0 %, graphics 98.0 %.',
    ],
    [
      'gpu',
      'GPU alert at h1: GPU 98.0 %, CPU 95.0 %',
      'minor',
      'The graphics processor of h1 was 98.0 % busy (alert from 1 %). Processor 95.0 %, memory 96.0 %, disk 97.0 %.',
    ],
  ] as const)('the alert of %s', (part, headline, severity, description) => {
    const numbers = { mem_percent: 96, disk_percent: 97, gpu_percent: 98 };
    const [notice] = watcherOf(part, 1).step(null, origin(NOW), { ...reading(NOW, 95), ...numbers }).notices;
    const { findings } = detector.step(null, 'device:h1', notice?.item as HostEvent, NOW);
    expect(findings).toMatchObject([
      {
        kind: `host.${part}`,
        severity,
        headline,
        description,
        evidence: { cpu_percent: 95, ...numbers, threshold: 1 },
      },
    ]);
  });
});
