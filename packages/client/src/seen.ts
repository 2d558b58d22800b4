/**
 * Which alerts this page was told of, so that no revision is told twice, and an old one never after a newer one.
 * Bounded: of the ids, the ones that were touched longest ago are forgotten.
 */
import type { ViewerAlert } from './alert-shape.ts';

/** Ids that are remembered. */
export const SEEN_MOST = 5000;

/** Memory of alerts. */
export interface Seen {
  /** What this alert is to the page: its first word of it, news of it, or old. Remembers it unless it is old. */
  classify(alert: ViewerAlert): 'first' | 'newer' | 'old';
  /** The earliest `sentAt` of those that are not resolved; null when there are none. */
  oldestOpen(): number | null;
}

/** Creates an empty one. */
export function createSeen(most: number = SEEN_MOST): Seen {
  const known = new Map<string, { readonly revision: number; readonly openSince: number | null }>();
  return {
    classify({ id, revision, state, sentAt }) {
      const before = known.get(id);
      if (before !== undefined && before.revision >= revision) return 'old';
      // A Map keeps the order in which keys were added: the newest touched stands last.
      known.delete(id);
      known.set(id, { revision, openSince: state === 'resolved' ? null : sentAt });
      for (const [oldest] of known) {
        if (known.size <= most) break;
        known.delete(oldest);
      }
      return before === undefined ? 'first' : 'newer';
    },
    oldestOpen() {
      let oldest: number | null = null;
      for (const { openSince } of known.values()) {
        if (openSince !== null) oldest = Math.min(oldest ?? openSince, openSince);
      }
      return oldest;
    },
  };
}
