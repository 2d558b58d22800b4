/**
 * Hands messages to all live viewers.
 *
 * Guarantees: each viewer gets the messages in the order of `push`, each once (its cursor says what it has); viewers
 * with equal filters share the same bytes; what was pushed in one turn of the event loop leaves in one write.
 * It works in slices of about a millisecond and lets the event loop turn in between, so that ingest stays prompt.
 */
import type { Clock } from '../lib/clock.ts';
import { type Chunk, ChunkBuilder } from './chunk.ts';
import { type Entry, type Filter, filterKey, passes } from './entry.ts';
import type { Viewer } from './viewer.ts';

/** How long one slice may take, in ms. */
export const FANOUT_SLICE_MS = 1;
/** The clock is looked at once for this many viewers. */
export const VIEWERS_PER_LOOK = 32;

/** A message of the channel, or a frame for everybody that has no offset (a watermark). */
type Item = { readonly kind: 'entry'; readonly entry: Entry } | { readonly kind: 'control'; readonly frame: Buffer };

interface Group {
  readonly filter: Filter;
  readonly viewers: Set<Viewer>;
}

/** Until when this slice of work lasts, and viewers since the clock was last looked at, over all groups. */
interface Slice {
  endsAt: number;
  viewers: number;
}

/** The fan-out of one channel. */
export interface Fanout {
  /** Live viewers. */
  readonly viewers: number;
  /** Messages whose turn has not come. */
  readonly backlog: number;
  /** Resolves when everything pushed so far was handed out. */
  settled(): Promise<void>;
  /** The filter as viewers with an equal one share it. */
  shared(filter: Filter): Filter;
  add(viewer: Viewer): void;
  remove(viewer: Viewer): void;
  push(entry: Entry): void;
  /** A frame without an offset, in its place in the order. */
  control(frame: Buffer): void;
  /** Forgets what was not handed out yet. */
  clear(): void;
}

/**
 * What the fan-out needs. `onBatch`: seconds from the first push to the last viewer, and messages queued. `onHanded`: these
 * messages were just queued for so many viewers; called once for a slice of viewers with equal filters.
 */
export interface FanoutOptions {
  readonly clock: Clock;
  readonly onBatch?: (seconds: number, messages: number) => void;
  readonly onHanded?: (entries: readonly Entry[], viewers: number) => void;
}

/** Joins the frames that the filter lets through. */
function chunksFor(items: readonly Item[], filter: Filter, after: number): readonly Chunk[] {
  const builder = new ChunkBuilder();
  for (const item of items) {
    if (item.kind === 'control') builder.add(item.frame);
    else if (item.entry.offset > after && passes(filter, item.entry)) builder.add(item.entry.frame, item.entry);
  }
  return builder.chunks();
}

/** Answers how many of the chunks were queued, from the first on. */
function queueChunks(viewer: Viewer, chunks: readonly Chunk[]): number {
  let queued = 0;
  for (const chunk of chunks) {
    if (!viewer.queue.push('alerts', chunk.bytes, chunk.messages)) break;
    queued++;
  }
  return queued;
}

const countMessages = (chunks: readonly Chunk[]): number => chunks.reduce((sum, chunk) => sum + chunk.messages, 0);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Tells when a number of items was handed out, or forgotten. */
interface Progress {
  begun(items: number): void;
  done(items: number): void;
  /** Resolves when all that was begun until now is done; what is begun later is not waited for, or under load it never came. */
  settled(): Promise<void>;
}

function createProgress(): Progress {
  let [begun, done] = [0, 0];
  let waiting: { readonly upTo: number; readonly resolve: () => void }[] = [];
  return {
    begun: (items) => void (begun += items),
    done(items) {
      done += items;
      for (const { upTo, resolve } of waiting) if (upTo <= done) resolve();
      waiting = waiting.filter(({ upTo }) => upTo > done);
    },
    async settled() {
      if (done < begun) await new Promise<void>((resolve) => waiting.push({ upTo: begun, resolve }));
    },
  };
}

