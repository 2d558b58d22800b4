import { readdir, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis, startRedisCluster, startRedisSentinel } from '@tocsin/testkit/redis-server';
import { afterEach, expect, test, vi } from 'vitest';
import { hasCode } from '../../lib/coded-error.ts';
import type { EnvelopeAppend, Lease, Log } from '../../store/ports/log.ts';
import { sample } from '../../store/postgres/log.suite.ts';
import { keysOf } from './log-record.ts';
import { APPEND } from './log-scripts.ts';
import { KEEPING, keep, openTestLog, type TestLog } from './log-test-place.suite.ts';

const PARTITION = 3;
const DEVICES = 12;
const envelopes = (prefix: string, count: number): EnvelopeAppend[] =>
  Array.from({ length: count }, (_, i) => sample('d', `${prefix}${i}`, PARTITION));

/** Moves the position as a worker's commit would. */
async function workOffTo({ log, db }: TestLog, position: number): Promise<void> {
  const [lease] = await log.acquire('w', { among: [PARTITION], most: 1, ttlMs: 60_000, seize: true });
  if (lease === undefined) throw new Error('no lease');
  expect(await log.advance(db, [{ lease, position }])).toEqual([PARTITION]);
}

/** Appends as devices do: again and again until it is accepted, or known from a try whose answer was lost. */
async function appendAnyhow(log: Log, batch: readonly EnvelopeAppend[]): Promise<void> {
  let left = batch;
  while (left.length > 0) {
    try {
      const outcomes = await log.append(left);
      left = left.filter((_, i) => outcomes[i] === 'id-conflict');
      if (left.length > 0) throw new Error('conflict');
    } catch (error) {
      if (!hasCode(error, 'store-unavailable')) throw error;
      await pause(20);
    }
  }
}

/** The file that what is appended goes to. */
async function tailFile(server: RedisServer): Promise<string> {
  const folder = (await server.cli('config', 'get', 'dir')).split('\n')[1] ?? '';
  const files = await readdir(join(folder, 'appendonlydir'));
  return join(folder, 'appendonlydir', files.find((name) => name.endsWith('.incr.aof')) ?? '');
}

