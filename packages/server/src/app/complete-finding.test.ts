import type { AlertFinding } from '@tocsin/protocol/finding';
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
async function complete(change: Partial<Finding>, key = 'network:seismic'): Promise<AlertFinding> {
  const whole = await completeFinding(registry, { finding: finding(change), key, traceparent: null, now: 0 });
  if (whole === null) throw new Error('nothing to tell');
  return whole;
}

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

  test('an end keeps its fingerprint, that of an exercise too, and asks nobody', async () => {
    const known = {
      ...registry,
      directory: { lookup: () => ({ ...stations['near'], standing: 'active', profile: 'host' }) },
    } as unknown as FindingRegistry;
    const asking = { directory: { lookup: () => expect.unreachable() }, zoneFacts: () => expect.unreachable() };
    for (const key of ['hosts:silence', 'exercise:hosts:silence']) {
      const silent = finding({ kind: 'host.silent', deviceId: 'near', subject: 'device:near' });
      const begin = await completeFinding(known, { finding: silent, key, traceparent: null, now: 0 });
      const end = await completeFinding(asking as unknown as FindingRegistry, {
        ...{ finding: { ...silent, ends: true }, key, traceparent: 't', now: 0 },
      });
      expect(end).toMatchObject({ ends: true, fingerprint: begin?.fingerprint });
      expect(begin).not.toHaveProperty('subject');
    }
  });
});

describe('hosts that are silent', () => {
  const standings: Readonly<Record<string, object>> = {
    a: { id: 'a', standing: 'active', profile: 'host', zoneId: 'rack', latitude: 3, longitude: 4 },
    b: { id: 'b', standing: 'active', profile: 'host', zoneId: 'rack', latitude: null, longitude: null },
    c: { id: 'c', standing: 'active', profile: 'host', zoneId: null, latitude: null, longitude: null },
    other: { id: 'other', standing: 'active', profile: 'seismic', zoneId: null, latitude: null, longitude: null },
    off: { id: 'off', standing: 'inactive', zoneId: 'other', latitude: 3, longitude: 4 },
    gone: { id: 'gone', standing: 'revoked', zoneId: 'other', latitude: 3, longitude: 4 },
  };
  const known = {
    ...registry,
    directory: { lookup: (id: string) => standings[id] ?? null },
  } as unknown as FindingRegistry;
  const silent = (change: Partial<Finding>): ReturnType<typeof completeFinding> =>
    completeFinding(known, {
      finding: finding({ kind: 'host.silent', latitude: null, longitude: null, ...change }),
      ...{ key: 'hosts:silence', traceparent: null, now: 0 },
    });

  test('one has the zone and the place that the registry knows', async () => {
    expect(await silent({ deviceId: 'a' })).toMatchObject({ zoneId: 'rack', latitude: 3, longitude: 4 });
    expect(await silent({ deviceId: 'b' })).toMatchObject({ zoneId: 'rack', latitude: null });
  });

  test('one that an operator switched off, or that is no more, is not told of', async () => {
    for (const deviceId of ['off', 'gone', 'other', 'unknown']) expect(await silent({ deviceId })).toBeNull();
  });

  test('many have the zone that they share, without those that are switched off; none left: nothing is told', async () => {
    const many = (...devices: string[]): ReturnType<typeof completeFinding> =>
      silent({ deviceId: null, headline: '{silent} of {hosts}', evidence: { hosts: 10, silent: 9, devices } });
    expect(await many('a', 'off', 'b')).toMatchObject({
      zoneId: 'rack',
      headline: '2 of 9',
      evidence: { hosts: 9, silent: 2, devices: ['a', 'b'] },
    });
    expect(await many('a', 'c')).toMatchObject({ zoneId: null });
    expect(await many('off', 'gone')).toBeNull();
  });
});