/** Creates the fan-out of one channel. */
export function createFanout(options: FanoutOptions): Fanout {
  const { clock } = options;
  const groups = new Map<string, Group>();
  let waiting: Item[] = [];
  let firstPushAt = 0;
  let running: Promise<void> | null = null;
  const progress = createProgress();
  let generation = 0;
  let size = 0;

  async function runGroup(group: Group, items: readonly Item[], slice: Slice, begun: number): Promise<number> {
    const offsets = items.flatMap((item) => (item.kind === 'entry' ? [item.entry.offset] : []));
    const first = offsets[0] ?? Number.POSITIVE_INFINITY;
    const last = offsets.at(-1) ?? 0;
    const shared = chunksFor(items, group.filter, 0);
    const sharedMessages = countMessages(shared);
    const sharedEntries = shared.flatMap((chunk) => chunk.entries);
    let messages = 0;
    /** Viewers that got all that is shared since it was last told. */
    let handed = 0;
    const tell = (): void => {
      if (handed > 0 && sharedEntries.length > 0) options.onHanded?.(sharedEntries, handed);
      handed = 0;
    };
    // A Set may change while it is walked: who leaves is skipped, who joins has its cursor behind these items.
    for (const viewer of group.viewers) {
      const chunks = viewer.cursor < first ? shared : chunksFor(items, group.filter, viewer.cursor);
      viewer.cursor = Math.max(viewer.cursor, last);
      const queued = queueChunks(viewer, chunks);
      if (chunks === shared && queued === shared.length) {
        messages += sharedMessages;
        handed++;
      } else {
        const part = chunks.slice(0, queued);
        messages += countMessages(part);
        for (const { entries } of part) if (entries.length > 0) options.onHanded?.(entries, 1);
      }
      if (++slice.viewers < VIEWERS_PER_LOOK) continue;
      slice.viewers = 0;
      if (clock.monotonic() < slice.endsAt) continue;
      tell();
      await turn();
      if (begun !== generation) break;
      slice.endsAt = clock.monotonic() + FANOUT_SLICE_MS;
    }
    tell();
    return messages;
  }

  async function run(): Promise<void> {
    await turn();
    while (waiting.length > 0) {
      const items = waiting;
      const startedAt = firstPushAt;
      waiting = [];
      const now = generation;
      const slice: Slice = { endsAt: clock.monotonic() + FANOUT_SLICE_MS, viewers: 0 };
      let messages = 0;
      for (const group of [...groups.values()]) {
        if (now !== generation) break;
        messages += await runGroup(group, items, slice, now);
      }
      options.onBatch?.((clock.monotonic() - startedAt) / 1000, messages);
      progress.done(items.length);
    }
    running = null;
  }

  function enqueue(item: Item): void {
    if (size === 0) return;
    if (waiting.length === 0) firstPushAt = clock.monotonic();
    waiting.push(item);
    progress.begun(1);
    running ??= run();
  }

  return {
    get viewers(): number {
      return size;
    },
    get backlog(): number {
      return waiting.length;
    },
    settled: () => progress.settled(),
    shared: (filter) => groups.get(filterKey(filter))?.filter ?? filter,
    add(viewer) {
      const key = filterKey(viewer.filter);
      const group = groups.get(key) ?? { filter: viewer.filter, viewers: new Set() };
      groups.set(key, group);
      group.viewers.add(viewer);
      size++;
    },
    remove(viewer) {
      const key = filterKey(viewer.filter);
      const group = groups.get(key);
      if (group?.viewers.delete(viewer) !== true) return;
      size--;
      if (group.viewers.size === 0) groups.delete(key);
    },
    push: (entry) => enqueue({ kind: 'entry', entry }),
    control: (frame) => enqueue({ kind: 'control', frame }),
    clear() {
      const forgotten = waiting.length;
      waiting = [];
      generation++;
      progress.done(forgotten);
    },
  };
}
