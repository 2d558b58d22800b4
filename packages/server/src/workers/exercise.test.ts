import type { Envelope } from '@tocsin/protocol/envelope';
import { describe, expect, test } from 'vitest';
import type { Detector } from '../detectors/detector.ts';
import { swarmDetector } from '../detectors/swarm.ts';
import { seismicProfile } from '../profiles/seismic/seismic.ts';
import type { LogRecord } from '../store/ports/log.ts';
import { type Meaning, type Outcome, type StateEntry, type States, workOff } from './batch.ts';
import { exerciseKey, isExerciseKey, plainKey } from './exercise.ts';

const SENSORS = 3;
const profile = seismicProfile({ windowMs: 10_000, liveMs: 60_000 });
const swarm = swarmDetector({ sensors: SENSORS, windowMs: 10_000, cooldownMs: 60_000, liveMs: 60_000 });
const asked: string[] = [];
const meaning: Meaning = {
  decode: ({ body }) => JSON.parse(body) as Envelope,
  measure: (_profile, reading) => profile.measure(reading),
  notice: (_profile, origin, readings) => profile.notice(origin, readings),
  detectors: (key) => {
    asked.push(key);
    return key.startsWith('zone:') ? [swarm as Detector<unknown, unknown>] : [];
  },
};

/** A trigger at its arrival. */
function trigger(deviceId: string, at: number, exercise: boolean): LogRecord {
  const body = JSON.stringify({ id: `e${at}`, at, profile: 'seismic', readings: [{ at, value: 5 }] });
  const context = { device: 1, zone: 2, zoneId: 'z1', ...(exercise ? { exercise } : {}) };
  return {
    ...{ partition: 0, offset: at, kind: 'envelope', receivedAt: at, key: deviceId },
    traceparent: null,
    context,
    body,
  };
}

const triggers = (count: number, at: number, exercise: boolean): LogRecord[] =>
  Array.from({ length: count }, (_, i) => trigger(`${exercise ? 'sim' : 'real'}${i}`, at + i, exercise));

/** The records that notices become, in the order they were told. */
const told = ({ notices }: Outcome): LogRecord[] =>
  notices.map(({ key, receivedAt, items }, i) => ({
    ...{ partition: 12, offset: i + 1, kind: 'finding', receivedAt, key, traceparent: null, context: null },
    body: JSON.stringify(items),
  }));

/** What the devices' partition tells, worked off in the detectors' partition. */
const detected = (records: readonly LogRecord[], states: States = new Map()): Outcome =>
  workOff(meaning, states, told(workOff(meaning, new Map(), records)));

const devicesOf = ({ findings }: Outcome): string[][] =>
  findings.map(({ finding }) =>
    (finding.evidence['envelopes'] as { deviceId: string }[]).map(({ deviceId }) => deviceId),
  );

const keep = (states: ReadonlyMap<string, StateEntry>): States => new Map(states);

describe('keys of exercises', () => {
  test('have a prefix that no other key has, and lose it for detectors', () => {
    for (const key of ['zone:z1', 'zone:exercise', 'network:seismic', 'device:exercise']) {
      expect(isExerciseKey(key)).toBe(false);
      expect(plainKey(key)).toBe(key);
      expect(isExerciseKey(exerciseKey(key))).toBe(true);
      expect(plainKey(exerciseKey(key))).toBe(key);
    }
    expect(exerciseKey('zone:z1')).toBe('exercise:zone:z1');
  });
});

describe('simulated devices in a zone with real ones', () => {
  test('tell under a key of their own, in records of their own', () => {
    const { notices } = workOff(meaning, new Map(), [
      trigger('real0', 1, false),
      trigger('sim0', 2, true),
      trigger('real1', 3, false),
      trigger('sim1', 4, true),
    ]);
    expect(
      notices.map(({ key, items }) => [key, items.map((item) => (item as { deviceId: string }).deviceId)]),
    ).toEqual([
      ['zone:z1', ['real0', 'real1']],
      ['exercise:zone:z1', ['sim0', 'sim1']],
    ]);
  });

  test('one less than a quorum of each is nothing, together neither', () => {
    const outcome = detected([...triggers(SENSORS - 1, 0, false), ...triggers(SENSORS - 1, 0, true)]);
    expect(outcome.findings).toEqual([]);
    expect([...outcome.states.keys()].sort()).toEqual(['swarm exercise:zone:z1', 'swarm zone:z1']);
  });

  test('a quorum of each is two findings, each with its own devices, in the zone that detectors know', () => {
    asked.length = 0;
    const outcome = detected([...triggers(SENSORS, 0, true), ...triggers(SENSORS, 0, false)]);
    expect(outcome.findings.map(({ key, finding }) => [key, finding.zoneId])).toEqual([
      ['exercise:zone:z1', 'z1'],
      ['zone:z1', 'z1'],
    ]);
    expect(devicesOf(outcome)).toEqual([
      ['sim0', 'sim1', 'sim2'],
      ['real0', 'real1', 'real2'],
    ]);
    expect(new Set(asked)).toEqual(new Set(['zone:z1']));
  });

  test('the cool-down of an exercise holds back no real alarm', () => {
    const before = detected(triggers(SENSORS, 0, true));
    expect(before.findings).toHaveLength(1);
    expect(detected(triggers(SENSORS, 5000, true), keep(before.states)).findings).toEqual([]);
    const real = detected(triggers(SENSORS, 5000, false), keep(before.states));
    expect(real.findings.map(({ key, finding }) => [key, finding.onset])).toEqual([['zone:z1', 5000]]);
  });

  test('a tick forgets what both have left, under the key that each has', () => {
    const keys: string[] = [];
    const { states } = detected([...triggers(1, 0, false), ...triggers(1, 0, true)]);
    const watched = new Map(
      [...states].map(([name, entry]) => {
        const tick: StateEntry['detector']['tick'] = (state, key, now, listeningSince) => {
          keys.push(key);
          return entry.detector.tick(state, key, now, listeningSince);
        };
        return [name, { ...entry, detector: { ...entry.detector, tick } }];
      }),
    );
    const tick: LogRecord = { ...trigger('', 1_000_000, false), kind: 'tick', context: null, body: '' };
    const after = workOff(meaning, watched, [tick]);
    expect([...after.states.values()].map(({ key, state }) => [key, state])).toEqual([
      ['zone:z1', null],
      ['exercise:zone:z1', null],
    ]);
    expect(keys).toEqual(['zone:z1', 'zone:z1']);
  });
});
