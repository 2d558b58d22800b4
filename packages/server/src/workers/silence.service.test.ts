/**
 * Silence through log, workers and ledger, by scripted times: what arrived when and what ticks say is in the log, so no test
 * waits for it.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createLedger, type RaisedMessage } from '../alerts/ledger.ts';
import { completeFinding, type FindingRegistry } from '../app/complete-finding.ts';
import { createMeaning } from '../app/meaning.ts';
import { partitionOf } from '../lib/partition.ts';
import { createIdFactory } from '../lib/ulid.ts';
import type { EnvelopeAppend, Log } from '../store/ports/log.ts';
import { createAlertStore } from '../store/postgres/alerts.ts';
import { createChannelStore } from '../store/postgres/channels.ts';
import { createLog } from '../store/postgres/log.ts';
import { createWorkStore } from '../store/postgres/readings.ts';
import { tickBody } from './listening.ts';
import { startWorker, type Worker } from './worker.ts';

const settings = {
  ...{ swarmSensors: 50, swarmWindowSeconds: 10, swarmCooldownSeconds: 60, liveReadingSeconds: 60 },
  ...{ cpuAlertPercent: 90, memoryAlertPercent: 95, diskAlertPercent: 95, gpuAlertPercent: null },
  ...{ alertCooldownSeconds: 60, pruneSeconds: 30 },
};
const SECOND = 1000;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const everyPartition = Array.from({ length: 16 }, (_, i) => i);

describe('hosts that fall silent, in the log', () => {
  let database: TestDatabase;
  let log: Log;
  let told: RaisedMessage[];
  let begin: number;
  let serial = 0;
  const switchedOff = new Set<string>();
  const workers: Worker[] = [];
  const registry = {
    directory: {
      lookup: (id: string) => ({
        ...{ id, profile: 'host', zoneId: null, latitude: null, longitude: null },
        standing: switchedOff.has(id) ? 'inactive' : 'active',
      }),
    },
    zoneFacts: async () => null,
  } as unknown as FindingRegistry;

  beforeEach(async () => {
    database = await openTestDatabase();
    log = createLog(database.db);
    told = [];
    begin = Date.now() - 3_600_000;
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.stop()));
    await database.close();
  });

  function start(owner: string, change: { pruneSeconds?: number; tickMs?: number } = {}): Worker {
    const ledger = createLedger({
      db: database.db,
      alerts: createAlertStore(database.db),
      channels: createChannelStore(database.db),
      signer: () => ({ kid: 'k', privateKey }),
      ids: createIdFactory(),
      publish: () => undefined,
      events: { acted: () => undefined, publishFailed: () => undefined },
    });
    const worker = startWorker({
      owner,
      db: database.db,
      log,
      store: createWorkStore(database.db),
      meaning: createMeaning({ ...settings, pruneSeconds: change.pruneSeconds ?? settings.pruneSeconds }).meaning,
      complete: (found) => completeFinding(registry, found),
      raise: (sql, findings, now) => ledger.raise(sql, findings, now),
      publish: (messages) => void told.push(...messages),
      now: () => Date.now(),
      standing: () => ({ rank: 0, workers: 1 }),
      seize: false,
      // Ticks are scripted but in one test.
      tickMs: change.tickMs ?? 3_600_000,
      events: { retry: () => undefined, failed: () => undefined, lost: () => undefined },
    });
    workers.push(worker);
    return worker;
  }

  const workedOff = async (): Promise<void> => {
    for (const worker of workers) worker.wake(everyPartition);
    await workers.at(-1)?.caughtUp(AbortSignal.timeout(20_000));
  };

  /** A frame of each of these hosts, by clocks that stand still, arrives `second` s after the begin. */
  async function heard(ids: readonly string[], second: number, exercise = false, cpu = 1): Promise<void> {
    const receivedAt = begin + second * SECOND;
    const appends = ids.map((deviceId, i): EnvelopeAppend => {
      serial += 1;
      const reading = { at: 7_000_000_000_000, cpu_percent: cpu, mem_percent: 2, disk_percent: 3, gpu_percent: null };
      return {
        ...{ deviceId, envelopeId: `e${serial}`, partition: partitionOf(deviceId, log.partitions), receivedAt },
        ...{ kind: 'frame', traceparent: null },
        digest: createHash('sha256').update(`e${serial}`).digest(),
        context: { device: i + 1, zone: null, zoneId: null, ...(exercise ? { exercise } : {}) },
        body: JSON.stringify({ id: `e${serial}`, at: reading.at, profile: 'host', readings: [reading] }),
      };
    });
    for (let at = 0; at < appends.length; at += 200) await log.append(appends.slice(at, at + 200));
  }

  /** A tick in all partitions, by a worker that has listened since `since` s. */
  async function tick(second: number, since = 0): Promise<void> {
    await workedOff();
    const receivedAt = begin + second * SECOND;
    const body = tickBody({ since: begin + since * SECOND, last: receivedAt });
    const record = { kind: 'tick', receivedAt, key: '', traceparent: null, body } as const;
    await log.appendKeyed(
      database.db,
      everyPartition.map((partition) => ({ ...record, partition })),
    );
    await workedOff();
  }

  async function regular(ids: readonly string[], exercise = false): Promise<void> {
    for (let second = 0; second <= 60; second += 10) await heard(ids, second, exercise);
  }

  const essence = (): unknown[] =>
    told.map(({ type, alert }) => [type, alert.kind, alert.deviceId, alert.status, alert.state, alert.revision]);

  test('one is an alert, which is resolved when it is heard again, by whatever worker', async () => {
    start('one');
    await regular(['h1', 'h2']);
    await heard(['h2'], 100);
    await tick(100);
    await tick(110);
    expect(essence()).toEqual([['alert', 'host.silent', 'h1', 'actual', 'open', 1]]);
    await Promise.all(workers.splice(0).map((worker) => worker.stop()));
    start('two');
    await heard(['h1', 'h2'], 130);
    await workedOff();
    expect(essence().slice(1)).toEqual([['alert-update', 'host.silent', 'h1', 'actual', 'resolved', 2]]);
    expect(told.at(-1)?.alert.evidence).toMatchObject({
      lastHeard: begin + 60 * SECOND,
      ended: { at: begin + 130 * SECOND, reason: 'heard', silentSeconds: 70 },
    });
  });

  test('three hundred at once are one alert until all are heard again', async () => {
    start('one');
    const rack = Array.from({ length: 300 }, (_, i) => `rack-${i}`);
    await regular(rack);
    await tick(100);
    await tick(110);
    await tick(120);
    expect(essence()).toEqual([['alert', 'host.silent', null, 'actual', 'open', 1]]);
    expect(told[0]?.alert).toMatchObject({ headline: 'Silent hosts: 300', evidence: { hosts: 300, silent: 300 } });
    expect(told[0]?.alert.evidence['devices']).toHaveLength(100);
    await heard(rack, 130);
    await workedOff();
    expect(essence().slice(1)).toEqual([['alert-update', 'host.silent', null, 'actual', 'resolved', 2]]);
    const states = await database.db.query(`SELECT key FROM detector_states WHERE key LIKE 'hosts:%'`);
    expect(states).toEqual([]);
  });

  test('simulated ones are exercises, and those that an operator switched off are none', async () => {
    start('one');
    switchedOff.add('off');
    await regular(['off']);
    await regular(['sim'], true);
    await tick(100);
    await tick(110);
    expect(essence()).toEqual([['alert', 'host.silent', 'sim', 'exercise', 'open', 1]]);
    await heard(['off'], 130);
    await heard(['sim'], 130, true);
    await workedOff();
    expect(essence().slice(1)).toEqual([['alert-update', 'host.silent', 'sim', 'exercise', 'resolved', 2]]);
  });

  test('a server that was down accuses nobody: silence counts from when it listens again', async () => {
    start('one');
    await regular(['h1', 'h2']);
    await tick(3000, 3000);
    await heard(['h1'], 3030);
    await tick(3039, 3000);
    await tick(3049, 3000);
    await tick(3059, 3000);
    expect(essence()).toEqual([['alert', 'host.silent', 'h2', 'actual', 'open', 1]]);
  });

  test('frames raise and end alerts as of their arrival, whatever their clock says', async () => {
    start('one');
    await heard(['h1'], 0, false, 95);
    await heard(['h1'], 61, false, 96);
    await heard(['h1'], 70, false, 10);
    await workedOff();
    await workedOff();
    expect(told.map(({ type, alert }) => [type, (alert.onset - begin) / SECOND, alert.state])).toEqual([
      ['alert', 0, 'open'],
      ['alert-update', 0, 'resolved'],
      ['alert', 61, 'open'],
      ['alert-update', 61, 'resolved'],
    ]);
    expect(told.map(({ alert }) => alert.evidence['ended'])).toMatchObject([
      undefined,
      { reason: 'again', percent: 96, at: begin + 61 * SECOND },
      undefined,
      { reason: 'below', percent: 10, at: begin + 70 * SECOND },
    ]);
  });

  test('is found by the ticks of a worker itself, once it has listened for as long', async () => {
    for (let second = 0; second < 5; second += 1) await heard(['h1'], second);
    const started = Date.now();
    start('one', { pruneSeconds: 1, tickMs: 100 });
    await vi.waitFor(() => expect(told).toHaveLength(1), { timeout: 20_000, interval: 50 });
    expect(essence()).toEqual([['alert', 'host.silent', 'h1', 'actual', 'open', 1]]);
    // Three times the usual second, and the step: it was silent for an hour, but nobody listened.
    expect((told[0]?.alert.updatedAt ?? 0) - started).toBeGreaterThan(4000);
    await heard(['h1'], 3600);
    await workedOff();
    expect(essence().slice(1)).toEqual([['alert-update', 'host.silent', 'h1', 'actual', 'resolved', 2]]);
  });
});