describeWith(['redis'], 'the log on Redis Streams when Redis loses writes', () => {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  // A test that kills and then looks at what was kept says `--appendfsync always`: with everysec Redis holds writes back for
  // up to two seconds while the disk is busy.
  const start = async (...args: string[]): Promise<{ server: RedisServer; open: TestLog }> => {
    const server = await startRedis({ args: [...KEEPING, ...args] });
    ends.push(() => server.stop());
    const open = await openTestLog({ kind: 'single', url: server.url }, 500);
    ends.push(() => open.close());
    return { server, open };
  };
  const readAll = async ({ log }: TestLog, position: number): Promise<string[]> =>
    (await log.read([{ partition: PARTITION, position }], 1000, 1e6)).map(({ body }) => body);

  test('killed with a lost tail: what comes next is read, though what was lost had been worked off', async () => {
    const { server, open } = await start('--appendfsync', 'always');
    await open.log.append(envelopes('kept', 30));
    const file = await tailFile(server);
    const { size } = await stat(file);
    await open.log.append(envelopes('lost', 30));
    await workOffTo(open, 60);
    await server.kill();
    await truncate(file, size + 500);
    await server.restart();
    expect(await server.cli('hget', 'sig:{3}:head', 'head')).toBe('30');
    expect((await open.log.state().catch(() => []))[PARTITION]?.head ?? 60).toBe(60);
    await appendAnyhow(open.log, envelopes('next', 5));
    expect(await readAll(open, 60)).toEqual(envelopes('next', 5).map(({ body }) => body));
    const state = (await open.log.state())[PARTITION];
    // Beyond any batch that a worker may have had in hand.
    expect(state?.head).toBeGreaterThan(10_060);
    // What was lost with its ids is taken again when a device has it still.
    expect(await open.log.append(envelopes('lost', 1))).toEqual(['accepted']);
    expect(await open.log.append(envelopes('kept', 1))).toEqual(['replay']);
  });

  test('emptied: offsets go on behind the position, for every process', async () => {
    const { server, open } = await start();
    const other = await open.second();
    ends.push(() => other.close());
    await open.log.append(envelopes('a', 5));
    await workOffTo(open, 5);
    await server.cli('flushall');
    await Promise.all([open.log.append(envelopes('b', 5)), other.log.append(envelopes('c', 5))]);
    expect(new Set(await readAll(open, 5))).toEqual(
      new Set([...envelopes('b', 5), ...envelopes('c', 5)].map((e) => e.body)),
    );
  });

  test('a replica that lagged takes over: what comes next is read', async () => {
    const sentinel = await startRedisSentinel();
    ends.push(() => sentinel.stop());
    const { master, replica, addresses, name } = sentinel;
    await keep([master, replica]);
    const open = await openTestLog({ kind: 'sentinel', sentinels: addresses, name }, 500);
    ends.push(() => open.close());
    await open.log.append(envelopes('kept', 10));
    while ((await replica.cli('hget', 'sig:{3}:head', 'head')) !== '10') await pause(20);
    // It may not come back to its master, and so lags.
    await replica.cli('config', 'set', 'masterauth', 'wrong');
    await master.cli('client', 'kill', 'type', 'replica');
    await open.log.append(envelopes('lost', 20));
    await workOffTo(open, 30);
    expect(await replica.cli('hget', 'sig:{3}:head', 'head')).toBe('10');
    await master.kill();
    await appendAnyhow(open.log, envelopes('next', 5));
    expect(await replica.cli('info', 'replication')).toContain('role:master');
    expect(await readAll(open, 30)).toEqual(envelopes('next', 5).map(({ body }) => body));
  });

  test('a master that lost its tail in one failover and is master again after the next counts as another', async () => {
    const { server, open } = await start('--repl-diskless-sync-delay', '0');
    const other = await startRedis({
      args: [...KEEPING, '--repl-diskless-sync-delay', '0', '--replicaof', '127.0.0.1', String(server.port)],
    });
    ends.push(() => other.stop());
    const synced = async (of: RedisServer): Promise<void> => {
      while (!(await of.cli('info', 'replication')).includes('master_link_status:up')) await pause(20);
    };
    await open.log.append(envelopes('kept', 10));
    await synced(other);
    while ((await other.cli('hget', 'sig:{3}:head', 'head')) !== '10') await pause(20);
    await other.cli('replicaof', 'no', 'one');
    await open.log.append(envelopes('lost', 20));
    await workOffTo(open, 30);
    const run = await server.cli('info', 'server');
    await server.cli('replicaof', '127.0.0.1', String(other.port));
    await synced(server);
    await server.cli('replicaof', 'no', 'one');
    expect(await server.cli('hget', 'sig:{3}:head', 'head')).toBe('10');
    expect(/run_id:\w+/.exec(await server.cli('info', 'server'))?.[0]).toBe(/run_id:\w+/.exec(run)?.[0]);
    await appendAnyhow(open.log, envelopes('next', 5));
    expect(await readAll(open, 30)).toEqual(envelopes('next', 5).map(({ body }) => body));
  });

  test('a node of a Cluster is frozen: what the others took is read meanwhile', async () => {
    const cluster = await startRedisCluster();
    ends.push(() => cluster.stop());
    await keep(cluster.nodes);
    for (const node of cluster.nodes) {
      await node.cli('config', 'set', 'cluster-require-full-coverage', 'no');
      await node.cli('config', 'set', 'cluster-node-timeout', '60000');
    }
    const open = await openTestLog({ kind: 'cluster', nodes: cluster.addresses }, 1500);
    ends.push(() => open.close());
    const all = Array.from({ length: DEVICES }, (_, partition) => partition);
    await open.log.append(all.map((partition) => sample(`d${partition}`, '1', partition)));
    const [frozen] = cluster.nodes;
    frozen?.freeze();
    ends.push(async () => frozen?.thaw());
    const tries = all.map((partition) => open.log.append([sample(`d${partition}`, '2', partition)]));
    const settled = await Promise.allSettled(tries);
    const taken = all.filter((_, i) => settled[i]?.status === 'fulfilled');
    expect(taken.length).toBeGreaterThan(3);
    expect(taken.length).toBeLessThan(DEVICES);
    const from = all.map((partition) => ({ partition, position: 1 }));
    await vi.waitUntil(() => open.link.circuit() === 'closed', 10_000);
    expect((await open.log.read(from, 10, 1e6)).map(({ partition }) => partition)).toEqual(taken);
    await expect(open.log.completeUntil()).rejects.toMatchObject({ code: 'store-unavailable' });
  });

  test('nothing is appended where the store cannot say how far workers are', async () => {
    const { server, open } = await start('--appendfsync', 'always');
    await open.log.append(envelopes('a', 5));
    await open.db.close();
    await open.log.append(envelopes('b', 5));
    await server.restart();
    while ((await server.cli('ping')) !== 'PONG') await pause(20);
    await open.link.ready(5000);
    await expect(open.log.append(envelopes('c', 5))).rejects.toThrow();
    expect(await server.cli('xlen', 'sig:{3}:records')).toBe('10');
  });

  test('a script that comes late does nothing', async () => {
    const { server, open } = await start();
    await open.log.append(envelopes('a', 1));
    const { head, records, ids } = keysOf(PARTITION);
    const values = ['any', 1, 60, 'd late', 'digest', 'envelope 1 d ~ 1', 'late'];
    const answer = await APPEND(open.link.client, [head, records, ids(1)], values);
    expect(answer).toMatchObject(['late', expect.any(Number)]);
    expect(await server.cli('xlen', records)).toBe('1');
  });

  test('what was refused because a frozen Redis did not answer in time is not appended when it wakes', async () => {
    const { server, open } = await start();
    await open.log.append(envelopes('a', 1));
    server.freeze();
    await expect(open.log.append(envelopes('b', 3))).rejects.toMatchObject({ code: 'store-unavailable' });
    server.thaw();
    await vi.waitUntil(() => open.link.circuit() === 'closed' && open.link.client.status === 'ready', 10_000);
    expect(await server.cli('xlen', keysOf(PARTITION).records)).toBe('1');
    await vi.waitFor(async () => expect(await open.log.append(envelopes('b', 3))).toHaveLength(3), 5000);
    expect(await readAll(open, 0)).toHaveLength(4);
  });

  test('away: appends and reads of streams say so; the store’s partitions and the state go on', async () => {
    const { server, open } = await start();
    const { log, db } = open;
    await log.append(envelopes('a', 2));
    expect((await log.state())[PARTITION]?.head).toBe(2);
    await server.kill();
    await expect(log.append(envelopes('b', 1))).rejects.toMatchObject({ code: 'store-unavailable' });
    await expect(log.read([{ partition: PARTITION, position: 0 }], 1, 1)).rejects.toMatchObject({
      code: 'store-unavailable',
    });
    await expect(log.completeUntil()).rejects.toMatchObject({ code: 'store-unavailable' });
    const finding = {
      partition: 15,
      kind: 'finding',
      receivedAt: 1,
      key: 'zone:z',
      traceparent: null,
      body: '[]',
    } as const;
    await db.transaction((sql) => log.appendKeyed(sql, [finding]));
    expect(await log.read([{ partition: 15, position: 0 }], 1, 1)).toHaveLength(1);
    const state = await log.state();
    expect([state[PARTITION]?.head, state[15]?.head]).toEqual([2, 1]);
  });
});

