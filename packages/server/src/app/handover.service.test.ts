import { startTestCluster, type TestCluster } from '@tocsin/testkit/cluster-app';
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis } from '@tocsin/testkit/redis-server';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDatabase } from '../store/pool.ts';
import type { Database } from '../store/ports/database.ts';

describeWith(['redis'], 'partitions when workers start and end', () => {
  let redis: RedisServer;
  let cluster: TestCluster;
  let db: Database;
  beforeAll(async () => {
    redis = await startRedis();
    cluster = await startTestCluster({ gateways: 1, workers: 1, redis });
    db = openDatabase(cluster.databaseUrl, { maxConnections: 1 });
  });
  afterAll(async () => {
    await db?.close();
    await cluster?.stop();
    await redis?.stop();
  });

  /** Partitions of each living owner, the smallest first. */
  const owned = async (): Promise<number[]> => {
    const rows = await db.query<{ n: number }>(
      'SELECT count(*) AS n FROM log_positions WHERE lease_until >= now_ms() GROUP BY owner ORDER BY 1',
    );
    return rows.map(({ n }) => n);
  };
  const settle = (shares: readonly number[]): Promise<void> =>
    expect.poll(owned, { timeout: 10_000 }).toEqual(shares) as unknown as Promise<void>;

  test('a worker whose start fails takes none from those that work', async () => {
    await settle([16]);
    const seen: number[][] = [];
    const watch = setInterval(() => void owned().then((shares) => seen.push(shares)), 20);
    const taken = new URL(cluster.workers[0]?.address ?? '').port;
    // Longer than the time in which the others hear of it.
    for (const until = performance.now() + 2500; performance.now() < until; )
      await expect(cluster.add('worker', { PORT: taken })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    clearInterval(watch);
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.filter((shares) => shares.length !== 1 || shares[0] !== 16)).toEqual([]);
  });

  test('a second worker gets its share, and gives it back when it ends', async () => {
    const added = await cluster.add('worker');
    await settle([8, 8]);
    await added.stop();
    await settle([16]);
  });
});
