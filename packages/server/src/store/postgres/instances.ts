/** Which processes work on this database: leases by the store's clock. */
import type { Database } from '../ports/database.ts';

/** Any number that no other advisory lock of ours has. */
const CLAIM_LOCK = 7_420_031;

/** Enters the instance when no other one is alive; false when one is. */
export function claimInstance(db: Database, id: string, leaseMs: number): Promise<boolean> {
  return db.transaction(async (sql) => {
    await sql.execute('SELECT pg_advisory_xact_lock($1)', [CLAIM_LOCK]);
    await sql.execute('DELETE FROM instances WHERE lease_until < now_ms()');
    const rows = await sql.query('SELECT id FROM instances WHERE id <> $1', [id]);
    if (rows.length > 0) return false;
    await sql.execute('INSERT INTO instances (id, lease_until) VALUES ($1, now_ms() + $2)', [id, leaseMs]);
    return true;
  });
}

/**
 * Extends the lease; false when another process is alive. A process that was frozen past its lease goes on when nobody
 * took its place: what it does is fenced by the leases of partitions.
 */
export async function renewInstance(db: Database, id: string, leaseMs: number): Promise<boolean> {
  const touched = await db.execute('UPDATE instances SET lease_until = now_ms() + $2 WHERE id = $1', [id, leaseMs]);
  return touched === 1 || claimInstance(db, id, leaseMs);
}

/** Takes the entry out. */
export async function withdrawInstance(db: Database, id: string): Promise<void> {
  await db.execute('DELETE FROM instances WHERE id = $1', [id]);
}
