/** `system.connection-spike`: handshakes of real sockets at several gateways, one alert for the installation. */
import { setTimeout as pause } from 'node:timers/promises';
import type { ConnectionCount, SpikeState } from '@tocsin/server/detectors/connection-spike';
import { partitionOf } from '@tocsin/server/lib/partition';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { createLog } from '@tocsin/server/store/postgres/log';
import { afterEach, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { call } from './device.ts';
import { describeWith } from './needs.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { settled } from './settled.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer } from './viewer.ts';

const WINDOW_MS = 10_000;
const KEY = 'system:connections';
/** A window ends, its counts are appended and worked off, ms. */
const PATIENCE_MS = 25_000;

describeWith(['redis'], 'a connection spike', () => {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  interface Setting {
    readonly redis: RedisServer;
    readonly cluster: TestCluster;
    readonly db: Database;
    readonly urls: readonly string[];
  }

  /** Two gateways and two workers that have seen ten minutes of five connects each ten seconds. */
  async function start(environment: Readonly<Record<string, string>> = {}): Promise<Setting> {
    const redis = await startRedis({ args: ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'] });
    ends.push(() => redis.stop());
    const common = { WS_PUBLIC_ALERTS: 'true', WS_MAX_CONNECTIONS_PER_IP: '5000', ...environment };
    const cluster = await startTestCluster({ gateways: 2, workers: 2, redis, environment: common });
    ends.push(() => cluster.stop());
    const db = openDatabase(cluster.databaseUrl, { applicationName: 'spike' });
    ends.push(() => db.close());
    const log = createLog(db);
    const last = Math.floor(Date.now() / WINDOW_MS) - 1;
    const counts = Array.from({ length: 60 }, (_, n): ConnectionCount => {
      const windowStart = (last - 59 + n) * WINDOW_MS;
      return { instance: 'past', sequence: n + 1, windowStart, opened: 5, refused: 0, released: 0 };
    });
    await log.appendKeyed(
      db,
      counts.map((count) => ({
        partition: partitionOf(KEY, log.partitions),
        ...{ kind: 'finding', key: KEY, traceparent: null, receivedAt: count.windowStart + WINDOW_MS },
        body: JSON.stringify([count]),
      })),
    );
    await settled(db);
    const urls = cluster.gateways.map(({ address }) => `${address.replace('http', 'ws')}/ws/alerts`);
    return { redis, cluster, db, urls };
  }

  async function alerts({ cluster }: Setting): Promise<Record<string, unknown>[]> {
    const base = cluster.gateways[1]?.address ?? '';
    const headers = { authorization: `Bearer ${cluster.token}` };
    const { body } = await call(`${base}/v1/alerts?kind=system.connection-spike`, { headers });
    return body?.['items'] as Record<string, unknown>[];
  }

  async function stateOf(db: Database): Promise<SpikeState> {
    const [row] = await db.query<{ state: string | SpikeState }>(
      `SELECT state FROM detector_states WHERE detector = 'connection-spike' AND key = $1`,
      [KEY],
    );
    if (row === undefined) throw new Error('no state');
    return typeof row.state === 'string' ? (JSON.parse(row.state) as SpikeState) : row.state;
  }

  /** Until a window has so much left that what follows surely falls into it. */
  async function earlyInWindow(): Promise<void> {
    const into = Date.now() % WINDOW_MS;
    if (into > WINDOW_MS / 2) await pause(WINDOW_MS - into + 100);
  }

  async function nextWindow(number: number): Promise<void> {
    while (Math.floor(Date.now() / WINDOW_MS) === number) await pause(100);
  }

  async function open(url: string, connections: number): Promise<ScriptedViewer[]> {
    const viewers = await Promise.all(Array.from({ length: connections }, () => connectViewer(url)));
    ends.push(async () => viewers.forEach((viewer) => viewer.cut()));
    return viewers;
  }

  async function knock(url: string, times: number): Promise<void> {
    const attempts = Array.from({ length: times }, () => connectViewer(url, { token: 'wrong' }));
    for (const attempt of await Promise.allSettled(attempts)) {
      expect(attempt.status === 'rejected' && attempt.reason).toBeInstanceOf(HandshakeRefused);
    }
  }

  test.each(['store', 'redis'])(
    'that no gateway has seen alone is one alert, which viewers see (log in the %s)',
    { timeout: 90_000 },
    async (backend) => {
      const setting = await start({ LOG_BACKEND: backend });
      const [one = '', other = ''] = setting.urls;
      const viewer = await connectViewer(other, { token: setting.cluster.token });
      ends.push(async () => viewer.cut());
      for (let flood = 0; flood < 2; flood += 1) {
        await earlyInWindow();
        const before = await stateOf(setting.db);
        await Promise.all([open(one, 60), open(other, 60), knock(one, 30), knock(other, 30)]);
        await expect
          .poll(async () => (await stateOf(setting.db)).windows.at(-1), { timeout: PATIENCE_MS, interval: 100 })
          .toSatisfy(
            ({ number, instances } = { number: 0, instances: 0 }) => number > before.newest && instances === 2,
          );
      }
      await settled(setting.db);
      const message = await viewer.until(({ type }) => type === 'alert');
      expect(message.data).toMatchObject({
        ...{ kind: 'system.connection-spike', severity: 'moderate', status: 'actual', state: 'open', revision: 1 },
        ...{ zoneId: null, deviceId: null, latitude: null, longitude: null },
      });
      const { onset, evidence } = message.data as { onset: number; evidence: Record<string, number> };
      expect(onset % WINDOW_MS).toBe(0);
      expect(Object.keys(evidence).sort()).toEqual([
        'baseline',
        'connects',
        'instances',
        'opened',
        'refused',
        'returned',
        'threshold',
        'windowSeconds',
        'windowStart',
      ]);
      expect(evidence).toMatchObject({ instances: 2, returned: 0, refused: 60, threshold: 100, windowSeconds: 10 });
      expect(evidence['connects']).toBeGreaterThanOrEqual(180);
      expect(evidence['windowStart']).toBe(onset);
      expect(viewer.channel()).toHaveLength(1);
      expect(await alerts(setting)).toEqual([message.data]);
    },
  );

  test('is none when a gateway ends and its viewers go to another one', { timeout: 90_000 }, async () => {
    const setting = await start();
    const [one = '', other = ''] = setting.urls;
    const viewers: ScriptedViewer[] = [];
    for (const at of [0, 1]) {
      await earlyInWindow();
      const before = Math.floor(Date.now() / WINDOW_MS);
      viewers.push(...(await open(one, 90)));
      if (at === 0) await nextWindow(before);
    }
    const back = viewers.map(async (viewer) => {
      expect((await viewer.closed).code).toBe(1001);
      return open(other, 1);
    });
    await setting.cluster.gateways[0]?.stop();
    await Promise.all(back);
    const returned = async (): Promise<number> =>
      (await stateOf(setting.db)).windows.reduce((sum, window) => sum + window.returned, 0);
    await expect.poll(returned, { timeout: PATIENCE_MS, interval: 100 }).toBe(180);
    expect(await alerts(setting)).toEqual([]);
  });
});
