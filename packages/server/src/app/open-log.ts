/**
 * The log that the settings ask for: in the store, or with its partitions of devices in Redis Streams (ADR 5).
 *
 * Order: opened before this process enters itself among the others, confirmed after (a change of the backend is for one
 * process alone). One that could not be seen meanwhile (frozen, cut off) and finds the backend changed must end: what it
 * appended would be read by nobody, what it works on is not what the others append to.
 */
import { adoptLogBackend, confirmLogBackend } from '../bus/redis/log-adopt.ts';
import { checkLogRedis } from '../bus/redis/log-check.ts';
import { LOG_COMMAND_TIMEOUT_MS, openRedisLog } from '../bus/redis/log.ts';
import { openRedisLink, type RedisLink } from '../bus/redis/link.ts';
import { redisPlaceOf } from '../bus/redis/place.ts';
import type { Clock } from '../lib/clock.ts';
import { hasCode } from '../lib/coded-error.ts';
import { repeat } from '../lib/repeat.ts';
import type { Logger } from '../ops/logging.ts';
import type { Metrics } from '../ops/metrics.ts';
import { throttled } from '../ops/throttled-log.ts';
import type { Database } from '../store/ports/database.ts';
import type { Log } from '../store/ports/log.ts';
import { createLogBackendStore } from '../store/postgres/log-backend.ts';
import { createLog } from '../store/postgres/log.ts';
import type { Settings } from './settings.ts';

/** A start waits so long for the log's Redis, ms: a connection is refused work until it stands. */
const CONNECT_MOST_MS = 10_000;
/** Nothing is accepted while it is away, and a try costs next to nothing: it is looked for often, ms. */
const OPEN_MOST_MS = 1000;
const UNSUITABLE = 'the log’s Redis may lose accepted readings';
/** How often it is looked whether the backend is still the same, ms. */
const LOOK_MS = 1000;

/** What it stands on. */
export interface LogGround {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Others have changed the backend: this process must end. */
  readonly onChanged: (why: string) => void;
}

/** An open log. */
export interface OpenLog {
  readonly records: Log;
  /** Rejects with `log-backend` when another process has changed the backend meanwhile; goes on looking after that. */
  confirm(): Promise<void>;
  /** False while envelopes cannot be appended for the Redis of the log; the store answers for itself. */
  answers(): boolean;
  close(): Promise<void>;
}

/** Opens it. Rejects with `log-redis-unsuitable`, `log-backend`, or `bus-unavailable` while its Redis is away. */
export async function openLog(settings: Settings, { db, clock, log, metrics, onChanged }: LogGround): Promise<OpenLog> {
  const store = createLog(db, { remember: settings.roles.includes('worker') });
  const backends = createLogBackendStore(db);
  const wanted = settings.logBackend;
  const place = redisPlaceOf(settings);
  const failures = throttled(log, 1000, clock);
  const needed = wanted === 'redis' || (await backends.chosen())?.backend === 'redis';
  const link: RedisLink | null =
    needed && place !== null
      ? openRedisLink({
          place,
          name: 'tocsin-log',
          commandTimeoutMs: LOG_COMMAND_TIMEOUT_MS,
          openMostMs: OPEN_MOST_MS,
          onError: (error) => void failures.warn('log-redis', { err: error }, 'the log’s Redis'),
          observe: (command, seconds) => metrics.redis.observe({ command }, seconds),
        })
      : null;
  try {
    await link?.ready(CONNECT_MOST_MS);
    if (wanted === 'redis' && link !== null) {
      await checkLogRedis(link);
      checkAgain(link, (err) => void failures.warn('log-redis-unsuitable', { err }, UNSUITABLE));
    }
    const choice = await adoptLogBackend({ wanted, backends, store, link, now: () => clock.now() });
    const records =
      wanted === 'redis' && link !== null
        ? openRedisLog({ link, store, backends, generation: choice.generation })
        : store;
    let endLooks = async (): Promise<void> => undefined;
    const look = async (): Promise<void> => {
      try {
        await confirmLogBackend(backends, choice);
      } catch (error) {
        if (error instanceof Error && hasCode(error, 'log-backend')) onChanged(error.message);
      }
    };
    return {
      records,
      confirm: async () => {
        await confirmLogBackend(backends, choice);
        endLooks = repeat([{ name: 'log backend', everyMs: LOOK_MS, work: look }], () => undefined);
      },
      answers: () => wanted === 'store' || link?.circuit() === 'closed',
      close: async () => {
        // Not waited for: the store may be frozen, and what a look finds now concerns nobody.
        void endLooks();
        await link?.close();
      },
    };
  } catch (error) {
    await link?.close();
    throw error;
  }
}

/** After a failover it may be another server, which was not told what the first was. One that is away is told elsewhere. */
function checkAgain(link: RedisLink, unsuitable: (error: unknown) => void): void {
  const check = (): void =>
    void checkLogRedis(link).catch((error: unknown) => {
      if (hasCode(error, 'log-redis-unsuitable')) unsuitable(error);
    });
  link.client.on('ready', check);
  link.client.on('+node', check);
  link.onCircuit((circuit) => {
    if (circuit === 'closed') check();
  });
}
