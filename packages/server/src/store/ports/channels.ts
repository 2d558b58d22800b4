/**
 * Channels: ordered streams of messages to viewers.
 *
 * Guarantees: offsets of a channel start at 1 and grow by 1 in the order of commits, without gaps; a reader that has
 * seen n has seen all up to n. `epoch` changes only when the channel's history restarts.
 */
import type { Sql } from './database.ts';

/** One message of a channel. `body` is the message's `data` as JSON text, exactly as it is sent. */
export interface ChannelMessage {
  readonly channel: string;
  readonly offset: number;
  readonly type: string;
  readonly zoneId: string | null;
  /** Rank of the severity: extreme 4 … unknown 0. */
  readonly severity: number;
  readonly createdAt: number;
  readonly body: string;
}

/** Where a channel stands. */
export interface ChannelHead {
  readonly channel: string;
  readonly epoch: string;
  readonly head: number;
}

/** Reading side of the channels. */
export interface ChannelStore {
  /** Head and epoch; rejects when there is no such channel. */
  head(channel: string): Promise<ChannelHead>;
  /** Messages after `after`, oldest first, at most `limit`. */
  read(channel: string, after: number, limit: number): Promise<ChannelMessage[]>;
}

/** Messages that a channel keeps at least, however old; what a viewer may resume over (LIMITS.resumeMessages) is among them. */
export const MESSAGES_KEPT = 10_000;
/** How long a message is kept at least, in ms: 30 days. */
export const MESSAGES_KEPT_MS = 2_592_000_000;
/**
 * Messages that a channel keeps at most for a destination of notifications that has not come to them yet. Beyond that they go
 * all the same, and the destination counts them as lost.
 */
export const MESSAGES_KEPT_FOR_DESTINATIONS = 100_000;
/** A destination that nobody held for so long, in ms, is none that messages are kept for: a day. */
export const DESTINATION_LIVES_MS = 86_400_000;

/** Writing side of the channels. */
export interface ChannelWriter {
  /**
   * Takes the next `count` offsets and answers the first. The channel's row stays locked until the transaction ends,
   * and every other writer waits: call it last, and write right after it. Rejects when there is no such channel.
   */
  take(sql: Sql, channel: string, count: number): Promise<number>;
  /**
   * Deletes the oldest messages, a bounded number, that are neither among the newest {@link MESSAGES_KEPT} nor younger
   * than {@link MESSAGES_KEPT_MS} at `now`, nor wait for a destination of notifications that somebody delivers to (but see
   * {@link MESSAGES_KEPT_FOR_DESTINATIONS}). What stays has no gap. Answers how many went; 0: nothing is left to do.
   */
  trim(channel: string, now: number): Promise<number>;
}
