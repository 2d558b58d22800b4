import { describe, expect, it, vi } from 'vitest';
import { refusal, start } from './websocket-system.suite.ts';

describe('end', () => {
  it('tells everybody to move with spread delays, closes with 1001, and refuses newcomers with 503', async () => {
    const system = await start({ maxConnectionsPerUser: 50, reconnectsPerMinute: 100 });
    const all = await Promise.all(Array.from({ length: 20 }, () => system.viewer({ token: 'ann' })));
    const drained = system.transport.drain(5000);
    expect(await refusal(system.viewer({ token: 'bob' }))).toMatchObject({
      status: 503,
      code: 'draining',
      retryAfter: '1',
    });
    await drained;
    expect(system.transport.connections()).toBe(0);
    const delays = new Set(
      all.map((viewer) => viewer.messages.find((message) => message.type === 'moving')?.['retryAfterMs']),
    );
    expect(delays.size).toBeGreaterThan(5);
    for (const viewer of all) expect(await viewer.closed).toMatchObject({ code: 1001 });
  });

  it('keeps each connection open past the delay that it was told: what happens meanwhile reaches all of them', async () => {
    const system = await start({ maxConnectionsPerUser: 50, reconnectsPerMinute: 100 });
    const all = await Promise.all(Array.from({ length: 20 }, () => system.viewer({ token: 'ann' })));
    const drained = system.transport.drain(4000);
    const lives = all.map(async (viewer) => {
      const moving = await viewer.until((message) => message.type === 'moving');
      const toldAt = performance.now();
      await viewer.closed;
      return { delay: Number(moving['retryAfterMs']), lived: performance.now() - toldAt };
    });
    await Promise.all(all.map((viewer) => viewer.until((message) => message.type === 'moving')));
    const offset = await system.commit();
    for (const viewer of all) {
      await viewer.closed;
      expect(viewer.offset()).toBe(offset);
      expect(viewer.faults).toEqual([]);
    }
    for (const { delay, lived } of await Promise.all(lives)) expect(lived).toBeGreaterThan(delay);
    await drained;
  });

  it('lets who was told to move come back before the old connection ends, without counting the connect', async () => {
    const system = await start({ maxConnectionsPerUser: 2, reconnectsPerMinute: 1 });
    const viewer = await system.viewer({ token: 'ann' });
    const other = await start({ maxConnectionsPerUser: 2, reconnectsPerMinute: 1 }, system.bus);
    const drained = system.transport.drain(3000);
    await viewer.until((message) => message.type === 'moving');
    const next = await other.viewer({ token: 'ann' });
    expect(next.welcome.type).toBe('welcome');
    await drained;
    expect((await refusal(other.viewer({ token: 'ann' }))).status).toBe(429);
  });

  it('cuts who does not answer the close by the deadline', async () => {
    const system = await start();
    const viewer = await system.viewer({ token: 'ann' });
    viewer.socket.pause();
    await system.transport.drain(200);
    await vi.waitUntil(() => system.transport.connections() === 0);
    viewer.socket.resume();
    await viewer.closed;
  });
});
