import { describeWith } from '@tocsin/testkit/needs';
import { type RedisCluster, type RedisServer, startRedis, startRedisCluster } from '@tocsin/testkit/redis-server';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { frame, logContract, sample } from '../../store/postgres/log.suite.ts';
import { checkLogRedis } from './log-check.ts';
import { KEEPING, keep, openTestLog, type TestLog } from './log-test-place.suite.ts';

describeWith(['redis'], 'the log on Redis Streams', () => {
  let server: RedisServer;
  let open: TestLog | undefined;
  beforeAll(async () => {
    server = await startRedis({ args: KEEPING });
  });
  afterAll(() => server?.stop());
  afterEach(async () => {
    await open?.close();
    open = undefined;
    await server.cli('flushall');
  });
  const fresh = async (): Promise<TestLog> => {
    open = await openTestLog({ kind: 'single', url: server.url });
    return open;
  };
  logContract(fresh);

  test('findings never go to a partition of devices, envelopes never to another', async () => {
    const { log, db } = await fresh();
    const finding = { partition: 3, kind: 'finding', receivedAt: 1, key: 'k', traceparent: null, body: '[]' } as const;
    await expect(log.appendKeyed(db, [finding])).rejects.toThrow('only ticks');
    await expect(log.append([sample('a', '1', 15)])).rejects.toThrow('none of devices');
  });

  test('ids are known for seven days after their own, also by a clock that is ahead, and expire by themselves', async () => {
    const { log } = await fresh();
    const day = 86_400_000;
    const noon = 1_700_000_000_000;
    await log.append([{ ...sample('a', '1'), receivedAt: noon }]);
    for (const later of [7 * day, -day, 60_000])
      expect(await log.append([{ ...sample('a', '1'), receivedAt: noon + later }])).toEqual(['replay']);
    const seconds = Number(await server.cli('ttl', 'sig:{3}:ids:2023-11-14'));
    expect(seconds).toBeGreaterThan(8 * 86_400);
    expect(seconds).toBeLessThanOrEqual(9 * 86_400);
  });

  test('frames are known for an hour after their own, also by a clock that is ahead, and expire by themselves', async () => {
    const { log } = await fresh();
    const minute = 60_000;
    const end = 1_700_001_000_000 - (1_700_001_000_000 % (30 * minute)) + 29 * minute;
    await log.append([{ ...frame('a', '1'), receivedAt: end }]);
    for (const later of [60, -29, 0, 31])
      expect(await log.append([{ ...frame('a', '1'), receivedAt: end + later * minute }])).toEqual(['replay']);
    const [key = ''] = (await server.cli('keys', 'sig:{3}:frames:*')).split('\n');
    expect(key).toMatch(/^sig:\{3\}:frames:2023-11-14T22:30$/);
    const seconds = Number(await server.cli('ttl', key));
    expect(seconds).toBeGreaterThan(5400);
    expect(seconds).toBeLessThanOrEqual(5700);
    expect(await server.cli('keys', 'sig:{3}:ids:*')).toBe('');
  });

  test('one batch over midnight keeps each id in the hash of its day', async () => {
    const { log } = await fresh();
    const midnight = 19_675 * 86_400_000;
    const outcomes = await log.append([
      { ...sample('a', '1'), receivedAt: midnight - 1 },
      { ...sample('a', '2'), receivedAt: midnight },
      { ...sample('a', '1'), receivedAt: midnight + 1 },
    ]);
    expect(outcomes.filter((outcome) => outcome === 'accepted')).toHaveLength(2);
    expect(await server.cli('keys', 'sig:{3}:ids:*')).toContain('sig:{3}:ids:2023-11-13');
    expect(await server.cli('hlen', 'sig:{3}:ids:2023-11-14')).toBe('1');
  });

  test('Redis’ own tools show how far workers are behind', async () => {
    const { log, db } = await fresh();
    await log.append(Array.from({ length: 7 }, (_, i) => sample('a', `${i}`)));
    const wanted = { among: [3], most: 1, ttlMs: 60_000, seize: false };
    const [lease] = await log.acquire('me', wanted);
    if (lease === undefined) throw new Error('no lease');
    await log.advance(db, [{ lease, position: lease.position + 5 }]);
    expect((await log.state())[3]?.head).toBe(7);
    await log.trim();
    await log.append([sample('a', 'more')]);
    const groups = (await server.cli('xinfo', 'groups', 'sig:{3}:records')).split('\n');
    expect(groups[groups.indexOf('name') + 1]).toBe('workers');
    expect(groups[groups.indexOf('last-delivered-id') + 1]).toBe('5-0');
    expect(groups[groups.indexOf('lag') + 1]).toBe('3');
    expect(await log.trim()).toBe(0);
  });
});

describeWith(['redis'], 'the log on a Redis Cluster of three', () => {
  let cluster: RedisCluster;
  let open: TestLog | undefined;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    await keep(cluster.nodes);
  });
  afterAll(() => cluster?.stop());
  afterEach(async () => {
    await open?.close();
    open = undefined;
    for (const node of cluster.nodes) await node.cli('flushall');
  });
  logContract(async () => {
    open = await openTestLog({ kind: 'cluster', nodes: cluster.addresses });
    return open;
  });

  test('the partitions lie on all three', async () => {
    open = await openTestLog({ kind: 'cluster', nodes: cluster.addresses });
    await open.log.append(Array.from({ length: 12 }, (_, i) => sample(`d${i}`, '1', i)));
    for (const node of cluster.nodes) expect(Number(await node.cli('dbsize'))).toBeGreaterThan(0);
  });

  test('the check asks every master', async () => {
    open = await openTestLog({ kind: 'cluster', nodes: cluster.addresses });
    await checkLogRedis(open.link);
    await cluster.nodes[1]?.cli('config', 'set', 'appendonly', 'no');
    try {
      await expect(checkLogRedis(open.link)).rejects.toMatchObject({ code: 'log-redis-unsuitable' });
    } finally {
      await keep(cluster.nodes);
    }
  });
});
