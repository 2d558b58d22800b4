/**
 * The contract of processes that begin and end: in any order, on an empty database, without their database or Redis at
 * first, and told to end in the middle of their work.
 */
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newPerson } from './contract-viewer.ts';
import { call, post, type ScriptedDevice } from './device.ts';
import { startSenders } from './fault-senders.ts';
import { registerFleet } from './fleet.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { describeWith } from './needs.ts';
import { type PostgresServer, startPostgres } from './postgres-server.ts';
import { type Proxy, startProxy } from './proxy.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { connectViewer } from './viewer.ts';

const DRAIN_MS = 5000;
const DEVICES = 20;
const PASSWORD = 'a-password-that-no-line-may-hold';

describeWith(['redis', 'postgres15-postgis'], 'two gateways and two workers as processes', () => {
  const folder = guardedFolder('tocsin-contract-');
  let postgres: PostgresServer;
  let redis: RedisServer;
  let link: Proxy;
  let db: Database;
  let gateways: ServerProcess[];
  let workers: ServerProcess[];
  let token: string;
  let fleet: ScriptedDevice[];

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis({ args: ['--requirepass', PASSWORD] })]);
    link = await startProxy({ port: redis.port });
  });
  afterAll(async () => {
    for (const { child } of [...(gateways ?? []), ...(workers ?? [])]) child.kill('SIGKILL');
    await db?.close();
    await Promise.all([link?.stop(), redis?.stop(), postgres?.stop()]);
    await rm(folder, { recursive: true, force: true });
    folderRemoved(folder);
  });

  const start = async (name: string, environment: Readonly<Record<string, string>>): Promise<ServerProcess> => {
    const place = join(folder, name);
    mkdirSync(place);
    const server = startServer(place, await freePort(), {
      DATABASE_URL: postgres.url,
      REDIS_URL: redis.url,
      CLUSTER_SECRET: 'a secret of the cluster of this test',
      PUBLIC_URL: 'http://tocsin.example',
      DRAIN_SECONDS: String(DRAIN_MS / 1000),
      WS_RECONNECTS_PER_MINUTE: '1000',
      RATE_LIMIT_PER_KEY: '1000',
      RATE_LIMIT_PER_DEVICE: '1000',
      ...environment,
    });
    guardChild(server.child);
    return server;
  };
  /** SIGTERM; expects exit 0 in time. */
  const end = async ({ child, exited, output }: ServerProcess): Promise<void> => {
    const begun = performance.now();
    child.kill('SIGTERM');
    expect(await exited, output()).toBe(0);
    expect(performance.now() - begun).toBeLessThan(DRAIN_MS);
  };
  const baseOf = (index: number): string => gateways[index]?.base ?? '';
  const ready = async (base: string): Promise<unknown> => (await call(`${base}/health/ready`)).body?.['status'];
  const stored = async (): Promise<number> =>
    (await db.query<{ n: number }>('SELECT count(*)::int AS n FROM readings'))[0]?.n ?? 0;

  test('that begin at once on an empty database that is away, one without Redis, agree and find everything', async () => {
    await postgres.kill();
    link.cut();
    workers = await Promise.all([start('w0', { ROLES: 'worker' }), start('w1', { ROLES: 'worker' })]);
    gateways = await Promise.all([
      start('g0', { ROLES: 'gateway' }),
      start('g1', { ROLES: 'gateway', REDIS_URL: link.urlFor(redis.url) }),
    ]);
    await pause(3000);
    await postgres.restart();
    db = openDatabase(postgres.url, { applicationName: 'contract' });
    await Promise.all([...workers, ...gateways].map((server) => server.ready()));
    const counts = await db.query(
      `SELECT (SELECT count(*)::int FROM users) AS users, (SELECT count(*)::int FROM api_keys) AS keys,
       (SELECT count(*)::int FROM signing_keys) AS signing, (SELECT count(*)::int FROM instances) AS instances`,
    );
    expect(counts).toEqual([{ users: 1, keys: 1, signing: 3, instances: 4 }]);
    expect([await ready(baseOf(0)), await ready(baseOf(1))]).toEqual(['ok', 'degraded']);
    token = await signIn(baseOf(1));
    fleet = (await registerFleet(baseOf(0), token, { name: 's', zones: 1, perZone: DEVICES })).flat();
    link.heal();
    await expect.poll(() => ready(baseOf(1)), { timeout: 15_000, interval: 100 }).toBe('ok');
    const at = Date.now() - 61_000;
    const sent = fleet.map((device, i) =>
      post(baseOf(i % 2), CREDENTIALS.apiKey, device.seal('first', { readings: [{ at, value: 1 }] })),
    );
    expect((await Promise.all(sent)).map(({ status }) => status)).toEqual(fleet.map(() => 202));
    await expect.poll(stored, { timeout: 5000, interval: 50 }).toBe(DEVICES);
  });

  test('let nobody in who is not on their bus or would lose what was accepted: exit 78, one line for each mistake', async () => {
    const other = await startRedis({ args: ['--requirepass', PASSWORD] });
    const evicting = await startRedis({
      args: ['--requirepass', PASSWORD, '--appendonly', 'yes', '--maxmemory-policy', 'allkeys-lru'],
    });
    const wrong: readonly (readonly [Readonly<Record<string, string>>, RegExp])[] = [
      [{ REDIS_URL: '' }, /REDIS_URL/],
      [{ REDIS_URL: other.url }, /another Redis/],
      [{ CLUSTER_SECRET: 'a secret of the cluster of another test' }, /CLUSTER_SECRET/],
      [{ LOG_BACKEND: 'redis' }, /appendonly yes/],
      [{ LOG_BACKEND: 'redis', REDIS_URL: evicting.url }, /noeviction/],
      [{ ROLES: 'gateway,king', REDIS_URL: `http://:${PASSWORD}@redis` }, /REDIS_URL.*\nROLES.*king/],
    ];
    const tries = await Promise.all(
      wrong.map(([environment], i) => start(`x${i}`, { LOG_LEVEL: 'fatal', ...environment })),
    );
    for (const [i, { exited, output }] of tries.entries()) {
      expect(await exited, output()).toBe(78);
      expect(output()).toMatch(wrong[i]?.[1] ?? /^$/);
      expect(output()).not.toContain(PASSWORD);
      for (const line of output().trim().split('\n'))
        expect(line).toMatch(/^(?:tocsin: |[A-Z]+[A-Z_]+ must ).{10,280}$/);
    }
    await Promise.all([other.stop(), evicting.stop()]);
    expect(await ready(baseOf(0))).toBe('ok');
  });

  test('that are workers answer for their health and nothing else', async () => {
    const base = workers[0]?.base ?? '';
    expect(await ready(base)).toBe('ok');
    for (const path of ['/health/live', '/metrics']) expect((await call(base + path)).status).toBe(200);
    for (const path of ['/v1/readings', '/misurations/', '/v1/auth/login', '/v1/alerts', '/ws/alerts']) {
      for (const method of ['GET', 'POST']) expect((await call(base + path, { method })).status).toBe(404);
    }
  });

  test('end in time when they are told to in the middle of work: nothing is lost, others take over', async () => {
    const senders = startSenders([baseOf(0), baseOf(1)], fleet);
    const person = await newPerson(baseOf(0), token);
    const viewer = await connectViewer(`${baseOf(1).replace('http', 'ws')}/ws/alerts`, { token: person.token });
    await pause(1000);
    for (const server of [workers[0], gateways[1]]) {
      if (server === undefined) throw new Error('no such process');
      await end(server);
      await pause(500);
    }
    await viewer.closed;
    expect(viewer.messages.map(({ type }) => type)).toContain('moving');
    expect([1001, 1012]).toContain((await viewer.closed).code);
    await senders.finish();
    expect(senders.counts.strange).toEqual({});
    expect(senders.counts.accepted).toBeGreaterThan(100);
    await expect.poll(stored, { timeout: 10_000, interval: 100 }).toBe(DEVICES + senders.counts.accepted);
    const owners = await db.query('SELECT DISTINCT owner FROM log_positions');
    expect(owners).toHaveLength(1);
  });

  test('without Redis tell it in few lines and no secret, work on, and end in time', async () => {
    redis.freeze();
    const [gateway, worker] = [gateways[0], workers[1]];
    if (gateway === undefined || worker === undefined) throw new Error('no such process');
    const before = [gateway, worker].map((server) => server.output().length);
    const begun = performance.now();
    const slowest = { ms: 0 };
    for (let i = 0; i < 60; i += 1) {
      const asked = performance.now();
      await connectViewer(`${gateway.base.replace('http', 'ws')}/ws/alerts`, { token });
      const device = fleet[i % DEVICES];
      const answer = await post(
        gateway.base,
        CREDENTIALS.apiKey,
        device?.seal(`away${i}`, { readings: [{ at: Date.now() - 61_000, value: 1 }] }) ?? '',
      );
      expect(answer.status).toBe(202);
      const zone = await call(`${gateway.base}/v1/zones`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
        body: JSON.stringify({ id: `away-${i}`, name: 'away' }),
      });
      expect(zone.status).toBe(201);
      slowest.ms = Math.max(slowest.ms, performance.now() - asked);
    }
    const seconds = (performance.now() - begun) / 1000;
    // Three requests, each with at most three commands that wait half a second before the circuit is open.
    expect(slowest.ms).toBeLessThan(5000);
    for (const [i, server] of [gateway, worker].entries()) {
      const lines = server.output().slice(before[i]).split('\n');
      const warned = lines.filter((line) => /"level":"(?:warn|error)"/.test(line));
      // Six kinds of trouble, each at most once a second.
      expect(warned.length, warned.join('\n')).toBeLessThan(6 * (seconds + 2));
      expect(server.output()).not.toContain(PASSWORD);
    }
    await Promise.all([end(gateway), end(worker)]);
  });
});
