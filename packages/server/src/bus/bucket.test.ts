import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BACK_MOST_MS, type BucketLevel, bucketUnits, takeFrom } from './bucket.ts';

const shapes = fc.record({
  ratePerSecond: fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.double({ min: 0.001, max: 1000, noNaN: true })),
  burst: fc.integer({ min: 1, max: 1_000_000 }),
});
/** Steps of time, some of them back, and costs. */
const requests = fc.array(
  fc.record({
    step: fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: -5000, max: 10_000_000 })),
    cost: fc.integer({ min: 1, max: 20 }),
  }),
  { minLength: 1, maxLength: 120 },
);

describe('token bucket', () => {
  it('agrees with exact arithmetic, request by request', () => {
    fc.assert(
      fc.property(shapes, requests, (shape, list) => {
        const units = bucketUnits(shape);
        const capacity = BigInt(units.capacity);
        let kept: BucketLevel | undefined;
        let exact = capacity;
        let now = 1_800_000_000_000;
        let latest = now + (list[0]?.step ?? 0);
        for (const { step, cost } of list) {
          now += step;
          if (now > latest) {
            exact += BigInt(now - latest) * BigInt(units.perMs);
            latest = now;
          }
          if (latest - now > BACK_MOST_MS) latest = now;
          if (exact > capacity) exact = capacity;
          const price = BigInt(cost) * 1_000_000_000n;
          const allowed = price <= exact;
          if (allowed) exact -= price;
          const result = takeFrom(kept, units, cost, now);
          kept = result.kept;
          expect(result.answer.allowed).toBe(allowed);
          expect(BigInt(kept.level)).toBe(exact);
          expect(result.answer.remaining).toBe(Number(exact / 1_000_000_000n));
        }
      }),
    );
  });

  it('never lets more than burst + rate * t through in any window', () => {
    fc.assert(
      fc.property(shapes, requests, (shape, list) => {
        const units = bucketUnits(shape);
        const taken: { at: number; cost: number }[] = [];
        let kept: BucketLevel | undefined;
        let now = 0;
        let passed = 0;
        for (const { step, cost } of list) {
          now += step;
          passed += Math.max(0, step);
          const result = takeFrom(kept, units, cost, now);
          kept = result.kept;
          if (result.answer.allowed) taken.push({ at: passed, cost });
        }
        for (let from = 0; from < taken.length; from++) {
          let sum = 0;
          for (let to = from; to < taken.length; to++) {
            sum += taken[to]?.cost ?? 0;
            const seconds = ((taken[to]?.at ?? 0) - (taken[from]?.at ?? 0)) / 1000;
            expect(sum).toBeLessThanOrEqual(shape.burst + Math.max(shape.ratePerSecond, 1e-6) * seconds + 1e-6);
          }
        }
      }),
    );
  });

  it('allows at the time it named, and not a millisecond before', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 50 }), (shape, cost) => {
        const units = bucketUnits(shape);
        fc.pre(cost <= shape.burst);
        const emptied = takeFrom(undefined, units, shape.burst, 1000);
        const refused = takeFrom(emptied.kept, units, cost, 1000);
        const wait = refused.answer.retryAfterMs;
        expect(refused.answer.allowed).toBe(false);
        expect(takeFrom(refused.kept, units, cost, 1000 + wait).answer.allowed).toBe(true);
        expect(takeFrom(refused.kept, units, cost, 1000 + wait - 1).answer.allowed).toBe(false);
      }),
    );
  });

  it('is not changed by being forgotten once it is full', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 20 }), (shape, cost) => {
        const units = bucketUnits(shape);
        const first = takeFrom(undefined, units, cost, 0);
        expect(takeFrom(first.kept, units, 1, first.fullAt).kept.level).toBe(
          takeFrom(undefined, units, 1, first.fullAt).kept.level,
        );
      }),
    );
  });

  it('goes on by a clock that was set back by an hour', () => {
    const units = bucketUnits({ ratePerSecond: 1, burst: 2 });
    const emptied = takeFrom(undefined, units, 2, 3_600_000);
    expect(takeFrom(emptied.kept, units, 1, 0).answer).toEqual({ allowed: false, remaining: 0, retryAfterMs: 1000 });
    expect(takeFrom(takeFrom(emptied.kept, units, 1, 0).kept, units, 1, 1000).answer.allowed).toBe(true);
  });

  it('refuses a shape that is not positive', () => {
    expect(() => bucketUnits({ ratePerSecond: 0, burst: 1 })).toThrow(RangeError);
    expect(() => bucketUnits({ ratePerSecond: 1, burst: Number.NaN })).toThrow(RangeError);
  });
});
