/** The live state of hosts over several instances, and what becomes of it when their bus is away. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { createHosts, type Hosts } from './hosts.ts';
import { describeWith } from './needs.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { connectViewer, type ScriptedViewer } from './viewer.ts';

type Picture = Record<string, Record<string, unknown>>;

describeWith(['redis'], 'the live state of several instances', () => {
  let redis: RedisServer;
  let cluster: TestCluster;
  let hosts: Hosts;
  /** The gateway that the next envelope goes to. */
  let via = 0;
  const viewers: ScriptedViewer[] = [];
  beforeAll(async () => {
    redis = await startRedis();
    const environment = {
      ...{ WS_MAX_CONNECTIONS_PER_USER: '100', WS_RECONNECTS_PER_MINUTE: '10000', PRUNE_SECONDS: '3600' },
      ...{ RATE_LIMIT_PER_KEY: '10000', RATE_LIMIT_PER_DEVICE: '10000', WS_WATERMARK_SECONDS: '0.5' },
    };
    cluster = await startTestCluster({ gateways: 2, workers: 1, redis, environment });
    hosts = createHosts(() => cluster.gateways[via]?.address ?? '', cluster.apiKey, cluster.token);
  });
  afterEach(() => {
    for (const viewer of viewers.splice(0)) viewer.cut();
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
  });
  const watch = async (gateway: number): Promise<ScriptedViewer> => {
    const base = cluster.gateways[gateway]?.address.replace('http', 'ws') ?? '';
    const viewer = await connectViewer(`${base}/ws/devices`, { token: cluster.token });
    viewers.push(viewer);
    return viewer;
  };
  const send = (gateway: number, id: string, cpu: number): Promise<void> => {
    via = gateway;
    return hosts.send(id, { at: Date.now(), cpu_percent: cpu });
  };
  /** What a newcomer is shown. */
  const picture = async (gateway: number): Promise<Picture> => {
    const viewer = await watch(gateway);
    const { data } = await viewer.until(({ type }) => type === 'snapshot');
    await viewer.close();
    return data as Picture;
  };
  /** What one who watches shows: the latest of each device. */
  const shown = (viewer: ScriptedViewer): Record<string, unknown> =>
    Object.fromEntries(
      viewer.messages
        .filter(({ type }) => type === 'snapshot' || type === 'metrics')
        .flatMap(({ data }) => Object.entries(data as Picture).map(([id, frame]) => [id, frame['cpu_percent']])),
    );

  test('a frame that one takes is seen at both, one device for each message, and by who comes later', async () => {
    const both = [await watch(0), await watch(1)];
    await send(0, 'a', 10);
    await send(1, 'b', 20);
    for (const viewer of both) {
      await expect.poll(() => shown(viewer)).toEqual({ a: 10, b: 20 });
      const metrics = viewer.messages.filter(({ type }) => type === 'metrics');
      expect(metrics.map(({ data }) => Object.keys(data as Picture).length)).toEqual([1, 1]);
    }
    expect(await picture(0)).toEqual(await picture(1));
    // The one that comes to the cluster late is shown the same, before anything is said.
    const late = await cluster.add('gateway');
    const viewer = await connectViewer(`${late.address.replace('http', 'ws')}/ws/devices`, { token: cluster.token });
    viewers.push(viewer);
    expect((await viewer.until(({ type }) => type === 'snapshot')).data).toEqual(await picture(0));
  });

  test('with Redis gone both go on by way of the store, and with Redis back their boards are equal', async () => {
    const both = [await watch(0), await watch(1)];
    await redis.kill();
    await send(0, 'a', 11);
    await send(0, 'c', 12);
    await send(1, 'd', 13);
    for (const viewer of both) {
      await expect.poll(() => shown(viewer), { timeout: 15_000 }).toMatchObject({ a: 11, c: 12, d: 13 });
    }
    await redis.restart();
    await send(1, 'b', 21);
    await send(0, 'a', 31);
    for (const viewer of both) {
      await expect.poll(() => shown(viewer), { timeout: 15_000 }).toEqual({ a: 31, b: 21, c: 12, d: 13 });
    }
    expect(await picture(0)).toEqual(await picture(1));
    expect(both.map(({ faults }) => faults)).toEqual([[], []]);
  });

  test('garbage on the topic of the bus changes nothing and ends nothing', async () => {
    const viewer = await watch(0);
    for (const text of ['', 'garbage', 'live-1 x 1 []', '{"a":1}']) await redis.cli('PUBLISH', 'bus:{live}', text);
    await send(1, 'a', 41);
    await expect.poll(() => shown(viewer)['a']).toBe(41);
  });
});
