/**
 * Tells a message that was heard already: each publisher numbers what it sends, and for one topic only a number above all
 * heard before is new. So a text that someone with access to Redis plays again is dropped, and so is one that a Cluster got
 * twice because its first answer was lost.
 *
 * Order: messages of one publisher and topic arrive in their order or not at all; one that was overtaken counts as old.
 * Bounds: a publisher is remembered for two minutes after its last message (what is older does not open any more: `seal.ts`,
 * 60 s from the publisher's clock, which may be 60 s ahead), and at most 10,000 pairs of publisher and topic; past that the
 * one that was silent longest is forgotten. Only those who hold the cluster's key get so far. Pure but for its memory.
 */
import { SEAL_FRESH_MS } from '../seal.ts';

/** How long a publisher's last number is remembered, in ms. */
const KEPT_MS = 2 * SEAL_FRESH_MS;
const PAIRS_MOST = 10_000;

/** What was heard. */
export interface ReplayGuard {
  /** Whether the message is new; it is not any more after that. `now` in ms, only growing. */
  accept(publisher: string, topic: string, number: number, now: number): boolean;
  /** Pairs that are remembered. */
  readonly size: number;
}

/** Creates it, empty. */
export function createReplayGuard(): ReplayGuard {
  // In the order of the last message, so that the first are the longest silent.
  const heard = new Map<string, { readonly number: number; readonly at: number }>();
  return {
    accept(publisher, topic, number, now) {
      const pair = `${publisher} ${topic}`;
      const last = heard.get(pair);
      if (last !== undefined && number <= last.number) return false;
      heard.delete(pair);
      heard.set(pair, { number, at: now });
      for (const [oldest, { at }] of heard) {
        if (now - at <= KEPT_MS && heard.size <= PAIRS_MOST) break;
        heard.delete(oldest);
      }
      return true;
    },
    get size(): number {
      return heard.size;
    },
  };
}
