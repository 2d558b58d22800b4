/** A worker by itself, without gateway, alerts or metrics: for benchmarks of the way from the log into the store. */
import { systemClock } from '@tocsin/server/lib/clock';
import type { Database } from '@tocsin/server/store/ports/database';
import { createLog } from '@tocsin/server/store/postgres/log';
import { createWorkStore } from '@tocsin/server/store/postgres/readings';
import { startWorker, type Worker } from '@tocsin/server/workers/worker';
import { createMeaning } from '@tocsin/server/app/meaning';

/** Starts it with the default parameters; without `detect` nothing watches waveforms. */
export function createWorkOnly(db: Database, detect = true): Worker {
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
  const { watchers: _watchers, ...blind } = createMeaning(settings).meaning;
  return startWorker({
    owner: 'bench',
    db,
    log: createLog(db),
    store: createWorkStore(db),
    meaning: detect ? createMeaning(settings).meaning : blind,
    complete: async ({ finding, key }) => ({ ...finding, fingerprint: `${key} ${finding.onset}` }),
    raise: async () => [],
    publish: () => undefined,
    now: () => systemClock.now(),
    standing: () => ({ rank: 0, workers: 1 }),
    seize: true,
    events: { retry: () => undefined, failed: () => undefined, lost: () => undefined },
  });
}
