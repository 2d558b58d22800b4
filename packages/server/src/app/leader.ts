/**
 * One process of the installation at a time: whoever holds a lease in the store. For work that all could do and only one
 * should; two at once (one was frozen in the middle of it) must do no harm.
 */
import { repeat } from '../lib/repeat.ts';
import type { Database } from '../store/ports/database.ts';
import { dropLease, holdLease } from '../store/postgres/leases.ts';

const LEASE_MS = 10_000;
const RENEW_MS = 3000;

/** A candidate. */
export interface Leader {
  /** True while the lease is surely ours. */
  leads(): boolean;
  stop(): Promise<void>;
}

/** Stands for the lease `name`; the first answer is there when it resolves. */
export async function standForLeader(
  db: Database,
  name: string,
  owner: string,
  monotonic: () => number,
): Promise<Leader> {
  let until = Number.NEGATIVE_INFINITY;
  const hold = async (): Promise<void> => {
    const asked = monotonic();
    if (await holdLease(db, name, owner, LEASE_MS)) until = asked + LEASE_MS;
  };
  await hold().catch(() => undefined);
  const end = repeat([{ name: 'lease', everyMs: RENEW_MS, work: hold }], () => undefined);
  return {
    leads: () => monotonic() < until,
    stop: async () => {
      await end();
      until = Number.NEGATIVE_INFINITY;
      await dropLease(db, name, owner).catch(() => undefined);
    },
  };
}
