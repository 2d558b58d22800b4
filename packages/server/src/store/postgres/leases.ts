/** Leases by name, by the store's clock: work that one process of the installation does at a time. */
import type { Database } from '../ports/database.ts';

const HOLD = `
INSERT INTO leases AS l (name, owner, lease_until) VALUES ($1, $2, now_ms() + $3)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
WHERE l.owner = excluded.owner OR l.lease_until < now_ms()`;

/** Takes or extends the lease for `ttlMs`; false while another owner has it. */
export async function holdLease(db: Database, name: string, owner: string, ttlMs: number): Promise<boolean> {
  return (await db.execute(HOLD, [name, owner, ttlMs], 'lease-hold')) === 1;
}

/** Gives it up. */
export async function dropLease(db: Database, name: string, owner: string): Promise<void> {
  await db.execute('DELETE FROM leases WHERE name = $1 AND owner = $2', [name, owner]);
}
