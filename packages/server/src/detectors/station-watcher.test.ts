import { describe, expect, test } from 'vitest';
import type { Notice, Origin } from '../profiles/profile.ts';
import { PICKER } from '../profiles/seismic/detection.ts';
import { add, burst, noise, packets, START, type Trace } from './ground.suite.ts';
import type { StationState } from './station-state.ts';
import { NETWORK_KEY, stationWatcher } from './station-watcher.ts';

const place = { latitude: 16, longitude: -99 };
const watcher = stationWatcher(PICKER);

/** A minute of one station with an onset at 30 s that grows for seconds, through the watcher with states as the store gives them back. */
function watch(
  change: Partial<Origin> = {},
  lateMs = 0,
  more: (trace: Trace) => void = () => undefined,
): { notices: Notice[]; state: StationState | null } {
  const trace = noise('s1', place, 60, 7);
  add(trace, 0, 30, (t) => Math.min(1, 0.05 + t / 8) * burst(0.5, 20, 3)(t));
  more(trace);
  let state: StationState | null = null;
  const notices: Notice[] = [];
  for (const [i, { packet, now }] of packets(trace).entries()) {
    const origin: Origin = {
      deviceId: 's1',
      zoneId: 'z',
      envelopeId: `e${i}`,
      now: now + lateMs,
      byArrival: false,
      place,
      ...change,
    };
    const [x = [], y = [], z = []] = packet.axes;
    const step = watcher.step(state, origin, { at: packet.at, rate: packet.rate, x, y, z });
    state = JSON.parse(JSON.stringify(step.state)) as StationState | null;
    notices.push(...step.notices);
  }
  return { notices, state };
}

const of = (notices: readonly Notice[], key: string): Record<string, unknown>[] =>
  notices.filter((notice) => notice.key === key).map(({ item }) => item as Record<string, unknown>);

describe('the watcher of a station', () => {
  test('a pick and its updates go to the network, its first word alone to the swarm of the zone', () => {
    const { notices } = watch();
    const told = of(notices, NETWORK_KEY).filter(({ kind }) => kind === 'pick');
    const picks = new Map(told.map((pick) => [pick['at'], pick]));
    expect(told.length).toBeGreaterThan(picks.size);
    expect(told[0]).toMatchObject({ deviceId: 's1', ...place });
    const triggers = of(notices, 'zone:z');
    expect(triggers.map(({ at }) => at)).toEqual([...picks.keys()]);
    expect(triggers[0]).toEqual({
      at: told[0]?.['at'],
      amplitude: told[0]?.['amplitude'],
      deviceId: 's1',
      envelopeId: told[0]?.['envelopeId'],
    });
    expect(Math.abs(Number(triggers[0]?.['at']) - START - 30_000)).toBeLessThan(2000);
  });

  test('a second arrival within the shaking is told to the swarm as one: an S wave is no second swarm', () => {
    const { notices } = watch({}, 0, (trace) => add(trace, 1, 38, burst(20, 10, 5)));
    const told = of(notices, NETWORK_KEY).filter(({ kind }) => kind === 'pick');
    const picks = new Map(told.map(({ at, again }) => [at, again === true]));
    expect([...picks.values()]).toContain(true);
    expect(of(notices, 'zone:z').map(({ at, again }) => [at, again === true])).toEqual([...picks]);
  });

  test.each([1e200, -3.4e38, -2_147_483_648])(
    'a sample of %d is no acceleration: the station hears on without that packet',
    (sample) => {
      const broken = watch({}, 0, (trace) => {
        const axis = trace.axes[1] as number[];
        axis[Math.round(trace.rate) * 20 + 5] = sample;
      });
      expect(broken.state?.short.every((energy) => Number.isFinite(energy))).toBe(true);
      expect(of(broken.notices, 'zone:z').map(({ at }) => Math.abs(Number(at) - START - 30_000) < 2000)).toContain(
        true,
      );
      expect(of(broken.notices, 'zone:z')).toHaveLength(of(watch().notices, 'zone:z').length);
    },
  );

  test('a device without a place takes no part in the network, one without a zone in no swarm', () => {
    expect(new Set(watch({ place: null }).notices.map(({ key }) => key))).toEqual(new Set(['zone:z']));
    expect(new Set(watch({ zoneId: null }).notices.map(({ key }) => key))).toEqual(new Set([NETWORK_KEY]));
  });

  test('packets that are old at their arrival tell nothing and leave no state', () => {
    expect(watch({}, PICKER.liveMs + 5000)).toEqual({ notices: [], state: null });
  });

  test('a trigger of the sensor itself is none of its business', () => {
    const origin: Origin = { deviceId: 's1', zoneId: 'z', envelopeId: 'e', now: START, byArrival: false, place };
    expect(watcher.step(null, origin, { at: START, value: 9 })).toEqual({ state: null, notices: [] });
  });

  test('a station is forgotten after an hour of silence, not before', () => {
    const { state } = watch();
    if (state === null) throw new Error('no state');
    const heard = state.clock.heardAt;
    expect(watcher.tick(state, 's1', heard + 3_600_000, 0).state).toBe(state);
    expect(watcher.tick(state, 's1', heard + 3_600_001, 0).state).toBeNull();
  });
});
