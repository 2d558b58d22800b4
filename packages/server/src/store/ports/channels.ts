/**
 * Channels: ordered streams of messages to viewers.
 *
 * Guarantees: offsets of a channel start at 1 and grow by 1 in the order of commits, without gaps; a reader that has
 * seen n has seen all up to n. `epoch` changes only when the channel's history restarts.
 */

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
