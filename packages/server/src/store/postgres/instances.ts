/** Which processes work on this database: leases by the store's clock. */
import type { Database } from '../ports/database.ts';

/** The lock under which instances enter. Any number that no other advisory lock of ours has. */
export const CLAIM_LOCK = 7_420_031;

/** What an instance says of itself. */
export interface InstanceFacts {
  readonly id: string;
  /** It has a bus that others can be on. */
  readonly shared: boolean;
  /** That bus carries its messages right now. */
  readonly onBus: boolean;
  /** It takes partitions of the log right now. */
  readonly worker: boolean;
}

const ALIVE = `
SELECT id, shared, on_bus AS "onBus", worker FROM instances WHERE id <> $1 AND lease_until >= now_ms() ORDER BY id`;

/** Rows that nobody withdrew. */
const LAPSED = `SELECT FROM instances WHERE id <> $1 AND shared AND lease_until < now_ms() LIMIT 1`;

const ENTER = `
INSERT INTO instances (id, shared, on_bus, worker, lease_until) VALUES ($1, $2, $3, $4, now_ms() + $5)
ON CONFLICT (id) DO UPDATE SET on_bus = excluded.on_bus, worker = excluded.worker, lease_until = excluded.lease_until`;

const RENEW = `
UPDATE instances SET lease_until = now_ms() + $4, on_bus = $2, worker = $3 WHERE id = $1 AND lease_until >= now_ms()`;

/** True when instances with a shared bus are written down whose leases have run out: dead, or about to renew them. */
export async function hasLapsed(db: Database, id: string): Promise<boolean> {
  return (await db.query(LAPSED, [id])).length > 0;
}

/** Enters the instance and answers the other living ones; null (not entered) when one of them or it itself must be alone. */
export function enterInstance(db: Database, facts: InstanceFacts, leaseMs: number): Promise<InstanceFacts[] | null> {
  return db.transaction(async (sql) => {
    await sql.execute('SELECT pg_advisory_xact_lock($1)', [CLAIM_LOCK]);
    await sql.execute('DELETE FROM instances WHERE lease_until < now_ms() AND id <> $1', [facts.id]);
    const others = await sql.query<InstanceFacts>(ALIVE, [facts.id]);
    if (others.some((other) => !other.shared || !facts.shared)) return null;
    await sql.execute(ENTER, [facts.id, facts.shared, facts.onBus, facts.worker, leaseMs]);
    return others;
  });
}

/** Extends the lease and answers the other living instances; enters anew, as {@link enterInstance}, when it had run out. */
export async function renewInstance(
  db: Database,
  facts: InstanceFacts,
  leaseMs: number,
): Promise<InstanceFacts[] | null> {
  const touched = await db.execute(RENEW, [facts.id, facts.onBus, facts.worker, leaseMs], 'instance-renew');
  if (touched === 0) return enterInstance(db, facts, leaseMs);
  return db.query<InstanceFacts>(ALIVE, [facts.id], 'instances-alive');
}

/** Takes the entry out. */
export async function withdrawInstance(db: Database, id: string): Promise<void> {
  await db.execute('DELETE FROM instances WHERE id = $1', [id]);
}
