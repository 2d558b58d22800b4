import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { call, post, type ScriptedDevice } from './device.ts';
import { registerFleet } from './fleet.ts';
import { describeWith } from './needs.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { connectViewer } from './viewer.ts';

const SENSORS = 5;

describeWith(['redis'], 'a cluster in one process', () => {
  let redis: RedisServer;
  let cluster: TestCluster;
  let fleet: ScriptedDevice[];
  beforeAll(async () => {
    redis = await startRedis();
    const environment = { SWARM_SENSORS: String(SENSORS), WS_MAX_CONNECTIONS_PER_USER: '4' };
    cluster = await startTestCluster({ gateways: 2, workers: 2, redis, environment });
    const base = cluster.gateways[0]?.address ?? '';
    fleet = (await registerFleet(base, cluster.token, { name: 'c', zones: 1, perZone: SENSORS })).flat();
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
  });

  test('what is posted to one gateway is seen by viewers of both, once, and counted by both', async () => {
    const bases = cluster.gateways.map(({ address }) => address);
    const viewers = await Promise.all(
      bases.map((base) => connectViewer(`${base.replace('http', 'ws')}/ws/alerts`, { token: cluster.token })),
    );
    const at = Date.now();
    for (const device of fleet) {
      const answer = await post(bases[1] ?? '', cluster.apiKey, device.seal('e1', { readings: [{ at, value: 7 }] }));
      expect(answer.status).toBe(202);
    }
    for (const viewer of viewers) {
      await viewer.until(({ type }) => type === 'alert');
      expect(viewer.channel().map(({ type }) => type)).toEqual(['alert']);
      await viewer.close();
    }
    const headers = { authorization: `Bearer ${cluster.token}` };
    for (const base of bases) {
      const count = async (): Promise<unknown> =>
        (await call(`${base}/v1/zones/c-0/statistics`, { headers })).body?.['count'];
      await expect.poll(count).toBe(SENSORS);
    }
  });

  test('an id that one gateway has accepted is a replay at the other', async () => {
    const [first = '', second = ''] = cluster.gateways.map(({ address }) => address);
    const [device] = fleet;
    if (device === undefined) throw new Error('no device');
    const content = { readings: [{ at: Date.now() - 61_000, value: 1 }] };
    expect((await post(first, cluster.apiKey, device.seal('e2', content))).status).toBe(202);
    const again = await post(second, cluster.apiKey, device.seal('e2', content));
    expect([again.status, again.body?.['code']]).toEqual([409, 'replay']);
  });

  test('a worker does not take readings', async () => {
    const [device] = fleet;
    const jws = device?.seal('e3', { readings: [{ at: Date.now(), value: 1 }] }) ?? '';
    expect((await post(cluster.workers[0]?.address ?? '', cluster.apiKey, jws)).status).toBe(404);
  });

  test('an added gateway serves at once', async () => {
    const added = await cluster.add('gateway');
    const answer = await call(`${added.address}/v1/alerts`, { headers: { authorization: `Bearer ${cluster.token}` } });
    expect(answer.body?.['items']).toHaveLength(1);
  });
});
