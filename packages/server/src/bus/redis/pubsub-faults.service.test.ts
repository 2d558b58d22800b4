import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { startProxy } from '@tocsin/testkit/proxy';
import {
  type RedisCluster,
  type RedisServer,
  startRedis,
  startRedisCluster,
  startRedisSentinel,
} from '@tocsin/testkit/redis-server';
import { afterEach, expect, it, vi } from 'vitest';
import type { RedisPlace } from './place.ts';
import { PROBE_TIMES } from './probe.ts';
import { type BusProcess, hear, type ProcessOptions, startBusProcess, untilFlows } from './pubsub-process.suite.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function processOn(place: RedisPlace, more: ProcessOptions = {}): Promise<BusProcess> {
  const one = await startBusProcess(place, more);
  ends.push(() => one.close());
  await one.link.ready(5000);
  return one;
}

async function singleServer(): Promise<{ redis: RedisServer; place: RedisPlace }> {
  const redis = await startRedis();
  ends.push(redis.stop);
  return { redis, place: { kind: 'single', url: redis.url } };
}

async function threeNodes(): Promise<{ cluster: RedisCluster; place: RedisPlace }> {
  const cluster = await startRedisCluster();
  ends.push(cluster.stop);
  return { cluster, place: { kind: 'cluster', nodes: cluster.addresses } };
}

const healthy = (one: BusProcess, timeout = 20_000): Promise<void> =>
  vi.waitFor(() => expect(one.pubsub.healthy()).toBe(true), { timeout });
const unhealthy = (one: BusProcess, timeout = 20_000): Promise<void> =>
  vi.waitFor(() => expect(one.pubsub.healthy()).toBe(false), { timeout });

