/**
 * One viewer of a channel: its state, what it has seen, what waits for it.
 *
 * States: `catching-up` (reads what it missed, gets nothing live) -> `live` (gets what is fanned out) -> `closing` (gets
 * nothing more). `cursor` is the channel's offset up to which everything that its filter lets through was queued; it
 * only grows, so nothing is ever sent twice. `joinedAt` is the channel's newest offset when it came, `receivedUpTo` what its
 * receipts cover: at first the offset that it began at.
 */
import type { Filter } from './entry.ts';
import type { ViewerQueue } from './queue.ts';
import type { Sink } from './sink.ts';

/** Where a viewer is. */
export type ViewerState = { readonly kind: 'catching-up' } | { readonly kind: 'live' } | { readonly kind: 'closing' };
/** What happens to a viewer. */
export type ViewerEvent = 'caught-up' | 'close';

/** Every step a viewer may take; an event without an entry changes nothing. */
export const VIEWER_STEPS: Readonly<Record<ViewerState['kind'], Partial<Record<ViewerEvent, ViewerState['kind']>>>> = {
  'catching-up': { 'caught-up': 'live', close: 'closing' },
  live: { close: 'closing' },
  closing: {},
};

/** A viewer as the hub holds it. */
export interface Viewer {
  state: ViewerState;
  cursor: number;
  readonly joinedAt: number;
  receivedUpTo: number;
  readonly filter: Filter;
  readonly sink: Sink;
  readonly queue: ViewerQueue;
}

/** Takes a step; answers whether the state changed. */
export function step(viewer: Viewer, event: ViewerEvent): boolean {
  const kind = VIEWER_STEPS[viewer.state.kind][event];
  if (kind === undefined) return false;
  viewer.state = { kind };
  return true;
}
