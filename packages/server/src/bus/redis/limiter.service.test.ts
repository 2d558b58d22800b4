/** The script of the limiter against its twin, and what it leaves in Redis. */
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis } from '@tocsin/testkit/redis-server';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type BucketLevel, bucketUnits, takeFrom } from '../bucket.ts';
import { createRedisLimiter } from './limiter.ts';
import { type RedisLink, openRedisLink } from './link.ts';

const shapes = fc.record({
  ratePerSecond: fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.double({ min: 0.001, max: 1000, noNaN: true })),
  burst: fc.oneof(fc.integer({ min: 1, max: 1_000_000 }), fc.double({ min: 0.5, max: 50, noNaN: true })),
});
const steps = fc.array(
  fc.record({
    ms: fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: -5000, max: 10_000_000 })),
    cost: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.double({ min: 0, max: 3, noNaN: true })),
    shape: fc.integer({ min: 0, max: 2 }),
  }),
  { minLength: 5, maxLength: 60, size: 'max' },
);

describeWith(['redis'], 'the token bucket in Redis', () => {
  let server: RedisServer;
  let link: RedisLink;
  beforeAll(async () => {
    server = await startRedis();
    link = openRedisLink({
      place: { kind: 'single', url: server.url },
      name: 'test',
      onError: () => undefined,
      commandTimeoutMs: 20_000,
    });
    await link.ready(10_000);
  });
  afterAll(async () => {
    await link.close();
    await server.stop();
  });

  it('answers step by step as the one in memory, whatever the shapes, costs and clocks', async () => {
    let bucket = 0;
    let compared = 0;
    const run = async (three: readonly { ratePerSecond: number; burst: number }[], list: readonly Step[]) => {
      const key = `b${bucket++}`;
      let now = 1_800_000_000_000;
      let kept: BucketLevel | undefined;
      const limiter = createRedisLimiter({ link, now: () => now });
      for (const { ms, cost, shape } of list) {
        now += ms;
        const form = three[shape] ?? { ratePerSecond: 1, burst: 1 };
        const twin = takeFrom(kept, bucketUnits(form), cost, now);
        kept = twin.kept;
        expect(await limiter.take(key, form, cost)).toEqual(twin.answer);
        compared++;
      }
      expect(await link.client.get(`rl:{${key}}`)).toBe(`${kept?.level ?? ''} ${kept?.at ?? ''}`);
    };
    await fc.assert(fc.asyncProperty(fc.array(shapes, { minLength: 3, maxLength: 3 }), steps, run), { numRuns: 200 });
    expect(compared).toBeGreaterThan(2000);
  });

  it('is forgotten when it is full again, and not before', async () => {
    const limiter = createRedisLimiter({ link });
    await limiter.take('slow', { ratePerSecond: 1, burst: 100 }, 50);
    const left = await link.client.pttl('rl:{slow}');
    expect(left).toBeGreaterThan(40_000);
    expect(left).toBeLessThanOrEqual(50_000);
    await limiter.take('full', { ratePerSecond: 1000, burst: 10 }, 0);
    await expect.poll(() => link.client.exists('rl:{full}')).toBe(0);
  });

  it('refuses a shape or a cost that makes no sense before anything travels', () => {
    const limiter = createRedisLimiter({ link });
    expect(() => limiter.take('k', { ratePerSecond: 0, burst: 1 })).toThrow(RangeError);
    expect(() => limiter.take('k', { ratePerSecond: 1, burst: 1 }, -1)).toThrow(RangeError);
  });

  it('works on a Redis that has forgotten its scripts', async () => {
    const limiter = createRedisLimiter({ link });
    await link.client.script('FLUSH');
    expect(await limiter.take('k', { ratePerSecond: 0.001, burst: 2 })).toMatchObject({ allowed: true, remaining: 1 });
    expect(await limiter.take('k', { ratePerSecond: 0.001, burst: 2 })).toMatchObject({ allowed: true, remaining: 0 });
  });
});

interface Step {
  readonly ms: number;
  readonly cost: number;
  readonly shape: number;
}