/** Passes bytes on, until present connections are made deaf: what Redis says on them gets lost, new ones pass. */
async function deafener(port: number): Promise<{ port: number; deafen(): number; stop(): void }> {
  const pairs: [Socket, Socket][] = [];
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    pairs.push([client, upstream]);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.pipe(to);
      from.on('error', () => to.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    deafen() {
      for (const [client, upstream] of pairs) {
        upstream.unpipe(client);
        upstream.resume();
      }
      return pairs.splice(0).length;
    },
    stop() {
      server.close();
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
  };
}

/** Topics that lie on different nodes, one for each: [node, topic]. */
async function topicOnEach({ nodes }: RedisCluster): Promise<[RedisServer, string][]> {
  const found: [RedisServer, string][] = [];
  for (const node of nodes) {
    for (let n = 0; ; n++) {
      const answer = await node.cli('spublish', `bus:{t${n}}`, 'junk');
      if (!/MOVED/.test(answer)) {
        found.push([node, `t${n}`]);
        break;
      }
    }
  }
  return found;
}

describeWith(['redis'], 'publish-subscribe when something fails on one server', () => {
  it('flows again after every subscriber was killed', async () => {
    const { redis, place } = await singleServer();
    const [one, two] = [await processOn(place), await processOn(place)];
    const heard = [await hear(one, 'a'), await hear(two, 'a'), await hear(one, 'b'), await hear(two, 'b')];
    for (let n = 0; n < 3; n++) {
      await healthy(one);
      expect(Number(await redis.cli('client', 'kill', 'type', 'pubsub'))).toBe(2);
      await untilFlows(one, 'a', heard.slice(0, 2));
      await untilFlows(two, 'b', heard.slice(2));
    }
    await healthy(one);
    await healthy(two);
    expect([one.remade, two.remade]).toEqual([[], []]);
  });

  it('goes on by itself after a freeze of 3 s and one of 12 s; own messages never wait', async () => {
    const { redis, place } = await singleServer();
    const times = PROBE_TIMES;
    const [one, two] = [await processOn(place, { times }), await processOn(place, { times })];
    const heard = [await hear(one, 't'), await hear(two, 't')] as const;
    await healthy(one);
    for (const [seconds, stays] of [
      [3, true],
      [12, false],
    ] as const) {
      redis.freeze();
      const own = one.pubsub.publish('t', `own${seconds}`);
      await Promise.resolve().then(() => undefined);
      expect(heard[0]).toContain(`own${seconds}`);
      await expect(own).rejects.toMatchObject({ code: 'bus-unavailable' });
      await pause(seconds * 1000);
      expect(one.pubsub.healthy()).toBe(stays);
      expect(one.pubsub.lagMs()).toBeGreaterThan(seconds * 1000);
      redis.thaw();
      await untilFlows(one, 't', [...heard]);
      await untilFlows(two, 't', [...heard]);
      await healthy(one);
    }
  });

  it('finds its way back when the server was killed and started again; who subscribes meanwhile does not wait', async () => {
    const { redis, place } = await singleServer();
    const [one, two] = [await processOn(place), await processOn(place)];
    const before = [await hear(one, 'before'), await hear(two, 'before')];
    await healthy(one);
    await redis.kill();
    await vi.waitFor(() => expect(one.pubsub.publish('x', '')).rejects.toMatchObject({ code: 'bus-unavailable' }));
    const meanwhile = [await hear(one, 'meanwhile'), await hear(two, 'meanwhile')];
    await expect(one.pubsub.publish('meanwhile', 'own')).rejects.toMatchObject({ code: 'bus-unavailable' });
    expect(meanwhile).toEqual([['own'], []]);
    await unhealthy(one);
    await redis.restart();
    await untilFlows(one, 'meanwhile', meanwhile);
    await untilFlows(two, 'before', before);
    await healthy(one);
  });

  it('works from the moment on that a server is there, when there was none at the start', async () => {
    const { redis, place } = await singleServer();
    await redis.kill();
    const [one, two] = [await startBusProcess(place), await startBusProcess(place)];
    ends.push(
      () => one.close(),
      () => two.close(),
    );
    const heard = [await hear(one, 't'), await hear(two, 't')];
    expect(one.pubsub.healthy()).toBe(false);
    await redis.restart();
    await untilFlows(one, 't', heard);
    await untilFlows(two, 't', heard);
    await healthy(one);
  });

  it('finds a connection that is open but deaf within 10 s, and repairs it', async () => {
    const { redis, place } = await singleServer();
    const way = await deafener(redis.port);
    ends.push(way.stop);
    const hearing: RedisPlace = { kind: 'single', url: `redis://127.0.0.1:${way.port}` };
    const one = await processOn(place, { hearing, times: PROBE_TIMES });
    const two = await processOn(place);
    const heard = await hear(one, 't');
    await untilFlows(two, 't', [heard]);
    await healthy(one);
    expect(way.deafen()).toBeGreaterThan(0);
    await vi.waitFor(() => expect(one.remade).toHaveLength(1), { timeout: 10_000 });
    expect(one.remade[0]).toContain('t');
    await untilFlows(two, 't', [heard]);
    await healthy(one);
  });

  it('comes back after its link swallowed everything, and after it was cut', async () => {
    const { redis, place } = await singleServer();
    const proxy = await startProxy({ port: redis.port });
    ends.push(proxy.stop);
    const one = await processOn({ kind: 'single', url: proxy.urlFor(redis.url) });
    const two = await processOn(place);
    const heard = [await hear(one, 't'), await hear(two, 't')];
    await healthy(one);
    for (const fault of [proxy.halfOpen, proxy.cut]) {
      fault();
      await unhealthy(one);
      await expect(one.pubsub.publish('t', 'x')).rejects.toMatchObject({ code: 'bus-unavailable' });
      proxy.heal();
      await untilFlows(one, 't', heard);
      await untilFlows(two, 't', heard);
      await healthy(one);
    }
    expect(two.remade).toEqual([]);
  });
});

describeWith(['redis'], 'publish-subscribe when something fails behind Sentinel', () => {
  it('flows again through the new master after a failover', async () => {
    const sentinel = await startRedisSentinel();
    ends.push(sentinel.stop);
    const place: RedisPlace = { kind: 'sentinel', sentinels: sentinel.addresses, name: sentinel.name };
    const [one, two] = [await processOn(place), await processOn(place)];
    const heard = [await hear(one, 't'), await hear(two, 't')];
    await untilFlows(one, 't', heard);
    await sentinel.master.kill();
    await untilFlows(one, 't', heard, 40_000);
    await untilFlows(two, 't', heard);
    await healthy(one);
    await healthy(two);
    expect(await sentinel.replica.cli('pubsub', 'channels')).toContain('bus:{t}');
  });

  it('leaves a master that is frozen for the new one, and stays there when it wakes', async () => {
    const sentinel = await startRedisSentinel();
    ends.push(sentinel.stop);
    const place: RedisPlace = { kind: 'sentinel', sentinels: sentinel.addresses, name: sentinel.name };
    const [one, two] = [await processOn(place), await processOn(place)];
    const heard = [await hear(one, 't'), await hear(two, 't')];
    await untilFlows(one, 't', heard);
    sentinel.master.freeze();
    await vi.waitFor(
      async () => expect(await sentinel.replica.cli('info', 'replication')).toContain('role:master'),
      20_000,
    );
    await untilFlows(one, 't', heard);
    await untilFlows(two, 't', heard);
    await healthy(one);
    sentinel.master.thaw();
    await vi.waitFor(
      async () => expect(await sentinel.master.cli('info', 'replication')).toContain('role:slave'),
      20_000,
    );
    await untilFlows(two, 't', heard);
    await healthy(one);
    await healthy(two);
  });
});

describeWith(['redis'], 'publish-subscribe when something fails in a Cluster', () => {
  it('flows again on every shard after subscribers were killed', async () => {
    const { cluster, place } = await threeNodes();
    const [one, two] = [await processOn(place), await processOn(place)];
    const topics = await topicOnEach(cluster);
    const heard = new Map<string, string[][]>();
    for (const [, topic] of topics) heard.set(topic, [await hear(one, topic), await hear(two, topic)]);
    await healthy(one);
    for (const [node, topic] of topics) {
      expect(Number(await node.cli('client', 'kill', 'type', 'pubsub'))).toBeGreaterThan(0);
      await untilFlows(one, topic, heard.get(topic) ?? []);
    }
    for (const [, topic] of topics) await untilFlows(two, topic, heard.get(topic) ?? []);
    await healthy(one);
    await healthy(two);
  });

  it('follows a slot that moves to another node', async () => {
    const { cluster, place } = await threeNodes();
    const [one, two] = [await processOn(place), await processOn(place)];
    const [[from, topic], [to]] = (await topicOnEach(cluster)) as [[RedisServer, string], [RedisServer, string]];
    const heard = [await hear(one, topic), await hear(two, topic)];
    await untilFlows(one, topic, heard);
    const slot = await from.cli('cluster', 'keyslot', `bus:{${topic}}`);
    const [fromId, toId] = [await from.cli('cluster', 'myid'), await to.cli('cluster', 'myid')];
    await to.cli('cluster', 'setslot', slot, 'importing', fromId);
    await from.cli('cluster', 'setslot', slot, 'migrating', toId);
    for (const node of [to, ...cluster.nodes.filter((each) => each !== to)]) {
      await node.cli('cluster', 'setslot', slot, 'node', toId);
    }
    await untilFlows(one, topic, heard);
    await untilFlows(two, topic, heard);
    expect(await to.cli('pubsub', 'shardchannels')).toContain(`bus:{${topic}}`);
    await healthy(one);
  });

  it('says that it is not healthy while a master without a replica is gone, and comes back with it', async () => {
    const { cluster, place } = await threeNodes();
    const [one, two] = [await processOn(place), await processOn(place)];
    const topics = await topicOnEach(cluster);
    const heard = new Map<string, string[][]>();
    for (const [, topic] of topics) heard.set(topic, [await hear(one, topic), await hear(two, topic)]);
    await healthy(one);
    const [[node, lost]] = topics as [[RedisServer, string]];
    await node.kill();
    await unhealthy(one);
    const own = one.pubsub.publish(lost, 'own');
    await Promise.resolve().then(() => undefined);
    expect(heard.get(lost)?.[0]).toContain('own');
    await expect(own).rejects.toMatchObject({ code: 'bus-unavailable' });
    await node.restart();
    for (const [, topic] of topics) {
      await untilFlows(one, topic, heard.get(topic) ?? [], 40_000);
      await untilFlows(two, topic, heard.get(topic) ?? []);
    }
    await healthy(one);
    await healthy(two);
  });
});
