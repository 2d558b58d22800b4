import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { startRedis } from '@tocsin/testkit/redis-server';
import { expect, test } from 'vitest';
import { createMeaning } from '../../app/meaning.ts';
import { hasCode } from '../../lib/coded-error.ts';
import { partitionOf } from '../../lib/partition.ts';
import type { EnvelopeAppend, Log } from '../../store/ports/log.ts';
import { createWorkStore } from '../../store/postgres/readings.ts';
import { startWorker, type Worker } from '../../workers/worker.ts';
import { KEEPING, openTestLog, type TestLog } from './log-test-place.suite.ts';

const SENSORS = 60;

function envelope(device: number, id: string): EnvelopeAppend {
  const at = Date.now();
  const payload = JSON.stringify({ id, at, profile: 'seismic', readings: [{ at, value: 90 }] });
  return {
    deviceId: `d${device}`,
    envelopeId: id,
    digest: createHash('sha256').update(id).digest(),
    partition: partitionOf(`d${device}`, 16),
    kind: 'original',
    receivedAt: at,
    traceparent: null,
    context: { device, zone: 1, zoneId: 'z' },
    body: payload,
  };
}

function start({ db }: TestLog, log: Log, rank: number, raised: string[]): Worker {
  const settings = {
    ...{ swarmSensors: 50, swarmWindowSeconds: 10, swarmCooldownSeconds: 60, liveReadingSeconds: 60 },
    ...{
      cpuAlertPercent: 90,
      memoryAlertPercent: null,
      diskAlertPercent: null,
      gpuAlertPercent: null,
      pruneSeconds: 30,
      alertCooldownSeconds: 60,
    },
  };
  return startWorker<string>({
    owner: `w${rank}`,
    db,
    log,
    store: createWorkStore(db),
    meaning: createMeaning(settings).meaning,
    complete: async ({ finding, key }) => ({ ...finding, fingerprint: `${key} ${finding.onset}` }),
    raise: async (_sql, findings) => findings.map(({ fingerprint }) => fingerprint),
    publish: (messages) => raised.push(...messages),
    now: () => Date.now(),
    standing: () => ({ rank, workers: 2 }),
    seize: false,
    tickMs: 200,
    events: { retry: () => undefined, failed: () => undefined, lost: () => undefined },
  });
}

describeWith(['redis'], 'workers on the log in Redis', () => {
  test('Redis is killed twice under two workers: everything accepted is stored once, the swarm is raised once', async () => {
    const server = await startRedis({ args: [...KEEPING, '--appendfsync', 'always'] });
    const open = await openTestLog({ kind: 'single', url: server.url }, 500);
    const second = await open.second();
    const raised: string[] = [];
    const workers = [start(open, open.log, 0, raised), start(open, second.log, 1, raised)];
    const append = async (batch: readonly EnvelopeAppend[]): Promise<void> => {
      for (;;) {
        try {
          await open.log.append(batch);
          return;
        } catch (error) {
          if (!hasCode(error, 'store-unavailable')) throw error;
          await pause(20);
        }
      }
    };
    try {
      for (let round = 0; round < 40; round += 1) {
        await append(Array.from({ length: SENSORS }, (_, i) => envelope(i, `r${round}`)));
        for (const worker of workers) worker.wake(Array.from({ length: 16 }, (_, i) => i));
        if (round % 15 === 10) await server.restart();
        if (round % 7 === 0) await open.log.trim().catch(() => undefined);
      }
      await open.link.ready(5000);
      for (const worker of workers) await worker.caughtUp(AbortSignal.timeout(30_000));
      const [stored] = await open.db.query<{ n: number; ids: number }>(
        'SELECT count(*) AS n, count(DISTINCT (device, envelope_id)) AS ids FROM readings',
      );
      expect(stored).toEqual({ n: 40 * SENSORS, ids: 40 * SENSORS });
      expect(raised).toHaveLength(1);
    } finally {
      for (const worker of workers) await worker.stop();
      await second.close();
      await open.close();
      await server.stop();
    }
  });
});
