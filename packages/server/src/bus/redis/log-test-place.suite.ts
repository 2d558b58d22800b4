/** What the tests of the log on Redis Streams share: servers that keep what they acknowledge, and logs over them. */
import { openTestDatabase } from '@tocsin/testkit/database';
import type { RedisServer } from '@tocsin/testkit/redis-server';
import type { Database } from '../../store/ports/database.ts';
import type { Log } from '../../store/ports/log.ts';
import type { LogBackendStore } from '../../store/ports/log-backend.ts';
import { createLog } from '../../store/postgres/log.ts';
import { createLogBackendStore } from '../../store/postgres/log-backend.ts';
import { openRedisLink, type RedisLink, type RedisPlace } from './link.ts';
import { LOG_COMMAND_TIMEOUT_MS, openRedisLog } from './log.ts';

/** Arguments of a server that keeps what it acknowledges, but for the last second. */
export const KEEPING = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'] as const;

/** Makes running servers keep what they acknowledge. */
export async function keep(servers: readonly RedisServer[]): Promise<void> {
  for (const server of servers) await server.cli('config', 'set', 'appendonly', 'yes');
}

/** A log over a Redis and a fresh database. */
export interface TestLog {
  readonly log: Log;
  readonly store: Log;
  readonly backends: LogBackendStore;
  readonly link: RedisLink;
  readonly db: Database;
  /** Another process on the same two. */
  second(): Promise<{ readonly log: Log; readonly link: RedisLink; close(): Promise<void> }>;
  close(): Promise<void>;
}

/** A link for the log, connected. */
export async function openLogLink(place: RedisPlace, commandTimeoutMs = LOG_COMMAND_TIMEOUT_MS): Promise<RedisLink> {
  const link = openRedisLink({ place, name: 'log-test', onError: () => undefined, commandTimeoutMs });
  if (!(await link.ready(10_000))) throw new Error('no Redis');
  return link;
}

/** Opens a log in a generation of its own. */
export async function openTestLog(place: RedisPlace, commandTimeoutMs?: number): Promise<TestLog> {
  const database = await openTestDatabase();
  const generation = `g${process.pid}-${performance.now()}`;
  const store = createLog(database.db);
  const backends = createLogBackendStore(database.db);
  const open = async (): Promise<{ log: Log; link: RedisLink }> => {
    const link = await openLogLink(place, commandTimeoutMs);
    return { link, log: openRedisLog({ link, store, backends, generation }) };
  };
  const first = await open();
  return {
    ...first,
    store,
    backends,
    db: database.db,
    second: async () => {
      const other = await open();
      return { ...other, close: () => other.link.close() };
    },
    close: async () => {
      await first.link.close();
      await database.close();
    },
  };
}
