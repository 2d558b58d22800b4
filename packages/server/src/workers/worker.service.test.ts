import { createHash } from 'node:crypto';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import type { AlertFinding } from '@tocsin/protocol/finding';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Detector } from '../detectors/detector.ts';
import { swarmDetector } from '../detectors/swarm.ts';
import { CodedError } from '../lib/coded-error.ts';
import { partitionOf } from '../lib/partition.ts';
import { decodeEnvelope } from '../profiles/decode.ts';
import { hostProfile } from '../profiles/host/host.ts';
import { mobileProfile } from '../profiles/mobile/mobile.ts';
import { seismicProfile } from '../profiles/seismic/seismic.ts';
import type { EnvelopeAppend, Log } from '../store/ports/log.ts';
import { createLog } from '../store/postgres/log.ts';
import { createWorkStore } from '../store/postgres/readings.ts';
import { startWorker, type Worker } from './worker.ts';
import type { WorkerOptions } from './worker-options.ts';

const profiles = {
  seismic: seismicProfile({ windowMs: 10_000, liveMs: 60_000 }),
  host: hostProfile(),
  mobile: mobileProfile,
};
const swarm = swarmDetector({ sensors: 50, windowMs: 10_000, cooldownMs: 60_000, liveMs: 60_000 }) as Detector<
  unknown,
  unknown
>;

const everyPartition = Array.from({ length: 16 }, (_, i) => i);

