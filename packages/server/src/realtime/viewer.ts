/**
 * One viewer of a channel: its state, what it has seen, what waits for it.
 *
 * States: `catching-up` (reads what it missed, gets nothing live) -> `live` (gets what is fanned out) -> `closing` (gets
 * nothing more). `cursor` is the channel's offset up to which everything that its filter lets through was queued; it
 * only grows, so nothing is ever sent twice. `joinedAt` is the channel's newest offset when it came.
 */
import type { CloseName } from '@tocsin/protocol/close-codes';
import type { Filter } from './entry.ts';
import { textFrame } from './frame.ts';
import { type QueueLimits, ViewerQueue } from './queue.ts';
import type { Sink } from './sink.ts';

/** Where a viewer is. */
export type ViewerState = 'catching-up' | 'live' | 'closing';
/** What happens to a viewer. */
export type ViewerEvent = 'caught-up' | 'close';

/** Every step a viewer may take; an event without an entry changes nothing. */
export const VIEWER_STEPS: Readonly<Record<ViewerState, Partial<Record<ViewerEvent, ViewerState>>>> = {
  'catching-up': { 'caught-up': 'live', close: 'closing' },
  live: { close: 'closing' },
  closing: {},
};

/** Who closes viewers, and hears of their receipts. */
export interface ViewerHome {
  close(viewer: Viewer, name?: CloseName): void;
  /** One with this filter has received what lies after `after`, up to `upTo`. */
  received(filter: Filter, after: number, upTo: number): void;
}

/** A viewer, as the hub and its transport hold it. A class with few fields: thousands of them are held for hours. */
export class Viewer {
  state: ViewerState = 'catching-up';
  cursor: number;
  /** It goes on after a break, and has been promised all that it missed. */
  resumed = false;
  #receivedUpTo: number;
  readonly joinedAt: number;
  /** The same object for all viewers with this filter. */
  readonly filter: Filter;
  readonly sink: Sink;
  readonly queue: ViewerQueue;
  readonly #home: ViewerHome;

  constructor(home: ViewerHome, sink: Sink, limits: QueueLimits, filter: Filter, cursor: number, joinedAt: number) {
    this.#home = home;
    this.sink = sink;
    this.filter = filter;
    this.cursor = cursor;
    this.#receivedUpTo = cursor;
    this.joinedAt = joinedAt;
    this.queue = new ViewerQueue(sink, limits, () => this.close('slow'));
  }

  /** The offset up to which everything for this viewer was queued. */
  offset(): number {
    return this.cursor;
  }

  /** It says that it has everything up to `offset`; what it was not sent, or said before, is left out. */
  received(offset: number): void {
    const after = this.#receivedUpTo;
    const upTo = Math.min(offset, this.cursor);
    if (upTo <= after) return;
    this.#receivedUpTo = upTo;
    this.#home.received(this.filter, after, upTo);
  }

  /** Sends a message of the connection's own, ahead of waiting alerts. */
  send(message: object): void {
    this.queue.push('commands', textFrame(JSON.stringify(message)));
  }

  /** Ends: nothing more is sent. `name` undefined: the socket is gone already. */
  close(name?: CloseName): void {
    this.#home.close(this, name);
  }

  /** Takes a step; answers whether the state changed. */
  step(event: ViewerEvent): boolean {
    const next = VIEWER_STEPS[this.state][event];
    if (next === undefined) return false;
    this.state = next;
    return true;
  }
}
