/** Redis frozen, killed, emptied; leases lost and ended: what the parts of the bus do meanwhile and afterwards. */
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis, startRedisCluster, startRedisSentinel } from '@tocsin/testkit/redis-server';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { hasCode } from '../../lib/coded-error.ts';
import { systemClock } from '../../lib/clock.ts';
import { createMemoryCells } from '../memory/cells.ts';
import { createMemoryLimiter } from '../memory/limiter.ts';
import { createMemoryPresence } from '../memory/presence.ts';
import type { BucketAnswer, Cells, Limiter, PresenceBoard } from '../ports/bus.ts';
import { createRedisCells } from './cells.ts';
import { createRedisLimiter } from './limiter.ts';
import { type RedisLink, openRedisLink } from './link.ts';
import type { RedisPlace } from './place.ts';
import { type RedisPresence, createRedisPresence } from './presence.ts';
import { type BusPart, cellsWithFallback, limiterWithFallback, presenceWithFallback } from './with-fallback.ts';

interface Process {
  readonly link: RedisLink;
  readonly remote: RedisPresence;
  readonly limiter: Limiter;
  readonly cells: Cells;
  readonly presence: PresenceBoard;
  readonly fellBack: BusPart[];
  readonly rejoined: string[];
  close(): Promise<void>;
}

const RECOVERY = { timeout: 30_000, interval: 50 };
const ended: (() => Promise<void>)[] = [];
let server: RedisServer;

/** The parts as one process has them. */
function open(instance: string, place: RedisPlace = { kind: 'single', url: server.url }): Process {
  const fellBack: BusPart[] = [];
  const rejoined: string[] = [];
  const onError = (error: unknown): void => void (hasCode(error, 'bus-unavailable') || errors.push(error));
  const link = openRedisLink({ place, name: instance, onError });
  const options = { link, onFellBack: (part: BusPart) => fellBack.push(part), onError };
  const remote = createRedisPresence({ link, instance, onError, onRejoined: (_, why) => rejoined.push(why) });
  const close = async (): Promise<void> => {
    await remote.close();
    await link.close();
  };
  ended.push(close);
  return {
    link,
    remote,
    limiter: limiterWithFallback(createRedisLimiter({ link }), createMemoryLimiter(systemClock), options),
    cells: cellsWithFallback(createRedisCells({ link }), createMemoryCells(systemClock), options),
    presence: presenceWithFallback(remote, createMemoryPresence(systemClock, instance), options),
    fellBack,
    rejoined,
    close,
  };
}
const errors: unknown[] = [];
const ids = async (board: PresenceBoard): Promise<string[]> => (await board.list('k')).map(({ id }) => id);
const healthy = async (one: Process): Promise<void> => {
  expect(await one.link.ready(10_000)).toBe(true);
  await vi.waitUntil(() => one.link.circuit() === 'closed' && one.rejoined.length > 0, RECOVERY);
};

