import type { Reading } from '@tocsin/protocol/envelope';
import { describe, expect, test } from 'vitest';
import type { Watcher } from '../profiles/profile.ts';
import type { LogRecord } from '../store/ports/log.ts';
import { stateName, type Meaning, type StateEntry, type States, workOff } from './batch.ts';

/** Counts readings; tells each under the network's key, fails at -1, forgets at a tick after 100. */
const counter: Watcher<number> = {
  name: 'counter',
  step: (state, origin, reading) => {
    const { value } = reading as { value: number };
    if (value === -1) throw new Error('no');
    if (value === 0) return { state, notices: [] };
    const item = { device: origin.deviceId, at: reading.at, count: (state ?? 0) + 1, place: origin.place };
    return { state: (state ?? 0) + 1, notices: [{ key: 'network:test', item }] };
  },
  tick: (state, _key, now) => ({ state: now > 100 ? null : state, findings: [] }),
};

const meaning: Meaning = {
  decode: ({ body }) => ({ id: 'e', at: 0, profile: 'seismic', readings: JSON.parse(body) as Reading[] }),
  measure: (_profile, reading) => ({ value: (reading as { value: number }).value, fields: null }),
  notice: () => [],
  watchers: (profile) => (profile === 'seismic' ? [counter as Watcher<unknown>] : []),
  detectors: () => [],
};

function record(key: string, receivedAt: number, ...readings: [at: number, value: number][]): LogRecord {
  const body = JSON.stringify(readings.map(([at, value]) => ({ at, value })));
  const context = { device: 1, zone: null, zoneId: null, place: { latitude: 1, longitude: 2 } };
  return { partition: 0, offset: receivedAt, kind: 'envelope', receivedAt, key, traceparent: null, context, body };
}

const tick = (receivedAt: number): LogRecord => ({ ...record('', receivedAt), kind: 'tick', context: null, body: '' });
const statesAfter = (states: States, records: readonly LogRecord[]): [string, unknown][] =>
  [...workOff(meaning, states, records).states].map(([name, { state }]) => [name, state]);
const known = (key: string, state: unknown): [string, StateEntry] => [
  stateName('counter', key),
  { detector: counter as Watcher<unknown>, key, state },
];

describe('watchers of devices in a batch', () => {
  test('every device has a state of its own, carried from record to record', () => {
    const records = [record('a', 1, [1, 5]), record('b', 2, [1, 5]), record('a', 3, [2, 5])];
    expect(statesAfter(new Map([known('a', 7)]), records)).toEqual([
      ['counter a', 9],
      ['counter b', 1],
    ]);
  });

  test("an envelope's readings are watched in the order of their times", () => {
    const { notices } = workOff(meaning, new Map(), [record('a', 1, [30, 1], [10, 1], [20, 1])]);
    expect(notices.flatMap(({ items }) => items).map((item) => (item as { at: number }).at)).toEqual([10, 20, 30]);
  });

  test('what is told keeps the very arrival of its record, and the place of the device', () => {
    const { notices } = workOff(meaning, new Map(), [
      record('a', 1, [1, 1]),
      record('b', 1, [1, 1]),
      record('a', 2, [2, 1]),
    ]);
    expect(notices.map(({ key, receivedAt, items }) => [key, receivedAt, items.length])).toEqual([
      ['network:test', 1, 2],
      ['network:test', 2, 1],
    ]);
    expect(notices[0]?.items[0]).toEqual({ device: 'a', at: 1, count: 1, place: { latitude: 1, longitude: 2 } });
  });

  test('what is told of a simulated device goes under the key of exercises; its state stays its own', () => {
    const [real, simulated] = [record('a', 1, [1, 1]), record('b', 1, [1, 1])];
    const context = { device: 2, zone: null, zoneId: null, exercise: true } as const;
    const { notices, states } = workOff(meaning, new Map(), [real, { ...simulated, context }]);
    expect(notices.map(({ key, items }) => [key, items.length])).toEqual([
      ['network:test', 1],
      ['exercise:network:test', 1],
    ]);
    expect([...states.keys()]).toEqual(['counter a', 'counter b']);
  });

  test('a record whose watcher fails is set aside whole: no reading, no state, nothing told', () => {
    const outcome = workOff(meaning, new Map(), [record('a', 1, [1, 1], [2, -1]), record('b', 2, [1, 1])]);
    expect(outcome.failed.map(({ key, reason }) => [key, reason])).toEqual([['a', 'no']]);
    expect(outcome.rows).toHaveLength(1);
    expect([...outcome.states.keys()]).toEqual(['counter b']);
    expect(outcome.notices.flatMap(({ items }) => items)).toHaveLength(1);
  });

  test('a state that is as it was is not written', () => {
    expect(statesAfter(new Map([known('a', 7)]), [record('a', 1, [1, 0])])).toEqual([]);
  });

  test('a tick forgets what is idle and leaves the rest alone', () => {
    expect(statesAfter(new Map([known('a', 7)]), [tick(50)])).toEqual([]);
    expect(statesAfter(new Map([known('a', 7)]), [tick(101)])).toEqual([['counter a', null]]);
  });

  describe('that tell at ticks', () => {
    /** Remembers who it is about; at a tick it tells since when somebody listened. */
    const missing: Watcher<{ readonly exercise?: true }> = {
      name: 'missing',
      step: (state, { exercise }) => ({ state: state ?? (exercise === true ? { exercise } : {}), notices: [] }),
      tick: (state, deviceId, now, listeningSince) => {
        const item = { deviceId, now, listeningSince };
        return { state: null, findings: [], notices: [{ key: 'hosts:test', item, ...state }] };
      },
    };
    const watched: Meaning = { ...meaning, watchers: () => [missing as Watcher<unknown>] };
    const simulated = { device: 2, zone: null, zoneId: null, exercise: true } as const;
    const records = [
      record('a', 1, [1, 1]),
      { ...record('b', 2, [1, 1]), context: simulated },
      { ...tick(9), body: '{"listeningSince":5}' },
    ];

    test('tell under their key, simulated devices under that of exercises, with the arrival of the tick', () => {
      const { notices } = workOff(watched, new Map(), records);
      expect(notices).toEqual([
        {
          ...{ key: 'hosts:test', receivedAt: 9, traceparent: null },
          items: [{ deviceId: 'a', now: 9, listeningSince: 5 }],
        },
        {
          ...{ key: 'exercise:hosts:test', receivedAt: 9, traceparent: null },
          items: [{ deviceId: 'b', now: 9, listeningSince: 5 }],
        },
      ]);
    });

    test('hear of a tick in the batch that made their state as in the next one', () => {
      const { states } = workOff(watched, new Map(), records.slice(0, 2));
      const { notices } = workOff(watched, states, records.slice(2));
      expect(notices).toEqual(workOff(watched, new Map(), records).notices);
    });
  });
});
