import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { COUNT_MS, createDeviceCounter } from './counter.ts';

let now = 0;
const clock = { now: () => now, monotonic: () => now };

beforeEach(() => {
  now = 0;
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the count of devices', () => {
  test('is renewed on a change, and changes during a count make one more', async () => {
    let devices = 1;
    let counts = 0;
    const counter = createDeviceCounter(async () => (counts++, devices), clock);
    await counter.load();
    expect(counter.read()).toBe(1);
    devices = 3;
    for (let change = 0; change < 100; change++) counter.renew();
    await vi.advanceTimersByTimeAsync(1000);
    expect([counter.read(), counts]).toEqual([3, 3]);
    counter.stop();
  });

  test('is renewed when it is asked for and old, and stays when the store is away', async () => {
    let devices = 1;
    let away = false;
    const counter = createDeviceCounter(async () => {
      if (away) throw new Error('away');
      return devices;
    }, clock);
    await counter.load();
    devices = 2;
    now = COUNT_MS;
    expect(counter.read()).toBe(1);
    await vi.advanceTimersByTimeAsync(0);
    expect(counter.read()).toBe(2);
    away = true;
    now = 3 * COUNT_MS;
    counter.read();
    await vi.advanceTimersByTimeAsync(0);
    expect(counter.read()).toBe(2);
    expect(vi.getTimerCount()).toBe(0);
    counter.stop();
  });
});