describeWith(['redis'], 'a bus whose Redis fails', () => {
  beforeEach(async () => {
    server = await startRedis();
    ended.push(() => server.stop());
  });
  afterEach(async () => {
    server.thaw();
    for (const end of ended.splice(0).toReversed()) await end();
    expect(errors.splice(0)).toEqual([]);
  });

  it('answers every take while Redis is frozen, limits locally, and is back alone', async () => {
    const one = open('one');
    await healthy(one);
    const shape = { ratePerSecond: 0.001, burst: 5 };
    const takes: Promise<BucketAnswer>[] = [];
    for (let n = 0; n < 200; n++) {
      if (n === 20) server.freeze();
      takes.push(Promise.resolve(one.limiter.take(`k${n % 10}`, shape)));
      await pause(2);
    }
    // All of them settle although nobody thaws Redis.
    await Promise.all(takes);
    await vi.waitUntil(async () => {
      await one.limiter.take('more', shape);
      return one.link.circuit() === 'open';
    }, RECOVERY);
    const local = await Promise.all(Array.from({ length: 50 }, async () => one.limiter.take('new', shape)));
    expect(local.filter(({ allowed }) => allowed)).toHaveLength(5);
    expect(one.fellBack).toContain('limiter');
    server.thaw();
    await vi.waitUntil(() => one.link.circuit() === 'closed', RECOVERY);
    expect(await one.limiter.take('after', shape)).toMatchObject({ allowed: true, remaining: 4 });
    expect(await server.cli('exists', 'rl:{after}')).toBe('1');
  });

  it('starts and works while there is no Redis, and finds it later', async () => {
    await server.kill();
    const one = open('one');
    expect((await one.limiter.take('k', { ratePerSecond: 1, burst: 1 })).allowed).toBe(true);
    expect((await one.limiter.take('k', { ratePerSecond: 1, burst: 1 })).allowed).toBe(false);
    await one.cells.set('sign-in:k', 'v', 60_000);
    expect((await one.presence.join('k', 'a')).map(({ id }) => id)).toEqual(['a']);
    await expect(one.remote.peers()).rejects.toMatchObject({ code: 'bus-unavailable' });
    await server.restart();
    await healthy(one);
    // What was written while Redis was away is still known here, and who is here is known there.
    expect(await one.cells.get('sign-in:k')).toBe('v');
    expect(await one.cells.setIfAbsent('sign-in:k', 'w', 60_000)).toBe(false);
    expect(await one.cells.take('sign-in:k')).toBe('v');
    expect(await one.cells.take('sign-in:k')).toBeNull();
    const two = open('two');
    await healthy(two);
    expect(await ids(two.presence)).toEqual(['a']);
  });

  it('is joined anew after a kill that lost everything, in the order of joining', async () => {
    const [one, two] = [open('one'), open('two')];
    await Promise.all([healthy(one), healthy(two)]);
    for (const id of ['a', 'b', 'c']) await one.presence.join('k', id);
    await two.presence.join('k', 'd');
    await one.presence.leave('k', 'b');
    await server.kill();
    await one.presence.leave('k', 'c');
    expect(await ids(one.presence)).toEqual(['a']);
    await server.restart();
    const all = async (): Promise<void> => expect(await ids(two.remote)).toEqual(['a', 'd']);
    await vi.waitFor(all, RECOVERY);
    expect(new Set(await two.remote.peers())).toEqual(new Set(['one', 'two']));
  });

  it('takes a new lease and joins everything anew when its own has ended', async () => {
    const [one, two] = [open('one'), open('two')];
    await Promise.all([healthy(one), healthy(two)]);
    await one.presence.join('k', 'a');
    for (const member of (await server.cli('zrange', 'session:{instances}', '0', '-1')).split('\n')) {
      if (member.startsWith('one/')) await server.cli('zrem', 'session:{instances}', member);
    }
    await one.remote.renew();
    expect(one.rejoined.at(-1)).toBe('lease-ended');
    expect(await ids(two.remote)).toEqual(['a']);
    // What was written under the old lease is gone.
    await vi.waitFor(async () => expect(await server.cli('zcard', 'session:board:{k}')).toBe('1'), RECOVERY);
  });

  it('does not count what was joined and left while Redis was frozen, whatever Redis does when it wakes', async () => {
    const [one, two] = [open('one'), open('two')];
    await Promise.all([healthy(one), healthy(two)]);
    await one.presence.join('k', 'stays');
    server.freeze();
    const joined = one.presence.join('k', 'ghost');
    expect((await joined).map(({ id }) => id)).toEqual(['stays', 'ghost']);
    await one.presence.leave('k', 'ghost');
    server.thaw();
    await vi.waitUntil(() => one.rejoined.includes('unknown-end'), RECOVERY);
    await vi.waitUntil(() => two.link.circuit() === 'closed', RECOVERY);
    await vi.waitFor(async () => expect(await ids(two.remote)).toEqual(['stays']), RECOVERY);
    await vi.waitFor(async () => expect(await server.cli('zcard', 'session:board:{k}')).toBe('1'), RECOVERY);
  });

  it('has one lease when it is back from a pause that was shorter than a lease', async () => {
    const one = open('one');
    await healthy(one);
    await one.presence.join('k', 'a');
    await one.presence.join('k', 'b');
    server.freeze();
    const get = (): Promise<unknown> => one.link.run('get', (client) => client.get('k')).catch(() => undefined);
    await Promise.all([get(), get(), get()]);
    // With the circuit open nothing is sent: Redis never hears of the leases that are tried now.
    await one.presence.leave('k', 'b');
    await one.remote.renew();
    await one.remote.renew();
    one.rejoined.length = 0;
    server.thaw();
    await vi.waitUntil(() => one.rejoined.length > 0, RECOVERY);
    expect((await server.cli('zrange', 'session:{instances}', '0', '-1')).split('\n')).toHaveLength(1);
  });

  it('forgets a process that died, with its lease', async () => {
    const [one, two] = [open('one'), open('two')];
    await Promise.all([healthy(one), healthy(two)]);
    await one.presence.join('k', 'a');
    await two.presence.join('k', 'b');
    // Nothing of it reaches Redis any more.
    await one.link.close();
    expect(await ids(two.presence)).toEqual(['a', 'b']);
    await vi.waitFor(async () => expect(await ids(two.presence)).toEqual(['b']), { timeout: 10_000, interval: 100 });
    expect(await two.remote.peers()).toEqual(['two']);
    await vi.waitFor(async () => expect(await server.cli('zcard', 'session:board:{k}')).toBe('1'), RECOVERY);
  });

  it('never puts a password into an error', async () => {
    const told: unknown[] = [];
    const url = `redis://someone:hunter-two-secret@127.0.0.1:${server.port}`;
    const link = openRedisLink({ place: { kind: 'single', url }, name: 'x', onError: (error) => told.push(error) });
    ended.push(() => link.close());
    await vi.waitUntil(() => told.length > 0, RECOVERY);
    const failed = await link.run('get', (client) => client.get('k')).catch((error: unknown) => error);
    for (const error of [...told, failed]) {
      expect(hasCode(error, 'bus-unavailable')).toBe(true);
      expect(JSON.stringify([error, String(error)])).not.toContain('hunter-two-secret');
    }
  });

  it('does not take itself being held up for Redis being away', async () => {
    const { link } = open('one');
    await link.ready(10_000);
    const answers = Promise.all(Array.from({ length: 5 }, () => link.run('ping', (client) => client.ping())));
    const until = performance.now() + link.timeoutMs * 1.5;
    while (performance.now() < until);
    expect(await answers).toEqual(Array(5).fill('PONG'));
    expect(link.circuit()).toBe('closed');
  });

  it('tries again in time although the clock on the wall was set back', async () => {
    const { link } = open('one');
    await link.ready(10_000);
    await server.kill();
    const get = (): Promise<unknown> => link.run('get', (client) => client.get('k')).catch(() => undefined);
    await vi.waitUntil(async () => {
      await get();
      return link.circuit() === 'open';
    }, RECOVERY);
    const wall = vi.spyOn(Date, 'now').mockImplementation(() => 1_000_000);
    try {
      await server.restart().catch(() => undefined);
      await vi.waitUntil(() => link.circuit() === 'closed', RECOVERY);
    } finally {
      wall.mockRestore();
    }
  });

  it('passes on what Redis answers as an error, and does not count it as being away', async () => {
    const { link } = open('one');
    await link.ready(10_000);
    for (let n = 0; n < 10; n++) {
      const work = link.run('bad', (client) => client.call('lpush', 'k'));
      await expect(work).rejects.toMatchObject({ name: 'ReplyError' });
    }
    await expect(
      link.run('bad', async () => {
        throw new RangeError('mine');
      }),
    ).rejects.toThrow(RangeError);
    expect(link.circuit()).toBe('closed');
  });
});

