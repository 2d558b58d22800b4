/**
 * Brings a viewer from its cursor to the present: what the ring still holds from there, the rest page by page from the
 * store, in order, once, with back-pressure (as much as the socket takes, then on when it has drained).
 *
 * Guarantee: `onCaughtUp` is called synchronously at a moment when the cursor equals what the hub has delivered, so that
 * nothing can come between the last missed message and the first live one.
 * Failure: `onLost` when the store does not answer or has a hole where the viewer stands; nothing partial is skipped.
 */
import type { ChannelMessage, ChannelStore } from '../store/ports/channels.ts';
import { type Entry, entryOf, passes } from './entry.ts';
import type { Ring } from './ring.ts';
import type { Viewer } from './viewer.ts';

/** Messages of one page from the store. */
export const RECOVERY_PAGE = 100;
/** Pages that are read from the store at the same time, whatever the number of viewers. */
export const RECOVERY_READS = 4;

/** Reads pages; viewers that need the same page at the same time share one read. */
export interface PageReader {
  /** Messages after `after` as entries, at most {@link RECOVERY_PAGE}. */
  page(after: number): Promise<readonly Entry[]>;
}

/** Creates the reader of a channel, with at most `reads` reads in flight. */
export function createPageReader(store: ChannelStore, channel: string, reads: number = RECOVERY_READS): PageReader {
  const inFlight = new Map<number, Promise<readonly Entry[]>>();
  const waiting: (() => void)[] = [];
  let busy = 0;

  async function read(after: number): Promise<readonly Entry[]> {
    if (busy >= reads) await new Promise<void>((resolve) => waiting.push(resolve));
    else busy++;
    try {
      const messages: ChannelMessage[] = await store.read(channel, after, RECOVERY_PAGE);
      return messages.map(entryOf);
    } finally {
      // The place goes straight to the next one waiting.
      const next = waiting.shift();
      if (next === undefined) busy--;
      else next();
    }
  }

  return {
    page(after) {
      const shared = inFlight.get(after);
      if (shared !== undefined) return shared;
      const reading = read(after).finally(() => inFlight.delete(after));
      inFlight.set(after, reading);
      return reading;
    },
  };
}

/** What recovery needs of the hub. */
export interface RecoveryOptions {
  readonly ring: Ring;
  readonly pages: PageReader;
  /** The offset up to which the hub has delivered. */
  readonly delivered: () => number;
  readonly onSent: (messages: number) => void;
  /** A message was queued for this viewer. */
  readonly onHanded?: (viewer: Viewer, entry: Entry) => void;
  readonly onCaughtUp: (viewer: Viewer) => void;
  readonly onLost: (viewer: Viewer) => void;
}

/** Brings viewers to the present. */
export interface Recovery {
  /** Starts; `page` may hold the first messages after the viewer's cursor when they were read already. */
  start(viewer: Viewer, page?: readonly Entry[]): void;
}

/** Creates the recovery of a hub. */
export function createRecovery(options: RecoveryOptions): Recovery {
  const { ring } = options;

  /** Queues what follows the cursor; answers false when the socket is full or the viewer is gone. */
  function give(viewer: Viewer, entry: Entry): boolean {
    if (entry.offset === viewer.cursor + 1) {
      viewer.cursor = entry.offset;
      if (passes(viewer.filter, entry)) {
        if (!viewer.queue.push('alerts', entry.frame)) return false;
        options.onSent(1);
        options.onHanded?.(viewer, entry);
      }
    }
    return viewer.queue.empty;
  }

  /** Goes on as far as the ring and `page` reach; then waits for the queue, asks the store, or is done. */
  function advance(viewer: Viewer, page: readonly Entry[]): void {
    if (viewer.state.kind !== 'catching-up') return;
    viewer.sink.cork();
    const next = walk(viewer, page);
    viewer.sink.uncork();
    if (next === 'wait') viewer.queue.whenEmpty(() => advance(viewer, page));
    else if (next === 'done') options.onCaughtUp(viewer);
    else void fetch(viewer);
  }

  function walk(viewer: Viewer, page: readonly Entry[]): 'wait' | 'done' | 'fetch' {
    const base = page[0]?.offset ?? 0;
    while (viewer.cursor < options.delivered()) {
      const offset = viewer.cursor + 1;
      const entry = ring.get(offset) ?? page[offset - base];
      if (entry === undefined || entry.offset !== offset) return 'fetch';
      if (!give(viewer, entry)) return 'wait';
    }
    return 'done';
  }

  async function fetch(viewer: Viewer): Promise<void> {
    let page: readonly Entry[];
    try {
      page = await options.pages.page(viewer.cursor);
    } catch {
      page = [];
    }
    if (page[0]?.offset === viewer.cursor + 1) advance(viewer, page);
    else if (viewer.state.kind === 'catching-up') options.onLost(viewer);
  }

  return { start: (viewer, page = []) => advance(viewer, page) };
}
