/**
 * Puts a channel's messages in order, whatever the bus did to them: lost, doubled, swapped. Pure bookkeeping; the hub
 * asks the store for what is missing.
 *
 * Guarantee: `accept` hands out every offset after the start exactly once, in order.
 * Bound: at most `pendingMost` messages wait for an earlier one; more are dropped, the store has them.
 */
import type { ChannelMessage } from '../store/ports/channels.ts';

/** The order of one channel. */
export interface Sequencer {
  /** Everything up to here was handed out. */
  readonly delivered: number;
  /** The highest offset that is known to exist. */
  readonly known: number;
  /** Takes a message; answers those that may go out now, in order (none, one or many). */
  accept(message: ChannelMessage): ChannelMessage[];
  /** Notes that the channel reaches to `head`. */
  noteHead(head: number): void;
  /** Starts anew after `offset`, and hands out what waits right behind it. */
  restart(offset: number): ChannelMessage[];
}

/** Creates a sequencer that starts after `offset`. */
export function createSequencer(offset: number, pendingMost: number): Sequencer {
  const pending = new Map<number, ChannelMessage>();
  let delivered = offset;
  let known = offset;

  function drain(ready: ChannelMessage[]): ChannelMessage[] {
    for (let next = pending.get(delivered + 1); next !== undefined; next = pending.get(delivered + 1)) {
      pending.delete(next.offset);
      delivered = next.offset;
      ready.push(next);
    }
    return ready;
  }

  return {
    get delivered(): number {
      return delivered;
    },
    get known(): number {
      return Math.max(known, delivered);
    },
    accept(message) {
      known = Math.max(known, message.offset);
      if (message.offset <= delivered) return [];
      if (message.offset > delivered + 1) {
        if (pending.size < pendingMost) pending.set(message.offset, message);
        return [];
      }
      pending.delete(message.offset);
      delivered = message.offset;
      return drain([message]);
    },
    noteHead(head) {
      known = Math.max(known, head);
    },
    restart(start) {
      delivered = start;
      known = start;
      for (const waiting of pending.keys()) {
        if (waiting <= start) pending.delete(waiting);
        else known = Math.max(known, waiting);
      }
      return drain([]);
    },
  };
}
