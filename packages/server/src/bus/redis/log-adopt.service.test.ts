import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis } from '@tocsin/testkit/redis-server';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { partitionOf } from '../../lib/partition.ts';
import type { LogBackend, LogBackendChoice } from '../../store/ports/log-backend.ts';
import type { EnvelopeAppend, Log } from '../../store/ports/log.ts';
import { frame, sample } from '../../store/postgres/log.suite.ts';
import { adoptLogBackend, confirmLogBackend } from './log-adopt.ts';
import { checkLogRedis } from './log-check.ts';
import { openRedisLog } from './log.ts';
import { KEEPING, openLogLink, openTestLog, type TestLog } from './log-test-place.suite.ts';

/** A device and its partition. */
const DEVICE = 'd3';
const PARTITION = partitionOf(DEVICE, 16);

describeWith(['redis'], 'the change of the log’s backend', () => {
  let server: RedisServer;
  let open: TestLog;
  beforeAll(async () => {
    server = await startRedis({ args: KEEPING });
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    open = await openTestLog({ kind: 'single', url: server.url });
  });
  afterEach(async () => {
    await open.close();
    await server.cli('flushall');
  });
  const adopt = (wanted: LogBackend, link: TestLog['link'] | null = open.link): Promise<LogBackendChoice> =>
    adoptLogBackend({ wanted, backends: open.backends, store: open.store, link, now: Date.now, patienceMs: 300 });
  const redisLog = async (): Promise<Log> => {
    const { link, store, backends } = open;
    const { generation } = await adopt('redis');
    return openRedisLog({ link, store, backends, generation });
  };
  const envelope = (id: string, content?: string): EnvelopeAppend => ({
    ...sample(DEVICE, id, PARTITION, content),
    receivedAt: Date.now(),
  });
  /** What a worker would do: everything in the partition, then its position. */
  const workOff = async (log: Log): Promise<string[]> => {
    const [lease] = await log.acquire('w', { among: [PARTITION], most: 1, ttlMs: 60_000, seize: true });
    if (lease === undefined) throw new Error('no lease');
    const records = await log.read([lease], 1000, 1e6);
    const position = records.at(-1)?.offset;
    if (position !== undefined) await log.advance(open.db, [{ lease, position }]);
    await log.release('w');
    return records.map(({ body }) => body);
  };

  test('there and back and there again: every id is known, every record is read once', async () => {
    expect((await adopt('store')).backend).toBe('store');
    await open.store.append([envelope('1')]);
    expect(await workOff(open.store)).toHaveLength(1);

    const first = await redisLog();
    expect(await first.append([envelope('1'), envelope('1', 'other'), envelope('2')])).toEqual([
      'replay',
      'id-conflict',
      'accepted',
    ]);
    expect(await workOff(first)).toEqual([envelope('2').body]);

    expect((await adopt('store')).backend).toBe('store');
    expect(await open.store.append([envelope('1'), envelope('2'), envelope('3')])).toEqual([
      'replay',
      'replay',
      'accepted',
    ]);
    const state = (await open.store.state())[PARTITION];
    expect(state?.head).toBe((state?.position ?? 0) + 1);
    expect(await workOff(open.store)).toEqual([envelope('3').body]);

    const second = await redisLog();
    expect(await second.append([envelope('2'), envelope('3'), envelope('4')])).toEqual([
      'replay',
      'replay',
      'accepted',
    ]);
    expect(await workOff(second)).toEqual([envelope('4').body]);
    expect((await second.state()).every(({ head, position }) => head === position)).toBe(true);
  });

  test('frames go along in both directions, more of them than a page holds', async () => {
    // First in three half hours; what comes again comes now.
    const sent = (from: number, count: number, apartMs: number): EnvelopeAppend[] =>
      Array.from({ length: count }, (_, i) => ({
        ...frame(DEVICE, `${from + i}`, PARTITION),
        receivedAt: Date.now() - (i % 3) * apartMs,
      }));
    const first = (from: number, count: number): EnvelopeAppend[] => sent(from, count, 1_500_000);
    const again = (from: number, count: number): EnvelopeAppend[] => sent(from, count, 0);
    const outcomes = async (log: Log, frames: readonly EnvelopeAppend[]): Promise<Set<string>> => {
      const found = new Set<string>();
      for (let i = 0; i < frames.length; i += 500)
        for (const outcome of await log.append(frames.slice(i, i + 500))) found.add(outcome);
      return found;
    };
    const everything = async (log: Log): Promise<void> => {
      while ((await workOff(log)).length > 0);
    };
    expect(await outcomes(open.store, first(0, 6000))).toEqual(new Set(['accepted']));
    await everything(open.store);
    const redis = await redisLog();
    expect(await outcomes(redis, again(0, 6000))).toEqual(new Set(['replay']));
    expect(await outcomes(redis, first(6000, 3000))).toEqual(new Set(['accepted']));
    await everything(redis);
    await adopt('store');
    expect(await outcomes(open.store, again(0, 9000))).toEqual(new Set(['replay']));
    expect(await open.store.append([frame(DEVICE, 'new', PARTITION)])).toEqual(['accepted']);
  });

  test('it is refused while readings are not worked off, in either direction; ticks do not count', async () => {
    const tick = { partition: PARTITION, kind: 'tick', receivedAt: 5, key: '', traceparent: null, body: '' } as const;
    await adopt('store');
    await open.store.append([envelope('1')]);
    await expect(adopt('redis')).rejects.toMatchObject({
      code: 'log-backend',
      message: /not worked off.*LOG_BACKEND=store/,
    });
    await workOff(open.store);
    await open.store.appendKeyed(open.db, [tick]);
    const log = await redisLog();
    expect(await log.completeUntil()).toBeGreaterThan(tick.receivedAt);
    await log.append([envelope('2')]);
    await expect(adopt('store')).rejects.toMatchObject({
      code: 'log-backend',
      message: /not worked off.*LOG_BACKEND=redis/,
    });
    await workOff(log);
    await log.appendKeyed(open.db, [tick]);
    expect((await adopt('store')).backend).toBe('store');
  });

  test('it is refused without Redis, and beside other living processes', async () => {
    await expect(adopt('redis', null)).rejects.toMatchObject({ code: 'log-backend', message: /REDIS_URL/ });
    await adopt('redis');
    await expect(adopt('store', null)).rejects.toMatchObject({ code: 'log-backend', message: /REDIS_URL/ });
    await open.db.execute('INSERT INTO instances (id, lease_until) VALUES ($1, now_ms() + 60000)', ['other']);
    await expect(adopt('store')).rejects.toMatchObject({ code: 'log-backend', message: /are alive/ });
  });

  test('several that start at once agree; one that came too late with another wish notices', async () => {
    const choices = await Promise.all([adopt('redis'), adopt('redis'), adopt('redis')]);
    expect(new Set(choices.map(({ generation }) => generation)).size).toBe(1);
    const [choice] = choices;
    if (choice === undefined) throw new Error('no choice');
    await confirmLogBackend(open.backends, choice);
    await adopt('store');
    await expect(confirmLogBackend(open.backends, choice)).rejects.toMatchObject({ code: 'log-backend' });
  });

  test('what another process appends until it ends goes along, or keeps the change from happening', async () => {
    const meanwhile = async (wanted: LogBackend, work: () => Promise<void>): Promise<LogBackendChoice> => {
      await open.db.execute('INSERT INTO instances (id, lease_until) VALUES ($1, now_ms() + 60000)', ['other']);
      const { backends, store, link } = open;
      const changing = adoptLogBackend({ wanted, backends, store, link, now: Date.now, patienceMs: 10_000 });
      changing.catch(() => undefined);
      await pause(400);
      await work();
      await open.db.execute('DELETE FROM instances', []);
      return changing;
    };
    await adopt('store');
    const { generation } = await meanwhile('redis', async () => {
      await open.store.append([envelope('1')]);
      await workOff(open.store);
    });
    const { link, store, backends } = open;
    const log = openRedisLog({ link, store, backends, generation });
    expect(await log.append([envelope('1'), envelope('2')])).toEqual(['replay', 'accepted']);
    await workOff(log);
    const back = meanwhile('store', async () => void (await log.append([envelope('3')])));
    await expect(back).rejects.toMatchObject({ code: 'log-backend', message: /not worked off/ });
    expect(await workOff(log)).toEqual([envelope('3').body]);
  });

  test('a process that was frozen during a change cannot append to what nobody reads any more', async () => {
    const frozen = await redisLog();
    await frozen.append([envelope('1')]);
    await workOff(frozen);
    await adopt('store');
    await expect(frozen.append([envelope('2')])).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(await server.cli('xlen', `sig:{${PARTITION}}:records`)).toBe('1');
    const next = await redisLog();
    await next.append([envelope('3')]);
    await expect(frozen.append([envelope('4')])).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(await workOff(next)).toEqual([envelope('3').body]);
  });

  test('a Redis with the log of another installation is refused at every start, and written to by nobody', async () => {
    const log = await redisLog();
    const other = await openTestLog({ kind: 'single', url: server.url });
    const { backends, store, link } = other;
    const start = (): Promise<LogBackendChoice> =>
      adoptLogBackend({ wanted: 'redis', backends, store, link, now: Date.now });
    try {
      // Both began on an empty Redis.
      const { generation } = await start();
      const theirs = openRedisLog({ link, store, backends, generation });
      await log.append([envelope('1')]);
      await expect(theirs.append([envelope('2')])).rejects.toMatchObject({ message: /another installation/ });
      await expect(start()).rejects.toMatchObject({ code: 'log-backend', message: /does not know/ });
      await other.db.execute('DELETE FROM installation', []);
      await workOff(log);
      await expect(start()).rejects.toMatchObject({ code: 'log-backend', message: /does not know/ });
      expect(await log.append([envelope('3')])).toEqual(['accepted']);
    } finally {
      await other.close();
    }
  });
});

describeWith(['redis'], 'the check of a Redis for the log', () => {
  test('one that keeps nothing, may evict or may not be asked is refused; one that keeps everything is not', async () => {
    const server = await startRedis();
    const link = await openLogLink({ kind: 'single', url: server.url });
    try {
      const refusal = { code: 'log-redis-unsuitable' };
      await expect(checkLogRedis(link)).rejects.toMatchObject({ ...refusal, message: /appendonly yes/ });
      await server.cli('config', 'set', 'appendonly', 'yes');
      await checkLogRedis(link);
      await server.cli('config', 'set', 'maxmemory-policy', 'allkeys-lru');
      await expect(checkLogRedis(link)).rejects.toMatchObject({ ...refusal, message: /maxmemory-policy noeviction/ });
      await server.cli('config', 'set', 'maxmemory-policy', 'noeviction');
      await server.cli('acl', 'setuser', 'default', '-info');
      await expect(checkLogRedis(link)).rejects.toMatchObject({ ...refusal, message: /ACL SETUSER/ });
    } finally {
      await link.close();
      await server.stop();
    }
  });
});
