import { createSecretKey, randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis, startRedisCluster } from '@tocsin/testkit/redis-server';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../lib/clock.ts';
import { cellsSuite } from '../cells.suite.ts';
import { presenceSuite } from '../presence.suite.ts';
import { pubSubSuite } from '../pubsub.suite.ts';
import { type BusEvent, createRedisBus, type RedisBus } from './bus.ts';
import type { RedisPlace } from './place.ts';

const key = createSecretKey(randomBytes(32));
const buses: RedisBus[] = [];
afterEach(async () => {
  for (const bus of buses.splice(0)) await bus.close();
});

interface Opened {
  readonly bus: RedisBus;
  readonly instance: string;
  readonly events: BusEvent[];
  readonly observed: string[];
  readonly lags: number[];
}

function openOn(place: RedisPlace, instance: string = randomUUID()): Opened {
  const events: BusEvent[] = [];
  const observed: string[] = [];
  const lags: number[] = [];
  const bus = createRedisBus({
    place,
    key,
    clock: systemClock,
    instance,
    onListenerError: () => undefined,
    onDropped: () => undefined,
    observe: (command) => observed.push(command),
    onEvent: (event) => events.push(event),
    onLag: (seconds) => lags.push(seconds),
  });
  buses.push(bus);
  return { bus, instance, events, observed, lags };
}

const healthy = (bus: RedisBus, timeout = 10_000): Promise<void> =>
  vi.waitFor(() => expect(bus.healthy()).toBe(true), { timeout });
/** What would keep this process running. */
const held = (): string[] =>
  process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'TCPSocketWrap');

describeWith(['redis'], 'the bus over Redis', () => {
  let redis: RedisServer;
  let place: RedisPlace;
  beforeAll(async () => {
    redis = await startRedis();
    place = { kind: 'single', url: redis.url };
  });
  afterAll(() => redis.stop());
  const open = async (): Promise<RedisBus> => {
    const { bus } = openOn(place, 'one');
    await healthy(bus);
    await redis.cli('flushall');
    return bus;
  };

  describe('publish-subscribe', () => pubSubSuite(open));
  describe('cells', () => cellsSuite(open, pause));
  describe('presence', () => presenceSuite(open));

  it('is shared: two in one process hear each other and see each other among the peers until one is closed', async () => {
    const [one, two] = [openOn(place), openOn(place)];
    await healthy(one.bus);
    await healthy(two.bus);
    const heard: string[] = [];
    await two.bus.pubsub.subscribe('t', (payload) => heard.push(payload));
    await one.bus.pubsub.publish('t', 'x');
    await vi.waitFor(() => expect(heard).toEqual(['x']));
    expect(one.bus.shared).toBe(true);
    const peers = await one.bus.peers();
    expect(peers).toContain(one.instance);
    expect(peers).toContain(two.instance);
    await two.bus.presence.join('board', 'c2');
    expect(await one.bus.presence.join('board', 'c1')).toHaveLength(2);
    await two.bus.close();
    expect(await one.bus.peers()).not.toContain(two.instance);
    expect(await one.bus.presence.list('board')).toMatchObject([{ id: 'c1' }]);
  });

  it('observes its commands and probes, and tells each second how old the last sign of life is', async () => {
    const { bus, observed, lags } = openOn(place);
    await healthy(bus);
    await bus.limiter.take('k', { ratePerSecond: 1, burst: 1 });
    expect(observed).toEqual(expect.arrayContaining(['publish', 'probe']));
    await vi.waitFor(() => expect(lags.length).toBeGreaterThan(0), 3000);
    expect(lags[0]).toBeLessThan(3);
    expect(bus.lagMs()).toBeLessThan(3000);
  });

  it('answers from this process alone while Redis is frozen, says so, and ends within a second', async () => {
    const [one, two] = [openOn(place), openOn(place)];
    await healthy(one.bus);
    await healthy(two.bus);
    const before = held().length;
    redis.freeze();
    try {
      const shape = { ratePerSecond: 1, burst: 1 };
      expect(await one.bus.limiter.take('frozen', shape)).toMatchObject({ allowed: true });
      expect(await one.bus.limiter.take('frozen', shape)).toMatchObject({ allowed: false });
      await one.bus.cells.set('sign-in:k', 'v', 60_000);
      expect(await one.bus.cells.get('sign-in:k')).toBe('v');
      expect(await one.bus.presence.join('board', 'c')).toHaveLength(1);
      await expect(one.bus.peers()).rejects.toMatchObject({ code: 'bus-unavailable' });
      expect(one.events).toContainEqual({ kind: 'circuit', circuit: 'open' });
      expect(one.events).toContainEqual({ kind: 'fell-back', part: 'limiter' });
      const began = performance.now();
      await Promise.all([one.bus.close(), two.bus.close()]);
      // A second, and what two busy cores need beyond it.
      expect(performance.now() - began).toBeLessThan(2000);
      await vi.waitFor(() => expect(held().length).toBeLessThan(before), 1000);
    } finally {
      redis.thaw();
    }
  });

  it('has nothing open when it is closed', async () => {
    const before = held();
    const { bus } = openOn(place);
    await healthy(bus);
    await bus.pubsub.subscribe('t', () => undefined);
    await bus.close();
    await bus.close();
    await vi.waitFor(() => expect(held().length).toBeLessThanOrEqual(before.length), 1000);
    await expect(bus.pubsub.publish('t', 'x')).rejects.toMatchObject({ code: 'bus-unavailable' });
  });

  it('gets healthy only once Redis is there, and tells no secret of a Redis that is not', async () => {
    const { bus, events } = openOn({ kind: 'single', url: 'redis://user:a-secret@127.0.0.1:1' });
    await bus.pubsub.subscribe('t', () => undefined);
    await vi.waitFor(() => expect(events.some(({ kind }) => kind === 'failed')).toBe(true), 5000);
    expect(bus.healthy()).toBe(false);
    expect(events.map((event) => JSON.stringify(event) + String('err' in event ? event.err : '')).join()).not.toMatch(
      /a-secret/,
    );
  });
});

describeWith(['redis'], 'the bus over a Cluster', () => {
  it('is whole: it is heard, counts, limits, and ends', async () => {
    const { addresses, stop } = await startRedisCluster();
    try {
      const place: RedisPlace = { kind: 'cluster', nodes: addresses };
      const [one, two] = [openOn(place), openOn(place)];
      await healthy(one.bus);
      await healthy(two.bus);
      const heard: string[] = [];
      for (let n = 0; n < 8; n++) await two.bus.pubsub.subscribe(`t${n}`, (payload) => heard.push(payload));
      await Promise.all(Array.from({ length: 8 }, (_, n) => one.bus.pubsub.publish(`t${n}`, String(n))));
      await vi.waitFor(() => expect(heard.toSorted()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7']));
      await vi.waitFor(async () => expect((await one.bus.peers()).length).toBe(2), 5000);
      await one.bus.cells.set('sign-in:k', 'v', 60_000);
      expect(await two.bus.cells.get('sign-in:k')).toBe('v');
      const shape = { ratePerSecond: 0.001, burst: 1 };
      expect(await one.bus.limiter.take('k', shape)).toMatchObject({ allowed: true });
      expect(await two.bus.limiter.take('k', shape)).toMatchObject({ allowed: false });
      await two.bus.close();
      expect(await one.bus.peers()).toEqual([one.instance]);
    } finally {
      await stop();
    }
  });
});