describeWith(['redis'], 'a bus on several servers, of which one fails', () => {
  afterEach(async () => {
    for (const end of ended.splice(0).toReversed()) await end();
    expect(errors.splice(0)).toEqual([]);
  });

  it('behind Sentinels: goes on with the new master, with everybody joined anew', async () => {
    const { master, addresses, name, stop } = await startRedisSentinel();
    ended.push(stop);
    const one = open('one', { kind: 'sentinel', sentinels: addresses, name });
    await healthy(one);
    await one.presence.join('k', 'a');
    master.freeze();
    ended.push(async () => master.thaw());
    const writes = async (): Promise<void> => {
      await one.link.run('set', (client) => client.set('written', '1'));
      expect(await ids(one.remote)).toEqual(['a']);
    };
    await vi.waitFor(writes, RECOVERY);
    expect((await one.limiter.take('k', { ratePerSecond: 1, burst: 2 })).allowed).toBe(true);
  });

  it('in a Cluster: answers although a node is frozen, and is whole once it wakes', async () => {
    const { nodes, addresses, stop } = await startRedisCluster();
    ended.push(stop);
    const one = open('one', { kind: 'cluster', nodes: addresses });
    await healthy(one);
    const take = async (n: number): Promise<BucketAnswer> => one.limiter.take(`k${n}`, { ratePerSecond: 1, burst: 9 });
    nodes[0]?.freeze();
    ended.push(async () => nodes[0]?.thaw());
    await Promise.all(Array.from({ length: 60 }, (_, n) => take(n)));
    expect(one.fellBack).toContain('limiter');
    nodes[0]?.thaw();
    const whole = async (): Promise<void> => {
      one.fellBack.length = 0;
      await Promise.all(Array.from({ length: 60 }, (_, n) => take(n)));
      expect(one.fellBack).toEqual([]);
      expect(one.link.circuit()).toBe('closed');
    };
    await vi.waitFor(whole, { timeout: 30_000, interval: 1500 });
  });
});
