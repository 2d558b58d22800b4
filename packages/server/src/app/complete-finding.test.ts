import { describe, expect, test } from 'vitest';
import type { Finding } from '../detectors/detector.ts';
import { completeFinding, type FindingRegistry } from './complete-finding.ts';

const stations: Readonly<Record<string, { zoneId: string | null; latitude: number | null; longitude: number | null }>> =
  {
    far: { zoneId: 'south', latitude: 10, longitude: -99 },
    near: { zoneId: 'north', latitude: 16.1, longitude: -99 },
    lone: { zoneId: null, latitude: 16, longitude: -99 },
    lost: { zoneId: 'nowhere', latitude: null, longitude: null },
  };
const registry = {
  directory: { lookup: async (id: string) => stations[id] ?? null },
  zoneFacts: async (id: string) => ({ number: 1, name: id.toUpperCase(), place: { latitude: 1, longitude: 2 } }),
} as unknown as FindingRegistry;

function finding(change: Partial<Finding>): Finding {
  return {
    ...{ kind: 'seismic.event', severity: 'severe', status: 'actual', headline: 'in {zone}', description: '{zone}' },
    ...{ zoneId: null, deviceId: null, latitude: 16, longitude: -99, onset: 5, evidence: {} },
    ...change,
  };
}

const picksOf = (...ids: string[]): Finding['evidence'] => ({ picks: ids.map((deviceId) => ({ deviceId })) });
const complete = (change: Partial<Finding>, key = 'network:seismic'): ReturnType<typeof completeFinding> =>
  completeFinding(registry, { finding: finding(change), key, traceparent: null, now: 0 });

describe('a finding made whole', () => {
  test('an earthquake belongs to the zone of the station nearest to it and keeps its own place', async () => {
    expect(await complete({ evidence: picksOf('far', 'near', 'lost', 'unknown') })).toMatchObject({
      zoneId: 'north',
      headline: 'in NORTH',
      latitude: 16,
      longitude: -99,
    });
  });

  test('to none when that station has none, or no station is known any more', async () => {
    expect((await complete({ evidence: picksOf('far', 'lone') })).zoneId).toBeNull();
    expect((await complete({ evidence: picksOf('unknown') })).zoneId).toBeNull();
  });

  test('a finding without a place takes that of its zone', async () => {
    expect(await complete({ zoneId: 'south', latitude: null, longitude: null })).toMatchObject({
      zoneId: 'south',
      latitude: 1,
      longitude: 2,
    });
  });

  test('a device whose place nobody knows does not take the mean place of its zone for its own', async () => {
    expect(await complete({ deviceId: 'd1', zoneId: 'south', latitude: null, longitude: null })).toMatchObject({
      ...{ zoneId: 'south', latitude: null, longitude: null },
    });
    expect(await complete({ deviceId: 'd1', zoneId: 'south', latitude: 3, longitude: 4 })).toMatchObject({
      ...{ latitude: 3, longitude: 4 },
    });
  });

  test('what simulated devices made is an exercise in their zone; the real alert beside it is another one', async () => {
    const change = { evidence: picksOf('near'), deviceId: null };
    const real = await complete(change);
    const exercise = await complete(change, 'exercise:network:seismic');
    expect([real.status, exercise.status]).toEqual(['actual', 'exercise']);
    expect(exercise).toEqual({ ...real, status: 'exercise', fingerprint: exercise.fingerprint });
    expect(exercise.zoneId).toBe('north');
    expect(exercise.fingerprint).not.toBe(real.fingerprint);
  });

  test('the zone it got changes no fingerprint', async () => {
    const [a, b] = [await complete({ evidence: picksOf('near') }), await complete({ evidence: picksOf('far') })];
    expect(a.fingerprint).toBe(b.fingerprint);
  });
});
