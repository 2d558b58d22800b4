import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { butterworthBandPass, gainOf } from './butterworth.ts';

describe('Butterworth band-pass', () => {
  test('one pole at 100 Hz, 10 to 20 Hz, is the textbook filter', () => {
    const [section] = butterworthBandPass(1, 10, 20, 100);
    // By hand from s -> (z - 1) / (z + 1) with prewarped corners v < w: b0 = (w - v) / (1 + (w - v) + v w).
    const [v, w] = [Math.tan(Math.PI * 0.1), Math.tan(Math.PI * 0.2)];
    const below = 1 + (w - v) + v * w;
    expect(section?.b0).toBeCloseTo((w - v) / below, 12);
    expect(section?.b2).toBeCloseTo((v - w) / below, 12);
    expect(section?.a1).toBeCloseTo((2 * (v * w - 1)) / below, 12);
    expect(section?.a2).toBeCloseTo((1 - (w - v) + v * w) / below, 12);
  });

  test('the corners are 3 dB down, the middle passes, whatever the order', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.double({ min: 0.5, max: 5, noNaN: true }),
        fc.double({ min: 1.5, max: 2, noNaN: true }),
        (order, low, factor) => {
          const [high, rate] = [low * factor, 31.25];
          const sections = butterworthBandPass(order, low, high, rate);
          expect(sections).toHaveLength(order);
          expect(gainOf(sections, low, rate)).toBeCloseTo(Math.SQRT1_2, 6);
          expect(gainOf(sections, high, rate)).toBeCloseTo(Math.SQRT1_2, 6);
        },
      ),
    );
  });

  test('it falls as the analogue Butterworth does, warped by the bilinear transform', () => {
    const [order, low, high, rate] = [4, 1, 10, 100];
    const sections = butterworthBandPass(order, low, high, rate);
    const warp = (hz: number): number => Math.tan((Math.PI * hz) / rate);
    for (const hz of [0.2, 0.5, 2, 5, 15, 30, 45]) {
      const x = (warp(hz) ** 2 - warp(low) * warp(high)) / (warp(hz) * (warp(high) - warp(low)));
      expect(gainOf(sections, hz, rate)).toBeCloseTo(1 / Math.sqrt(1 + x ** (2 * order)), 6);
    }
  });

  test('constant acceleration gives nothing, and every pole lies within the circle', () => {
    for (const rate of [20, 31.25, 50, 100, 200, 500])
      for (const order of [1, 2, 3, 4]) {
        const sections = butterworthBandPass(order, 1, Math.min(10, 0.4 * rate), rate);
        expect(gainOf(sections, 0, rate)).toBeCloseTo(0, 9);
        for (const { a1, a2 } of sections) {
          expect(Math.abs(a2)).toBeLessThan(1);
          expect(Math.abs(a1)).toBeLessThan(1 + a2);
        }
      }
  });
});
