import { expect, test } from 'vitest';
import { createWorld, watch, watermark, welcome } from './world.suite.ts';

test('a viewer comes back when a frozen server wakes and lets a handshake in that was given up, within a minute', async () => {
  for (const [after, phase] of [
    [50_000, 'resting'],
    [61_000, 'stopped'],
  ] as const) {
    const world = createWorld();
    const heard = watch(world);
    await world.advance(25_000);
    expect(world.sockets).toHaveLength(2);
    world.newest().say(welcome(5));
    for (let passed = 5000; passed < after; passed += 5000) {
      world.newest().say(watermark(5));
      await world.advance(5000);
    }
    world.newest().end(4001);
    expect(heard.alerts.phase).toBe(phase);
    heard.alerts.close();
  }
});
