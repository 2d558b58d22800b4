/** When everything that was accepted has been worked off: for tests of what must not happen. */
import type { Database } from '@tocsin/server/store/ports/database';

const BEHIND = `
SELECT count(*) AS n FROM log_heads h JOIN log_positions p USING (partition) WHERE p.position < h.head`;

/**
 * Resolves once the workers have committed every record of the log, findings for detectors included: these enter it in the
 * transaction that moves the position they come from. Rejects after `timeoutMs`. For a log in PostgreSQL.
 */
export async function settled(db: Database, timeoutMs = 20_000): Promise<void> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    const [row] = await db.query<{ n: number }>(BEHIND);
    if (row?.n === 0) return;
    if (performance.now() > until) throw new Error(`${row?.n} partitions were not worked off in ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
