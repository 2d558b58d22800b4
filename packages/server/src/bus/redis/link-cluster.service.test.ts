import { describeWith } from '@tocsin/testkit/needs';
import { type RedisCluster, startRedisCluster } from '@tocsin/testkit/redis-server';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasCode } from '../../lib/coded-error.ts';
import { openRedisLink, type RedisLink } from './link.ts';

describeWith(['redis'], 'a link to a Redis Cluster that lacks slots', () => {
  let cluster: RedisCluster;
  let link: RedisLink;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    link = openRedisLink({
      place: { kind: 'cluster', nodes: cluster.addresses },
      name: 'test',
      onError: () => undefined,
    });
    expect(await link.ready(10_000)).toBe(true);
  });
  afterAll(async () => {
    await link?.close();
    await cluster?.stop();
  });

  test('its circuit stays open, though nodes answer PING, until every slot is served again', async () => {
    const [victim, living] = cluster.nodes;
    if (victim === undefined || living === undefined) throw new Error('too few nodes');
    let serial = 0;
    const one = (): Promise<string> =>
      link.run('get', async (client) => {
        serial += 1;
        await client.get(`key-${serial}`);
        return 'answered';
      });
    const outcome = (): Promise<string> =>
      one().catch((error) => (hasCode(error, 'bus-unavailable') ? 'away' : 'other'));
    expect(await outcome()).toBe('answered');

    await victim.kill();
    await expect.poll(() => living.cli('cluster', 'info'), { timeout: 10_000 }).toContain('cluster_state:fail');
    await expect.poll(() => outcome().then(() => link.circuit()), { timeout: 10_000 }).toBe('open');
    const seen = new Set<string>();
    link.onCircuit((circuit) => seen.add(circuit));
    await expect.poll(() => seen.has('half-open'), { timeout: 10_000 }).toBe(true);
    await expect.poll(() => link.circuit(), { timeout: 5000 }).toBe('open');
    expect([await living.cli('ping'), [...seen].includes('closed')]).toEqual(['PONG', false]);

    await victim.restart();
    await expect.poll(() => link.circuit(), { timeout: 15_000 }).toBe('closed');
    await expect.poll(outcome, { timeout: 5000 }).toBe('answered');
  });
});