describe.each(engines)('workers on %s', (engine) => {
  let database: TestDatabase;
  let log: Log;
  const workers: Worker[] = [];
  beforeEach(async () => {
    database = await openTestDatabase(engine);
    log = createLog(database.db);
    await database.db.execute('CREATE TABLE raised (fingerprint text, sensors integer)');
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.stop()));
    await database.close();
  });

  function start(owner: string, change: Partial<WorkerOptions<unknown>> = {}): Worker {
    const worker = startWorker({
      owner,
      db: database.db,
      log,
      store: createWorkStore(database.db),
      meaning: {
        decode: (record) => decodeEnvelope(profiles, record.kind as 'original', record.body),
        measure: (profile, reading) => profiles[profile].measure(reading),
        notice: (profile, origin, readings) => profiles[profile].notice(origin, readings),
        detectors: (key) => (key.startsWith('zone:') ? [swarm] : []),
      },
      complete: async ({ finding, key }) => ({ ...finding, fingerprint: `${key} ${finding.onset}` }) as AlertFinding,
      raise: async (sql, findings) => {
        for (const finding of findings) {
          await sql.execute('INSERT INTO raised VALUES ($1, $2)', [finding.fingerprint, finding.evidence['sensors']]);
        }
        return [];
      },
      publish: () => undefined,
      now: () => Date.now(),
      standing: () => ({ rank: 0, workers: 1 }),
      seize: false,
      events: { retry: () => undefined, failed: () => undefined, lost: () => undefined },
      ...change,
    });
    workers.push(worker);
    return worker;
  }

  function envelope(device: number, id: string, body?: string): EnvelopeAppend {
    const at = Date.now();
    return {
      deviceId: `d${device}`,
      envelopeId: id,
      digest: createHash('sha256').update(id).digest(),
      partition: partitionOf(`d${device}`, log.partitions),
      kind: 'original',
      receivedAt: at,
      traceparent: null,
      context: { device, zone: 1, zoneId: 'z' },
      body: body ?? JSON.stringify({ id, at, profile: 'seismic', readings: [{ at, value: 5 }] }),
    };
  }

  const stored = async (): Promise<number> =>
    (await database.db.query<{ n: number }>('SELECT count(*) AS n FROM readings'))[0]?.n ?? -1;
  const raised = (): Promise<{ fingerprint: string; sensors: number }[]> => database.db.query('SELECT * FROM raised');
  const done = (worker: Worker): Promise<void> => worker.caughtUp(AbortSignal.timeout(15_000));

  test('what is in the log is stored once, and a swarm across partitions is raised once', async () => {
    await log.append(Array.from({ length: 60 }, (_, i) => envelope(i, 'a')));
    const worker = start('one');
    await done(worker);
    expect(await stored()).toBe(60);
    expect((await raised()).map((row) => row.sensors)).toEqual([50]);
  });

  test('eight workers that take partitions from each other in mid-work store everything once and raise once', async () => {
    const all = Array.from({ length: 8 }, (_, i) => start(`w${i}`));
    let sent = 0;
    for (let round = 0; round < 15; round += 1) {
      await log.append(Array.from({ length: 60 }, (_, i) => envelope(i, `r${round}`)));
      sent += 60;
      await log.acquire(`thief${round}`, { among: everyPartition, most: 16, ttlMs: -1, seize: true });
      for (const worker of all) worker.wake(everyPartition);
    }
    await done(all[0] ?? start('none'));
    expect(await stored()).toBe(sent);
    expect(await raised()).toHaveLength(1);
  });

  test('connections that die in mid-commit lose nothing and store nothing twice', async () => {
    const worker = start('one');
    let sent = 0;
    for (let round = 0; round < 20; round += 1) {
      const batch = Array.from({ length: 30 }, (_, i) => envelope(i, `r${round}`));
      for (;;) {
        const accepted = await log.append(batch).catch(() => null);
        if (accepted !== null) break;
      }
      sent += 30;
      worker.wake([1, 2, 3, 4, 5]);
      await database.db
        .query(
          'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
        )
        .catch(() => undefined);
    }
    await done(worker);
    expect(await stored()).toBe(sent);
  });

  test('a record that cannot be worked off is set aside with its reason and stops nothing', async () => {
    const failed: string[] = [];
    await log.append([envelope(1, 'a', 'no json'), envelope(1, 'b'), envelope(1, 'c')]);
    const worker = start('one', {
      events: {
        retry: () => undefined,
        failed: (records) => void failed.push(...records.map((record) => record.body)),
        lost: () => undefined,
      },
    });
    await done(worker);
    expect(await stored()).toBe(2);
    expect(failed).toEqual(['no json']);
    expect(await database.db.query('SELECT body FROM log_failures')).toEqual([{ body: 'no json' }]);
  });

  test('a record that fails its whole batch is found and set aside, the others are stored', async () => {
    await log.append(Array.from({ length: 5 }, (_, i) => envelope(1, `e${i}`)));
    const store = createWorkStore(database.db);
    const worker = start('one', {
      store: {
        ...store,
        commitPlain: async (work) => {
          if (work.rows.some((row) => row.envelopeId === 'e2')) throw new RangeError('cannot');
          return store.commitPlain(work);
        },
      },
    });
    await done(worker);
    expect(await stored()).toBe(4);
    expect((await database.db.query<{ key: string }>('SELECT key FROM log_failures')).length).toBe(1);
  });

  test('who has the partition of a finding is told at once, when it is another worker', async () => {
    const zone = partitionOf('zone:z', log.partitions);
    await log.acquire('other', { among: [zone], most: 1, ttlMs: 60_000, seize: false });
    const told: (readonly number[])[] = [];
    start('one', { grown: (partitions) => void told.push(partitions) });
    await log.append(Array.from({ length: 60 }, (_, i) => envelope(i, 'a')));
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(0), { timeout: 10_000 });
    expect(new Set(told.flat())).toEqual(new Set([zone]));
  });

  test('a cycle that takes the store too long is tried in smaller pieces', async () => {
    const store = createWorkStore(database.db);
    const cause = Object.assign(new Error('canceling statement due to statement timeout'), { code: '57014' });
    await log.append(Array.from({ length: 60 }, (_, i) => envelope(i, 'a')));
    const worker = start('one', {
      store: {
        ...store,
        commitPlain: async (work) => {
          if (work.rows.length > 30) throw new CodedError('store-unavailable', 'late', { cause });
          return store.commitPlain(work);
        },
      },
    });
    await done(worker);
    expect(await stored()).toBe(60);
  });

  test('many readings at once, and readings with several fields, are stored whole', async () => {
    const at = Date.now();
    const frame = { at, cpu_percent: 1, mem_percent: 2, disk_percent: 3, gpu_percent: null };
    const host = JSON.stringify({ id: 'h', at, profile: 'host', readings: [frame, frame] });
    const readings = Array.from({ length: 500 }, (_, i) => ({ at: at - i, value: i }));
    const batches = Array.from({ length: 6 }, (_, i) =>
      envelope(1, `b${i}`, JSON.stringify({ id: `b${i}`, at, profile: 'seismic', readings })),
    );
    const worker = start('one');
    await log.append([envelope(2, 'h', host)]);
    await done(worker);
    await worker.stop();
    await log.append(batches);
    await done(start('two'));
    expect(await stored()).toBe(3002);
    const rows = await database.db.query('SELECT value, fields FROM readings WHERE device = 2');
    const fields = {
      cpu_percent: 1,
      mem_percent: 2,
      disk_percent: 3,
      gpu_percent: null,
      agent_cpu_percent: null,
      agent_mem_mb: null,
    };
    expect(rows).toEqual([
      { value: 1, fields },
      { value: 1, fields },
    ]);
  });

  test('workers that come, go and die share the partitions, and every reading is stored once all the while', async () => {
    const alive = ['a', 'b', 'c'];
    const standing = (name: string) => () => ({ rank: alive.indexOf(name), workers: alive.length });
    const held = async (): Promise<number[]> =>
      (
        await database.db.query<{ n: number }>(
          'SELECT count(*) AS n FROM log_positions WHERE owner = ANY ($1) GROUP BY owner ORDER BY 1',
          [alive],
        )
      ).map((row) => row.n);
    const team = Object.fromEntries(alive.map((name) => [name, start(name, { standing: standing(name) })]));
    let sent = 0;
    const send = async (): Promise<void> => {
      await log.append(Array.from({ length: 60 }, (_, i) => envelope(i, `s${sent}`)));
      sent += 60;
    };
    await send();
    await vi.waitFor(async () => expect(await held()).toEqual([5, 5, 6]), 10_000);
    await send();
    // One ends in good order; another dies: its lease is nobody's any more, but in its name until it runs out.
    alive.shift();
    await team['a']?.stop();
    await send();
    await vi.waitFor(async () => expect(await held()).toEqual([8, 8]), 10_000);
    alive.shift();
    await team['b']?.stop();
    await database.db.execute(
      "UPDATE log_positions SET owner = 'b', lease_until = now_ms() + 1000 WHERE owner IS NULL",
    );
    await send();
    await vi.waitFor(async () => expect(await held()).toEqual([16]), 10_000);
    await done(team['c'] ?? start('none'));
    expect(await stored()).toBe(sent);
  });

  test('a fence that was raised in the worker’s own name, by a statement thought lost, does not stop it', async () => {
    const worker = start('one');
    await log.append([envelope(1, 'a')]);
    await done(worker);
    await log.acquire('one', { among: everyPartition, most: 16, ttlMs: 5000, seize: false });
    await log.append([envelope(1, 'b'), envelope(2, 'b')]);
    worker.wake(everyPartition);
    await done(worker);
    expect(await stored()).toBe(3);
  });

  test('a batch that fails is found beside a partition that never runs out of work', async () => {
    const store = createWorkStore(database.db);
    let busy = 0;
    const [first, second] = [1, 2, 3, 4, 5, 6, 7, 8].sort(
      (a, b) => partitionOf(`d${a}`, log.partitions) - partitionOf(`d${b}`, log.partitions),
    );
    await log.append([envelope(second ?? 0, 'bad'), envelope(first ?? 0, 'good')]);
    const worker = start('one', {
      store: {
        ...store,
        commitPlain: async (work) => {
          if (work.rows.some((row) => row.envelopeId === 'bad')) throw new RangeError('cannot');
          const committed = await store.commitPlain(work);
          busy += 1;
          if (busy < 400) await log.append([envelope(first ?? 0, `more${busy}`)]);
          return committed;
        },
      },
    });
    let whenFound = 0;
    while (busy < 400 && whenFound === 0) {
      if ((await database.db.query('SELECT 1 FROM log_failures')).length > 0) whenFound = busy;
    }
    busy = 400;
    expect(whenFound).toBeGreaterThan(0);
    await done(worker);
  });

  test('time passes no faster than the log is worked off, so a tick makes nobody forget what a backlog still says', async () => {
    const ticks: number[] = [];
    const store = createWorkStore(database.db);
    const old = Date.now() - 300_000;
    const behind = { ...envelope(40, 'behind'), receivedAt: old };
    await log.append([envelope(1, 'a')]);
    start('one', {
      tickMs: 50,
      store: {
        ...store,
        commitPlain: async (work) => {
          if (work.rows.some((row) => row.envelopeId === 'behind')) throw new Error('the store is away');
          return store.commitPlain(work);
        },
      },
      log: {
        ...log,
        appendKeyed: (sql, records) => {
          ticks.push(...records.filter(({ kind }) => kind === 'tick').map(({ receivedAt }) => receivedAt));
          return log.appendKeyed(sql, records);
        },
      },
    });
    await vi.waitFor(() => expect(ticks.length).toBeGreaterThan(1), { timeout: 10_000 });
    await log.append([behind]);
    const from = ticks.length;
    await vi.waitFor(() => expect(ticks.length).toBeGreaterThan(from + 2), { timeout: 10_000 });
    expect(Math.max(...ticks.slice(from + 2))).toBeLessThanOrEqual(old);
  });

  test('a store that goes away while the backlog is worked off is waited for; the server does not end for it', async () => {
    await log.append([envelope(1, 'a')]);
    let failures = 3;
    const worker = start('one', {
      log: {
        ...log,
        state: () => {
          failures -= 1;
          return failures >= 0 ? Promise.reject(new CodedError('store-unavailable', 'away')) : log.state();
        },
      },
    });
    await done(worker);
    expect(await stored()).toBe(1);
  });

  test('a day that was not made ahead is made when its first readings come, and nothing is set aside for it', async () => {
    const at = Date.now() + 40 * 86_400_000;
    const readings = Array.from({ length: 500 }, (_, i) => ({ at: at - i, value: i }));
    const body = (id: string): string => JSON.stringify({ id, at, profile: 'seismic', readings });
    const worker = start('one');
    await log.append([{ ...envelope(1, 'a', body('a')), receivedAt: at }]);
    await done(worker);
    await worker.stop();
    const later = at + 86_400_000;
    await log.append(
      Array.from({ length: 6 }, (_, i) => ({ ...envelope(1, `b${i}`, body(`b${i}`)), receivedAt: later })),
    );
    await done(start('two'));
    expect(await stored()).toBe(3500);
    expect(await database.db.query('SELECT * FROM log_failures')).toEqual([]);
  });

  test('a swarm is one alarm when the worker changes in the middle of it', async () => {
    const first = start('one');
    await log.append(Array.from({ length: 30 }, (_, i) => envelope(i, 'a')));
    await done(first);
    await first.stop();
    const second = start('two');
    await log.append(Array.from({ length: 30 }, (_, i) => envelope(30 + i, 'a')));
    await done(second);
    expect((await raised()).map((row) => row.sensors)).toEqual([50]);
  });
});
