import { describe, expect, test } from 'vitest';
import { estimateMagnitude, expectedLogPeak, intensityOf } from './magnitude.ts';

describe('magnitude', () => {
  test('the relation is that of Cua and Heaton, in cm/s²', () => {
    // By hand for M 5 at 30 km: C = 1.16 x 1.4 = 1.624; R + C = sqrt(909) + 1.624 = 31.774.
    const km = Math.sqrt(909) + 1.16 * 1.4;
    expect(expectedLogPeak(5, 30, 'S')).toBeCloseTo(0.733 * 5 - 7.216e-4 * km - 1.48 * Math.log10(km) - 0.4202, 9);
    expect(expectedLogPeak(5, 30, 'P')).toBeLessThan(expectedLogPeak(5, 30, 'S'));
  });

  test('a peak of the relation gives its magnitude back, the median ignores one wild station', () => {
    const peak = (m: number, km: number): { amplitude: number; km: number; phase: 'S' } => ({
      amplitude: 10 ** expectedLogPeak(m, km, 'S') / 100,
      km,
      phase: 'S',
    });
    expect(estimateMagnitude([peak(5.5, 40)])).toMatchObject({ value: 5.5, name: 'moderate' });
    expect(estimateMagnitude([peak(6.2, 40), peak(6.2, 90), { ...peak(6.2, 60), amplitude: 50 }])?.value).toBe(6.2);
  });

  test('more stations are surer, but never sure', () => {
    const one = { amplitude: 0.1, km: 50, phase: 'S' } as const;
    const [single, many] = [[one], Array.from({ length: 50 }, () => one)].map(
      (peaks) => estimateMagnitude(peaks)?.uncertainty ?? 0,
    );
    expect(single).toBeGreaterThan(many ?? 0);
    expect(many).toBeGreaterThanOrEqual(0.4);
  });

  test('where the relation ends, and without stations, nothing is said', () => {
    expect(estimateMagnitude([])).toBeNull();
    expect(estimateMagnitude([{ amplitude: 500, km: 100, phase: 'S' }])).toBeNull();
  });

  test('intensity IV begins at 27 cm/s², V at 61', () => {
    expect(intensityOf(0.27)).toBeCloseTo(4, 1);
    expect(intensityOf(0.61)).toBeCloseTo(5, 1);
    expect(intensityOf(0)).toBe(1);
  });
});
