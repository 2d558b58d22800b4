/** Retention of sessions, refresh tokens and tickets: small deletes, so that no lock is held for long. */
import type { IdentityStores } from '../store/ports/identity.ts';

/** How long what has ended is kept: a refresh token that comes late is still told apart from one that never was. */
const KEPT_MS = 86_400_000;
const BATCH = 1000;
/** Batches of one call for each table; what is left waits for the next call. */
const BATCHES = 50;

/** How many rows went. */
export interface CleanupCounts {
  readonly sessions: number;
  readonly refreshTokens: number;
  readonly tickets: number;
}

async function inBatches(once: (limit: number) => Promise<number>): Promise<number> {
  let total = 0;
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const count = await once(BATCH);
    total += count;
    if (count < BATCH) break;
  }
  return total;
}

/** Deletes what ended more than a day before `now` (Unix ms), and tickets whose time is over. */
export async function cleanup(
  stores: Pick<IdentityStores, 'sessions' | 'tickets'>,
  now: number,
): Promise<CleanupCounts> {
  return {
    tickets: await inBatches((limit) => stores.tickets.deleteExpired(now, limit)),
    refreshTokens: await inBatches((limit) => stores.sessions.deleteExpiredRefreshTokens(now - KEPT_MS, limit)),
    sessions: await inBatches((limit) => stores.sessions.deleteEnded(now - KEPT_MS, limit)),
  };
}
