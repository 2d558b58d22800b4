/**
 * A process's view of one channel: every message in order, once, from the bus when it is quick and from the store when
 * it is not. The hub builds on it; it knows no viewers.
 *
 * Guarantees: `onMessages` gets every offset after the start, in order, without gaps. The head is read from the store at
 * the start and every `pollMs`, so what the bus lost arrives that much later. `onChecked` says up to where the store was
 * read and delivered, and as of when. A new epoch, a head that went back, or a hole in the store calls `onRestart`
 * instead: history began anew at the offset given.
 * Failure: a store or bus that does not answer is reported and asked again at the next poll; nothing is thrown.
 */
import type { PublishSubscribe, Unsubscribe } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { ChannelHead, ChannelMessage, ChannelStore } from '../store/ports/channels.ts';
import { type DropReason, type ReceivedMessage, subscribeChannel } from './channel.ts';
import { createSequencer } from './sequencer.ts';

/** Messages that may wait for an earlier one. */
export const PENDING_MOST = 1000;
/** Messages of one page from the store. */
export const FEED_PAGE = 200;

/** What a feed needs and whom it tells. */
export interface FeedOptions {
  readonly channel: string;
  readonly store: ChannelStore;
  readonly pubsub: PublishSubscribe;
  readonly clock: Clock;
  /** Time between two reads of the head, in ms. */
  readonly pollMs: number;
  /** Messages from before the start that are read into `onMessages` first (for the ring). */
  readonly preload: number;
  readonly onMessages: (messages: readonly ChannelMessage[]) => void;
  /** The store was read up to `head` as of `at` (Unix ms), and all of it was delivered. */
  readonly onChecked: (head: number, at: number) => void;
  readonly onRestart: () => void;
  /** Waited for between two pages of a gap. */
  readonly settled: () => Promise<void>;
  /** False while bus messages shall be left to the store, because too much waits already. */
  readonly hasRoom: () => boolean;
  readonly onDropped: (reason: DropReason) => void;
  /** Time from publication to arrival over the bus, in ms. */
  readonly onLag: (ms: number) => void;
  /** The store or the bus did not answer. */
  readonly onFailure: (part: 'store' | 'bus', error: unknown) => void;
}

/** A channel as this process sees it. */
export interface Feed {
  /** Null until the store has answered once. */
  readonly epoch: string | null;
  readonly delivered: number;
  /** Subscribes, reads the head once, and keeps reading it. Resolves after the first try, whatever came of it. */
  start(): Promise<void>;
  /** Reads the head in a read that begins after this call, and fills gaps; answers whether that worked. */
  refresh(): Promise<boolean>;
  stop(): Promise<void>;
}

/** Creates the feed of a channel. */
export function createFeed(options: FeedOptions): Feed {
  const { channel, store, clock } = options;
  const sequencer = createSequencer(0, PENDING_MOST);
  let epoch: string | null = null;
  let unsubscribe: Unsubscribe | null = null;
  let timer: NodeJS.Timeout | null = null;
  let stopped = false;
  let running: Promise<boolean> | null = null;
  let queued: Promise<boolean> | null = null;

  function hand(messages: readonly ChannelMessage[]): void {
    if (messages.length > 0) options.onMessages(messages);
  }

  function onBusMessage({ message, publishedAt }: ReceivedMessage): void {
    options.onLag(Math.max(0, clock.now() - publishedAt));
    if (stopped) return;
    if (epoch === null || !options.hasRoom()) {
      sequencer.noteHead(message.offset);
      return;
    }
    hand(sequencer.accept(message));
    if (sequencer.known > sequencer.delivered) void refresh();
  }

  async function begin(head: ChannelHead): Promise<void> {
    const from = Math.max(0, head.head - options.preload);
    const recent = await store.read(channel, from, options.preload);
    epoch = head.epoch;
    const waiting = sequencer.restart(head.head);
    hand(recent.filter((message) => message.offset <= head.head));
    hand(waiting);
  }

  function restart(head: ChannelHead, offset: number): void {
    epoch = head.epoch;
    const waiting = sequencer.restart(offset);
    options.onRestart();
    hand(waiting);
  }

  /** Reads page after page until `head` is delivered; answers false when the store had less than it said. */
  async function fill(head: ChannelHead): Promise<boolean> {
    while (sequencer.delivered < head.head && !stopped) {
      const page = await store.read(channel, sequencer.delivered, FEED_PAGE);
      const first = page[0];
      if (first === undefined) return false;
      if (first.offset > sequencer.delivered + 1) restart(head, first.offset - 1);
      for (const message of page) hand(sequencer.accept(message));
      await options.settled();
    }
    return true;
  }

  async function readOnce(): Promise<boolean> {
    const at = clock.now();
    const before = sequencer.delivered;
    try {
      const head = await store.head(channel);
      if (stopped) return false;
      if (epoch === null) await begin(head);
      else if (head.epoch !== epoch || head.head < before) restart(head, head.head);
      else sequencer.noteHead(head.head);
      if (!(await fill(head))) return false;
      options.onChecked(head.head, at);
      return true;
    } catch (error) {
      options.onFailure('store', error);
      return false;
    }
  }

  function refresh(): Promise<boolean> {
    if (stopped) return Promise.resolve(false);
    if (running === null) {
      running = readOnce().finally(() => {
        running = null;
      });
      return running;
    }
    // The one in flight may have read the head too early: the next one answers everybody who asks from now on.
    queued ??= running.then(() => {
      queued = null;
      return refresh();
    });
    return queued;
  }

  async function subscribe(): Promise<void> {
    if (unsubscribe !== null) return;
    try {
      const { pubsub, onDropped } = options;
      unsubscribe = await subscribeChannel({ pubsub, channel, onMessage: onBusMessage, onDropped });
    } catch (error) {
      options.onFailure('bus', error);
    }
  }

  async function poll(): Promise<void> {
    await subscribe();
    await refresh();
    if (!stopped) timer = setTimeout(() => void poll(), options.pollMs);
  }

  return {
    get epoch(): string | null {
      return epoch;
    },
    get delivered(): number {
      return sequencer.delivered;
    },
    start: poll,
    refresh,
    async stop() {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
      await running;
      await unsubscribe?.();
    },
  };
}