describeWith(['redis'], 'the log on Redis Streams in the middle of many appends', () => {
  /** A worker: reads everything in order, commits its positions, trims; until it has seen `count` records. */
  async function workUntil({ log, db }: TestLog, count: () => number): Promise<string[]> {
    const wanted = { among: Array.from({ length: DEVICES }, (_, i) => i), most: DEVICES, ttlMs: 60_000, seize: true };
    const leases = new Map<number, Lease>((await log.acquire('w', wanted)).map((lease) => [lease.partition, lease]));
    const seen: string[] = [];
    while (seen.length < count()) {
      const records = await log.read([...leases.values()], 50, 1e6).catch(() => []);
      for (const lease of leases.values()) {
        const mine = records.filter(({ partition }) => partition === lease.partition);
        const offsets = mine.map(({ offset }) => offset);
        expect(offsets).toEqual([...new Set(offsets)].sort((a, b) => a - b));
        const position = offsets.at(-1);
        if (position === undefined) continue;
        expect(await log.advance(db, [{ lease, position }])).toEqual([lease.partition]);
        leases.set(lease.partition, { ...lease, position });
        seen.push(...mine.map(({ body }) => body));
      }
      await log.trim().catch(() => undefined);
      if (records.length === 0) await pause(10);
    }
    return seen;
  }

  test.each([
    [
      'frozen and woken',
      async (server: RedisServer) => {
        server.freeze();
        await pause(1500);
        server.thaw();
      },
    ],
    ['killed and started again', (server: RedisServer) => server.restart()],
  ])('%s: what was accepted is read exactly once, in order', async (_name, fault) => {
    const server = await startRedis({ args: [...KEEPING, '--appendfsync', 'always'] });
    const open = await openTestLog({ kind: 'single', url: server.url }, 500);
    const other = await open.second();
    try {
      const sides = 6;
      const rounds = 60;
      const size = 20;
      const total = sides * rounds * size;
      let sent = 0;
      const send = async (side: number): Promise<void> => {
        for (let round = 0; round < rounds; round += 1) {
          const batch = Array.from({ length: size }, (_, i) =>
            sample(`d${(side + i) % 30}`, `${side}-${round}-${i}`, ((side + i) % 30) % DEVICES),
          );
          await appendAnyhow(side % 2 === 0 ? open.log : other.log, batch);
          sent += size;
        }
      };
      const sending = Promise.all(Array.from({ length: sides }, (_, side) => send(side)));
      const working = workUntil(open, () => total);
      for (const at of [total / 4, total / 2]) {
        while (sent < at) await pause(5);
        await fault(server);
      }
      await sending;
      const seen = await working;
      expect(seen).toHaveLength(total);
      expect(new Set(seen).size).toBe(total);
      await open.log.trim();
      const states = await open.log.state();
      expect(states.every(({ head, position }) => head === position)).toBe(true);
      expect(
        await open.log.read(
          states.filter(({ partition }) => partition < DEVICES),
          10,
          1e6,
        ),
      ).toEqual([]);
    } finally {
      await other.close();
      await open.close();
      await server.stop();
    }
  });
});
