import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClusterNode, type ProcessCluster, startProcessCluster } from './cluster-processes.ts';
import { call } from './device.ts';
import { describeWith } from './needs.ts';

const PASSWORD = 'a-secret-of-redis';

describeWith(['redis', 'postgres15-postgis'], 'a cluster of real processes', () => {
  let cluster: ProcessCluster;
  beforeAll(async () => {
    const redisArgs = ['--requirepass', PASSWORD];
    cluster = await startProcessCluster({ gateways: 2, workers: 0, redis: 'single', redisArgs });
  });
  afterAll(() => cluster?.stop());

  const status = async ({ base }: ClusterNode): Promise<number> =>
    (await call(`${base}/health/ready`, { timeoutMs: 5000 })).status;

  test('the link of one node is cut and healed alone', async () => {
    const [first, second] = cluster.gateways();
    if (first === undefined || second === undefined) throw new Error('too few gateways');
    first.links.postgres.cut();
    await expect.poll(() => status(first), { timeout: 10_000 }).toBe(503);
    expect(await status(second)).toBe(200);
    first.links.postgres.heal();
    await expect.poll(() => status(first), { timeout: 10_000 }).toBe(200);
  });

  test('a node is added, killed, restarted on its port, and ended with 0', async () => {
    const node = await cluster.add('gateway');
    expect(cluster.gateways().map(({ name }) => name)).toEqual(['gateway-0', 'gateway-1', 'gateway-2']);
    await node.kill();
    await expect(status(node)).rejects.toThrow();
    await node.restart();
    expect(await status(node)).toBe(200);
    expect(await node.end()).toBe(0);
  });

  test('no node tells a password, whatever is away', async () => {
    const before = cluster.output().length;
    cluster.postgres.freeze();
    for (const { links } of cluster.nodes()) links.redis?.cut();
    await expect.poll(() => cluster.output().length, { timeout: 15_000 }).toBeGreaterThan(before);
    for (const { links } of cluster.nodes()) links.postgres.cut();
    cluster.postgres.thaw();
    const cut = cluster.output().length;
    await expect.poll(() => cluster.output().length, { timeout: 15_000 }).toBeGreaterThan(cut);
    const secrets = [PASSWORD, new URL(cluster.postgres.url).password];
    expect(secrets.filter((secret) => cluster.output().includes(secret))).toEqual([]);
  });
});
