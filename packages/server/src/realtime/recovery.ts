/**
 * Brings a viewer from its cursor to the present: what the ring still holds from there, the rest page by page from the
 * store, in order, once, with back-pressure (as much as the socket takes, then on when it has drained). Viewers that stand
 * at the same message with the same filter get the same bytes, so that a storm of them is not put together anew for each.
 *
 * Guarantee: `onCaughtUp` is called synchronously at a moment when the cursor equals what the hub has delivered, so that
 * nothing can come between the last missed message and the first live one.
 * Failure: `onLost` when the store does not answer or has a hole where the viewer stands; nothing partial is skipped.
 */
import { boundMap } from '../lib/bound-map.ts';
import { type Chunk, type Stretch, stretchAfter } from './chunk.ts';
import { type Entry, filterKey } from './entry.ts';
import { entryAt, type PageReader } from './pages.ts';
import type { Ring } from './ring.ts';
import type { Viewer } from './viewer.ts';

/** Stretches that are kept for the next viewer who needs them; each is at most `JOIN_BYTES`, or one frame. */
const STRETCHES_KEPT = 64;

/** What recovery needs of the hub. */
export interface RecoveryOptions {
  readonly ring: Ring;
  readonly pages: PageReader;
  /** The offset up to which the hub has delivered. */
  readonly delivered: () => number;
  /** This was queued for the viewer. */
  readonly onSent: (viewer: Viewer, chunk: Chunk) => void;
  readonly onCaughtUp: (viewer: Viewer) => void;
  readonly onLost: (viewer: Viewer) => void;
}

/** Brings viewers to the present. */
export interface Recovery {
  /** Starts; `page` may hold the messages after the viewer's cursor when they were read already. */
  start(viewer: Viewer, page?: readonly Entry[]): void;
  /** Forgets what it kept: the history began anew. */
  clear(): void;
}

/** Creates the recovery of a hub. */
export function createRecovery(options: RecoveryOptions): Recovery {
  const { ring, pages } = options;
  const kept = new Map<string, Stretch>();

  function stretch(viewer: Viewer, page: readonly Entry[]): Stretch | null {
    const key = `${viewer.cursor}/${filterKey(viewer.filter)}`;
    const known = kept.get(key);
    if (known !== undefined) return known;
    const find = (offset: number): Entry | undefined => ring.get(offset) ?? entryAt(page, offset);
    const made = stretchAfter(find, viewer.filter, viewer.cursor, options.delivered());
    if (made === null) return null;
    kept.set(key, made);
    boundMap(kept, STRETCHES_KEPT);
    return made;
  }

  /** Goes on as far as the ring and `page` reach; then waits for the queue, asks the store, or is done. */
  function advance(viewer: Viewer, page: readonly Entry[]): void {
    if (viewer.state !== 'catching-up') return;
    const next = walk(viewer, page);
    if (next === 'wait') viewer.queue.whenEmpty(() => advance(viewer, page));
    else if (next === 'done') options.onCaughtUp(viewer);
    else void fetch(viewer);
  }

  function walk(viewer: Viewer, page: readonly Entry[]): 'wait' | 'done' | 'fetch' {
    while (viewer.cursor < options.delivered()) {
      const next = stretch(viewer, page);
      if (next === null) return 'fetch';
      viewer.cursor = next.last;
      if (next.chunk === null) continue;
      if (!viewer.queue.push('alerts', next.chunk.bytes, next.chunk.messages)) return 'wait';
      options.onSent(viewer, next.chunk);
      if (!viewer.queue.empty) return 'wait';
    }
    return 'done';
  }

  async function fetch(viewer: Viewer): Promise<void> {
    let page: readonly Entry[];
    try {
      page = await pages.page(viewer.cursor);
    } catch {
      page = [];
    }
    if (entryAt(page, viewer.cursor + 1) !== undefined) advance(viewer, page);
    else if (viewer.state === 'catching-up') options.onLost(viewer);
  }

  return {
    start: (viewer, page = []) => advance(viewer, page),
    clear: () => kept.clear(),
  };
}
