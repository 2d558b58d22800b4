import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  distanceKm,
  type Earthquake,
  earthquakeOf,
  type EarthquakePlan,
  feel,
  originOf,
  placeBeside,
  placeWithin,
} from './earthquake.ts';
import { createRandom } from './random.ts';
import { hostFrames, isHot, quietTriggers, shakenTrigger } from './readings.ts';
import { PACKET_MS, PACKET_SAMPLES, waveformPacket } from './waveform.ts';

const HERE = { latitude: 17, longitude: -99 };
const QUAKE: Earthquake = { ...HERE, originMs: 1000, magnitude: 6, depthKm: 15 };
const PLAN: EarthquakePlan = {
  seed: 's',
  firstMs: 5000,
  everyMs: 60_000,
  count: 3,
  leastMagnitude: 5,
  mostMagnitude: 6,
  around: [HERE],
  withinKm: 20,
};

describe('an earthquake', () => {
  it('passes a station as P wave at 6.5 km/s, then as S wave at 3.75 km/s', () => {
    const felt = feel(QUAKE, placeBeside(HERE, 60, 0));
    const km = Math.hypot(60, 15);
    expect(felt?.pMs).toBeCloseTo(1000 + (km / 6.5) * 1000, -2);
    expect(felt?.sMs).toBeCloseTo(1000 + (km / 3.75) * 1000, -2);
  });

  it('is weaker far away, stronger with its magnitude, and its S wave is the stronger one', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 150, noNaN: true }),
        fc.double({ min: 5, max: 7, noNaN: true }),
        (km, magnitude) => {
          const near = feel({ ...QUAKE, magnitude }, placeBeside(HERE, km, 0));
          const far = feel({ ...QUAKE, magnitude }, placeBeside(HERE, km + 20, 0));
          const larger = feel({ ...QUAKE, magnitude: magnitude + 0.5 }, placeBeside(HERE, km, 0));
          if (near === null || far === null || larger === null) return;
          expect(far.pPeak).toBeLessThan(near.pPeak);
          expect(larger.sPeak).toBeGreaterThan(near.sPeak);
          expect(near.sPeak).toBeGreaterThan(near.pPeak);
        },
      ),
    );
    expect(feel({ ...QUAKE, magnitude: 2 }, placeBeside(HERE, 400, 0))).toBeNull();
  });

  it('of a plan is the same wherever it is asked for, within the bounds of the plan', () => {
    expect(earthquakeOf(PLAN, 1)).toEqual(earthquakeOf(PLAN, 1));
    expect(earthquakeOf(PLAN, 1)).not.toEqual(earthquakeOf({ ...PLAN, seed: 'other' }, 1));
    for (let n = 0; n < 3; n += 1) {
      const quake = earthquakeOf(PLAN, n);
      expect(distanceKm(quake, HERE)).toBeLessThanOrEqual(20.5);
      expect(quake.magnitude).toBeGreaterThanOrEqual(5);
      expect(quake.magnitude).toBeLessThanOrEqual(6);
      expect(originOf(PLAN, n)).toBe(5000 + n * 60_000);
    }
    expect(originOf(PLAN, 3)).toBeNull();
    expect(originOf({ ...PLAN, count: null }, 3)).toBe(185_000);
  });

  it('lies in places that are where they say', () => {
    const random = createRandom('places');
    for (let i = 0; i < 100; i += 1) expect(distanceKm(HERE, placeWithin(HERE, 30, random))).toBeLessThan(30.5);
    expect(distanceKm(HERE, placeBeside(HERE, 30, -40))).toBeCloseTo(50, 0);
    expect(placeBeside({ latitude: 0, longitude: 179.9 }, 0, 100).longitude).toBeLessThan(-179);
  });
});

describe('what devices measure', () => {
  const peakOf = (packet: ReturnType<typeof waveformPacket>): number =>
    Math.max(...[...packet.x, ...packet.y, ...packet.z].map(Math.abs));

  it('packets have one second of three equally long axes, quiet before the P wave and loud after the S wave', () => {
    const felt = [{ pMs: 5000, sMs: 9000, pPeak: 0.1, sPeak: 0.5 }];
    const packet = (ms: number): ReturnType<typeof waveformPacket> =>
      waveformPacket(3, ms, 1e12 + ms, felt, createRandom('w'));
    const quiet = packet(2000);
    expect([quiet.x.length, quiet.y.length, quiet.z.length]).toEqual([PACKET_SAMPLES, PACKET_SAMPLES, PACKET_SAMPLES]);
    expect(quiet.at).toBe(1e12 + 2000);
    expect((PACKET_SAMPLES * 1000) / quiet.rate).toBe(PACKET_MS);
    expect(peakOf(quiet)).toBeLessThan(0.03);
    expect(peakOf(packet(5200))).toBeGreaterThan(0.03);
    expect(peakOf(packet(10_000))).toBeGreaterThan(0.15);
    expect(peakOf(packet(120_000))).toBeLessThan(0.03);
  });

  it('triggers of a wave follow its peak', () => {
    const random = createRandom('t');
    const weak = shakenTrigger({ pMs: 0, sMs: 0, pPeak: 0.01, sPeak: 0.1 }, 7, random);
    const strong = shakenTrigger({ pMs: 0, sMs: 0, pPeak: 1, sPeak: 2 }, 7, random);
    expect(weak.at).toBe(7);
    expect(strong.value).toBeGreaterThan(weak.value * 10);
    expect(quietTriggers(1000, 3, random).map(({ at }) => at)).toEqual([980, 990, 1000]);
  });

  it('hosts are hot one after the other, never at first, and only then at 90 % and more', () => {
    const plan = { everyMs: 1000, lastingMs: 400 };
    const hot = (ms: number): number[] => [0, 1, 2, 3].filter((index) => isHot(plan, index, 4, ms));
    expect([hot(0), hot(500), hot(1500)]).toEqual([[], [], []]);
    expect([hot(1100), hot(2100)].map(({ length }) => length)).toEqual([1, 1]);
    const random = createRandom('h');
    const cpu = (isHotNow: boolean): number[] =>
      hostFrames(1e12, 200, 1, isHotNow, random).map((frame) => (frame as { cpu_percent: number }).cpu_percent);
    expect(Math.min(...cpu(true))).toBeGreaterThanOrEqual(90);
    expect(Math.max(...cpu(false))).toBeLessThan(90);
  });
});
