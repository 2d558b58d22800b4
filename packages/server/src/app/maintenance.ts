/** What must be done again and again so that nothing grows without end. Every piece is bounded and safe to do twice. */
import { LIMITS } from '@tocsin/protocol/limits';
import type { Logger } from '../ops/logging.ts';
import { type Repeated, repeat } from '../lib/repeat.ts';
import { createRollup } from '../registry/rollup.ts';
import { dropReadingPartitions, ensureReadingPartitions } from '../store/postgres/partitions.ts';
import { createRollupStore } from '../store/postgres/rollups.ts';
import type { Ground } from './ground.ts';
import type { Pipeline } from './pipeline.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Days of readings that have their partition before they begin. */
const DAYS_AHEAD = 7;

/** Makes what must be there before the first reading; then starts the rest. Answers how to end it. */
export async function startMaintenance(
  ground: Ground,
  pipeline: Pipeline,
  retentionDays: number,
): Promise<() => Promise<void>> {
  const { clock, log, store, identity } = ground;
  const { db } = store;
  const partitions = (): Promise<unknown> => ensureReadingPartitions(db, clock.now(), DAYS_AHEAD);
  const rollups = createRollupStore(db);
  // Only what is rolled up may go, and statistics must know from where on raw readings may be missing.
  const retention = async (): Promise<void> => {
    await dropReadingPartitions(db, await rollups.release(clock.now() - retentionDays * DAY));
  };
  await partitions();
  const pieces: Repeated[] = [
    { name: 'reading partitions', everyMs: HOUR, work: partitions },
    { name: 'retention', everyMs: HOUR, work: retention },
    { name: 'trim log', everyMs: SECOND, work: () => untilDone(() => pipeline.log.trim(), clock.monotonic) },
    {
      name: 'forget envelope ids',
      everyMs: MINUTE,
      work: () => untilDone(() => pipeline.log.forget(clock.now() - LIMITS.envelopeIdKeptMs.value), clock.monotonic),
    },
    {
      name: 'trim channels',
      everyMs: MINUTE,
      work: () => untilDone(() => pipeline.channels.trim('alerts', clock.now()), clock.monotonic),
    },
    { name: 'sessions', everyMs: MINUTE, work: () => identity.cleanup(clock.now()) },
  ];
  const end = repeat(pieces, (name, error) => log.warn({ piece: name, err: error }, 'maintenance will be tried again'));
  const rollup = createRollup({
    store: rollups,
    completeUntil: () => pipeline.log.completeUntil(),
    failed: (error) => logFailure(log, error),
  });
  rollup.start();
  return async () => {
    await rollup.stop();
    await end();
  };
}

function logFailure(log: Logger, error: unknown): void {
  log.warn({ piece: 'rollups', err: error }, 'maintenance will be tried again');
}

/** Goes on while full portions come back, for two seconds at most. */
async function untilDone(work: () => Promise<number>, monotonic: () => number): Promise<void> {
  const until = monotonic() + 2 * SECOND;
  while ((await work()) > 0 && monotonic() < until);
}
