import { afterEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../lib/clock.ts';
import { cellsSuite } from '../cells.suite.ts';
import { limiterSuite } from '../limiter.suite.ts';
import type { Bus } from '../ports/bus.ts';
import { presenceSuite } from '../presence.suite.ts';
import { pubSubSuite } from '../pubsub.suite.ts';
import { createMemoryBus } from './bus.ts';
import { createMemoryCells } from './cells.ts';
import { createMemoryLimiter } from './limiter.ts';

let time = 1_000_000;
const clock: Clock = { now: () => time, monotonic: () => time };
const pass = async (ms: number): Promise<void> => {
  time += ms;
};
const buses: Bus[] = [];
const open = async (): Promise<Bus> => {
  const bus = createMemoryBus({ clock, instance: 'one' });
  buses.push(bus);
  return bus;
};
afterEach(async () => {
  for (const bus of buses.splice(0)) await bus.close();
});

describe('publish-subscribe in memory', () => pubSubSuite(open));
describe('cells in memory', () => cellsSuite(open, pass));
describe('limiter in memory', () => limiterSuite(open, pass));
describe('presence in memory', () => presenceSuite(open));

describe('bounds of the bus in memory', () => {
  it('forgets buckets that are full again while others are used', async () => {
    const limiter = createMemoryLimiter(clock);
    for (let n = 0; n < 10_000; n++) limiter.take(`k${n}`, { ratePerSecond: 10, burst: 10 });
    expect(limiter.size).toBe(10_000);
    await pass(101);
    for (let n = 0; n < 10_000; n++) limiter.take('one', { ratePerSecond: 10, burst: 10 });
    expect(limiter.size).toBe(1);
  });

  it('forgets full buckets and expired cells in quiet times', async () => {
    const limiter = createMemoryLimiter(clock);
    const cells = createMemoryCells(clock);
    for (let n = 0; n < 1000; n++) {
      limiter.take(`k${n}`, { ratePerSecond: 10, burst: 10 });
      await cells.set(`k${n}`, 'v', 50);
    }
    await pass(101);
    limiter.sweep(2000);
    cells.sweep(2000);
    expect([limiter.size, cells.size]).toEqual([0, 0]);
  });

  it('never keeps more buckets or cells than its bound', async () => {
    const limiter = createMemoryLimiter(clock, 100);
    const cells = createMemoryCells(clock, 100);
    for (let n = 0; n < 5000; n++) {
      limiter.take(`k${n}`, { ratePerSecond: 0.001, burst: 1 });
      await cells.set(`k${n}`, 'v', 1_000_000);
    }
    expect([limiter.size, cells.size]).toEqual([100, 100]);
    expect(await cells.get('k4999')).toBe('v');
  });
});
