import { openTestDatabase } from '@tocsin/testkit/database';
import { expect, test, vi } from 'vitest';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../ops/logging.ts';
import { createMetrics } from '../ops/metrics.ts';
import { createLogBackendStore } from '../store/postgres/log-backend.ts';
import { openLog } from './open-log.ts';
import { readSettings } from './settings.ts';

test('a process that nobody saw while others changed the backend of the log must end', async () => {
  const { db, close } = await openTestDatabase();
  const metrics = createMetrics('test');
  const onChanged = vi.fn();
  const read = readSettings({}, '/');
  if (!('settings' in read)) throw new Error('settings');
  const open = await openLog(read.settings, { db, clock: systemClock, log: silentLogger, metrics, onChanged });
  try {
    await open.confirm();
    const backends = createLogBackendStore(db);
    const from = await backends.chosen();
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(onChanged).not.toHaveBeenCalled();
    await backends.change(from, { backend: 'redis', generation: 'another' }, []);
    await vi.waitFor(() => expect(onChanged).toHaveBeenCalledWith(expect.stringContaining('LOG_BACKEND')), 5000);
  } finally {
    await open.close();
    metrics.close();
    await close();
  }
});
