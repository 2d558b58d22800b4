/**
 * Day partitions of `readings` (UTC day of `received_at`): made ahead, dropped whole.
 *
 * Guarantees: safe with several processes at once; neither stops readers or writers for longer than two seconds.
 */
import type { Database } from '../ports/database.ts';

/** Makes the partitions from yesterday to `daysAhead` days after `now` (Unix ms); answers the names of new ones. */
export async function ensureReadingPartitions(db: Database, now: number, daysAhead: number): Promise<string[]> {
  const rows = await db.query<{ name: string }>('SELECT name FROM ensure_reading_partitions($1, $2) AS name', [
    now - DAY_MS,
    daysAhead + 1,
  ]);
  return rows.map((row) => row.name);
}

/**
 * Drops the partitions that end at or before `before` (Unix ms), oldest first; answers their names.
 * One that is in use by a long statement stays for the next time, and so do those after it.
 */
export async function dropReadingPartitions(db: Database, before: number): Promise<string[]> {
  const dropped: string[] = [];
  for (;;) {
    const [row] = await db.query<{ name: string | null }>('SELECT drop_oldest_reading_partition($1) AS name', [before]);
    if (row === undefined || row.name === null) return dropped;
    dropped.push(row.name);
  }
}

const DAY_MS = 86_400_000;
