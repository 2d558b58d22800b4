import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { describeWith } from '@tocsin/testkit/needs';
import { startRedis } from '@tocsin/testkit/redis-server';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KEEPING } from '../bus/redis/log-test-place.suite.ts';
import { systemClock } from '../lib/clock.ts';
import { type Logger, silentLogger } from '../ops/logging.ts';
import { createMetrics, type Metrics } from '../ops/metrics.ts';
import { createLogBackendStore } from '../store/postgres/log-backend.ts';
import { openLog, type OpenLog } from './open-log.ts';
import { type Environment, readSettings } from './settings.ts';

let database: TestDatabase;
let metrics: Metrics;
let opened: OpenLog | undefined;
beforeEach(async () => {
  database = await openTestDatabase();
  metrics = createMetrics('test');
});
afterEach(async () => {
  await opened?.close();
  metrics.close();
  await database.close();
});

async function open(env: Environment, log: Logger, onChanged: (why: string) => void): Promise<OpenLog> {
  const read = readSettings(env, '/');
  if (!('settings' in read)) throw new Error(read.mistakes.join('\n'));
  opened = await openLog(read.settings, { db: database.db, clock: systemClock, log, metrics, onChanged });
  return opened;
}

describe('the log that the settings ask for', () => {
  test('a process that nobody saw while others changed its backend must end', async () => {
    const onChanged = vi.fn();
    await (await open({}, silentLogger, onChanged)).confirm();
    const backends = createLogBackendStore(database.db);
    const from = await backends.chosen();
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(onChanged).not.toHaveBeenCalled();
    await backends.change(from, { backend: 'redis', generation: 'another' }, []);
    await vi.waitFor(() => expect(onChanged).toHaveBeenCalledWith(expect.stringContaining('LOG_BACKEND')), 5000);
  });
});

describeWith(['redis'], 'the log in Redis that the settings ask for', () => {
  test('a server that would lose readings, met after a failover, is told', async () => {
    const server = await startRedis({ args: KEEPING });
    try {
      const warn = vi.fn();
      await open({ LOG_BACKEND: 'redis', REDIS_URL: server.url }, { ...silentLogger, warn }, () => undefined);
      await server.cli('config', 'set', 'appendonly', 'no');
      await server.cli('client', 'kill', 'type', 'normal');
      const told = (): unknown[] => warn.mock.calls.map(([fields]) => String((fields as { err?: unknown }).err));
      await vi.waitFor(() => expect(told()).toContainEqual(expect.stringContaining('appendonly yes')), 5000);
    } finally {
      await opened?.close();
      opened = undefined;
      await server.stop();
    }
  });

  test('says that it does not answer while its Redis is gone, and that it does soon after', async () => {
    const server = await startRedis({ args: KEEPING });
    try {
      const log = await open({ LOG_BACKEND: 'redis', REDIS_URL: server.url }, silentLogger, () => undefined);
      expect(log.answers()).toBe(true);
      await server.kill();
      await vi.waitFor(async () => {
        await log.records.append([]).catch(() => undefined);
        await log.records.completeUntil().catch(() => undefined);
        expect(log.answers()).toBe(false);
      }, 10_000);
      await server.restart();
      await vi.waitFor(() => expect(log.answers()).toBe(true), 10_000);
    } finally {
      await opened?.close();
      opened = undefined;
      await server.stop();
    }
  });
});
