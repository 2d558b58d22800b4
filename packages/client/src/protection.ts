/**
 * Whether an application may say "you would hear of an alert": `protected`, `catching-up` or `not-protected`. Pure.
 *
 * Protected means: what the server has proved to have sent (a watermark, or the welcome of a fresh connection) has been
 * handled by the application, is younger than two watermark periods by a clock that nobody sets, and nothing stands
 * against it. A green connection alone proves nothing.
 */

/** The three states. */
export type ProtectionState = 'protected' | 'catching-up' | 'not-protected';

/** What is known at a moment. Times are ms of a monotonic clock. */
export interface ProtectionView {
  readonly now: number;
  /** A welcomed connection delivers. */
  readonly delivering: boolean;
  /** Why not, where that is known. */
  readonly lostReason: string;
  /** When the main connection was welcomed. */
  readonly welcomedAt: number;
  readonly periodMs: number;
  /** When the newest proof that has been handled arrived; null: none since the connection was lost. */
  readonly coveredAt: number | null;
  /** What was missed over a gap is still being fetched. */
  readonly gapOpen: boolean;
  /** Signatures can be checked, or it is known that they cannot. */
  readonly keysReady: boolean;
  /** Why something was passed over that should have been delivered; empty: nothing was. */
  readonly tainted: string;
}

/** A state, why, and when time alone would end it (null: never). */
export interface Protection {
  readonly state: ProtectionState;
  readonly reason: string;
  readonly until: number | null;
}

const is = (state: ProtectionState, reason: string, until: number | null = null): Protection => ({
  state,
  reason,
  until,
});

/** The state at a moment. */
export function protectionOf(view: ProtectionView): Protection {
  if (!view.delivering) return is('not-protected', view.lostReason);
  if (view.tainted) return is('not-protected', view.tainted);
  if (!view.keysReady) return is('not-protected', 'no-keys');
  const until = (view.coveredAt ?? view.welcomedAt) + 2 * view.periodMs;
  if (view.now >= until) return is('not-protected', 'no-watermark');
  if (view.gapOpen) return is('catching-up', 'gap', until);
  if (view.coveredAt === null) return is('catching-up', 'resuming', until);
  return is('protected', 'watermark', until);
}
