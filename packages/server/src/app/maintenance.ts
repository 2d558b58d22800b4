/**
 * What must be done again and again so that nothing grows without end. Every piece is bounded and safe to do twice; of
 * several processes one does it at a time, a worker (rollups see to that themselves).
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { ALERT_CHANNEL } from '../alerts/ledger.ts';
import type { Logger } from '../ops/logging.ts';
import { type Repeated, repeat } from '../lib/repeat.ts';
import { createForgetting } from '../registry/forgetting.ts';
import { createRollup } from '../registry/rollup.ts';
import { createHostStore } from '../store/postgres/hosts.ts';
import { dropReadingPartitions, ensureReadingPartitions } from '../store/postgres/partitions.ts';
import { createNotificationStore } from '../store/postgres/notifications.ts';
import { createRollupStore } from '../store/postgres/rollups.ts';
import type { Ground } from './ground.ts';
import { standForLeader } from './leader.ts';
import type { Pipeline } from './pipeline.ts';
import type { Settings } from './settings.ts';

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
  { roles, readingsRetentionDays: retentionDays }: Settings,
): Promise<() => Promise<void>> {
  const { clock, log, store, identity } = ground;
  const { db, upkeep } = store;
  const works = roles.includes('worker');
  const partitions = (): Promise<unknown> => ensureReadingPartitions(upkeep, clock.now(), DAYS_AHEAD);
  const rollups = createRollupStore(upkeep);
  const notifications = createNotificationStore(upkeep, ALERT_CHANNEL);
  // Only what is rolled up may go, and statistics must know from where on raw readings may be missing.
  const retention = async (): Promise<void> => {
    await dropReadingPartitions(upkeep, await rollups.release(clock.now() - retentionDays * DAY));
  };
  const forgetHosts = createForgetting({
    hosts: createHostStore(upkeep),
    now: () => clock.now(),
    completeUntil: () => pipeline.log.completeUntil(),
    keptMs: retentionDays * DAY,
  });
  await partitions();
  if (!works) return () => Promise.resolve();
  const leader = await standForLeader(db, 'maintenance', ground.instance, () => clock.monotonic());
  const pieces: Repeated[] = [
    { name: 'reading partitions', everyMs: HOUR, work: partitions },
    { name: 'retention', everyMs: HOUR, work: retention },
    { name: 'forget hosts', everyMs: MINUTE, work: forgetHosts },
    { name: 'trim log', everyMs: SECOND, work: () => untilDone(() => pipeline.log.trim(), clock.monotonic) },
    {
      name: 'forget envelope ids',
      everyMs: MINUTE,
      work: () => untilDone(() => pipeline.log.forget(clock.now() - LIMITS.envelopeIdKeptMs.value), clock.monotonic),
    },
    { name: 'forget frames', everyMs: 5 * MINUTE, work: () => pipeline.log.forgetFrames(clock.now()) },
    {
      name: 'trim channels',
      everyMs: MINUTE,
      work: () => untilDone(() => pipeline.channels.trim('alerts', clock.now()), clock.monotonic),
    },
    {
      name: 'trim deliveries',
      everyMs: MINUTE,
      work: () => untilDone(() => pipeline.deliveries.trim(), clock.monotonic),
    },
    { name: 'trim notifications', everyMs: MINUTE, work: () => notifications.trim(clock.now()) },
    { name: 'sessions', everyMs: MINUTE, work: () => identity.cleanup(clock.now()) },
  ];
  const led = pieces.map((piece) => ({ ...piece, work: async () => (leader.leads() ? piece.work() : undefined) }));
  const end = repeat(led, (name, error) => log.warn({ piece: name, err: error }, 'maintenance will be tried again'));
  const rollup = createRollup({
    store: rollups,
    completeUntil: () => pipeline.log.completeUntil(),
    failed: (error) => logFailure(log, error),
  });
  rollup.start();
  return async () => {
    await rollup.stop();
    await end();
    await leader.stop();
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
