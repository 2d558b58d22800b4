/** The contract of {@link Limiter}: every implementation runs it. `pass` lets that many milliseconds go by. */
import { expect, it } from 'vitest';
import type { Bus } from './ports/bus.ts';

export function limiterSuite(open: () => Promise<Pick<Bus, 'limiter'>>, pass: (ms: number) => Promise<void>): void {
  it('starts full, refuses above the burst, and says how long to wait', async () => {
    const { limiter } = await open();
    const shape = { ratePerSecond: 1, burst: 2 };
    expect(await limiter.take('k', shape)).toMatchObject({ allowed: true, remaining: 1, retryAfterMs: 0 });
    expect(await limiter.take('k', shape)).toMatchObject({ allowed: true, remaining: 0 });
    const refused = await limiter.take('k', shape);
    expect(refused).toMatchObject({ allowed: false, remaining: 0 });
    expect(refused.retryAfterMs).toBeGreaterThan(0);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(1000);
    await pass(refused.retryAfterMs);
    expect((await limiter.take('k', shape)).allowed).toBe(true);
  });

  it('keeps keys apart', async () => {
    const { limiter } = await open();
    const shape = { ratePerSecond: 0.1, burst: 1 };
    expect((await limiter.take('a', shape)).allowed).toBe(true);
    expect((await limiter.take('b', shape)).allowed).toBe(true);
    expect((await limiter.take('a', shape)).allowed).toBe(false);
  });

  it('takes a whole cost or nothing, and never allows a cost over the burst', async () => {
    const { limiter } = await open();
    const shape = { ratePerSecond: 0.1, burst: 5 };
    expect((await limiter.take('k', shape, 6)).allowed).toBe(false);
    expect(await limiter.take('k', shape, 3)).toMatchObject({ allowed: true, remaining: 2 });
    expect(await limiter.take('k', shape, 3)).toMatchObject({ allowed: false, remaining: 2 });
    expect(await limiter.take('k', shape, 2)).toMatchObject({ allowed: true, remaining: 0 });
  });

  it('clips what a bucket holds when its burst becomes smaller', async () => {
    const { limiter } = await open();
    expect((await limiter.take('k', { ratePerSecond: 0.1, burst: 100 })).remaining).toBe(99);
    expect((await limiter.take('k', { ratePerSecond: 0.1, burst: 3 })).remaining).toBe(2);
  });
}
