/**
 * Without a shared bus only one process may work on a database: two would not hear of each other's changes in time.
 *
 * A row with a lease by the store's clock says who that is. A process that died leaves its lease to run out, so a start
 * right after waits for it; one that finds another alive refuses to start.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError } from '../lib/coded-error.ts';
import { repeat } from '../lib/repeat.ts';
import type { Database } from '../store/ports/database.ts';
import { claimInstance, renewInstance, withdrawInstance } from '../store/postgres/instances.ts';

const LEASE_MS = 6000;
const RENEW_MS = 1500;
const RETRY_MS = 250;

/** Claims the database for `instance`. Rejects with `second-process`. `onLost`: another process has taken over. */
export async function claimDatabase(db: Database, instance: string, onLost: () => void): Promise<() => Promise<void>> {
  const until = performance.now() + LEASE_MS + 2000;
  while (!(await claimInstance(db, instance, LEASE_MS))) {
    if (performance.now() > until) {
      const detail = 'another process works on this database; several need a shared bus (REDIS_URL)';
      throw new CodedError('second-process', detail);
    }
    await pause(RETRY_MS);
  }
  const end = repeat(
    [{ name: 'renew', everyMs: RENEW_MS, work: async () => (await renewInstance(db, instance, LEASE_MS)) || onLost() }],
    () => undefined,
  );
  return async () => {
    await end();
    await withdrawInstance(db, instance).catch(() => undefined);
  };
}
