/**
 * Summaries beside the alerts of one destination: made at each interval, only the newest kept while nothing can be posted. Whoever holds
 * the destination makes them; the time of the last one is in the store, so that another holder goes on in the same rhythm.
 */
import type { Notifier, Outcome } from './notifier.ts';

/** The summaries of one destination. Times are Unix ms. */
export interface SummaryLane {
  /** This process holds the destination from now on; `last`: when a summary was due before. */
  begin(last: number | null, now: number): void;
  /** True when a summary is due and there is something to say: it takes the place of one that still waits. */
  due(now: number): boolean;
  /** Posts the next part of what waits; null when nothing does. A refused one is dropped as a whole. */
  post(notifier: Notifier, signal: AbortSignal): Promise<Outcome | null>;
  /** How long until the next is due. */
  waitMs(now: number): number;
}

/** Shortest interval, ms. */
const LEAST_INTERVAL_MS = 100;

/** Builds the lane. `texts` are the posts of a summary as of now; none: there is nothing to say. */
export function createSummaryLane(
  intervalMs: number,
  texts: () => readonly string[],
  replaced: () => void,
): SummaryLane {
  const everyMs = Math.max(intervalMs, LEAST_INTERVAL_MS);
  let next = Number.POSITIVE_INFINITY;
  let waiting: readonly string[] = [];
  return {
    begin(last, now) {
      // What another holder posted since is newer than what waits here.
      waiting = [];
      next = Math.max(now, (last ?? now) + everyMs);
    },
    due(now) {
      if (now < next) return false;
      next += everyMs * (Math.floor((now - next) / everyMs) + 1);
      const made = texts();
      if (made.length === 0) return false;
      if (waiting.length > 0) replaced();
      waiting = made;
      return true;
    },
    async post(notifier, signal) {
      const [text] = waiting;
      if (text === undefined || notifier.postText === undefined) return null;
      const outcome = await notifier.postText(text, signal);
      if (outcome.kind === 'sent') waiting = waiting.slice(1);
      if (outcome.kind === 'refused') waiting = [];
      return outcome;
    },
    waitMs: (now) => Math.max(0, next - now),
  };
}
