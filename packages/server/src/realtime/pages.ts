/**
 * Pages of a channel's history, read from the store once for everybody who needs them: a page begins at a multiple of its
 * size, so that viewers who lost their connections at different messages share it, at the same time or soon after another.
 *
 * Bounds: so many reads at a time whatever the number of viewers; full pages, which never change, are kept up to so many
 * bytes, the longest unused goes first.
 */
import type { ChannelStore } from '../store/ports/channels.ts';
import { type Entry, entryOf } from './entry.ts';

/** Messages of one page from the store. */
export const RECOVERY_PAGE = 100;
/** Pages that are read from the store at the same time, whatever the number of viewers. */
export const RECOVERY_READS = 4;
/** Frames of pages that are kept, in bytes: 10,000 alerts of usual size. */
export const PAGES_BYTES = 16_777_216;

/** Reads pages. */
export interface PageReader {
  /** The page with the message after `after`, and what follows in it; empty, or without that message, when there is none. */
  page(after: number): Promise<readonly Entry[]>;
  /** Forgets everything: the history began anew. */
  clear(): void;
}

/** Bounds of a reader, as the constants above say. */
export interface PageLimits {
  readonly reads: number;
  readonly bytes: number;
}

interface Kept {
  readonly entries: readonly Entry[];
  readonly bytes: number;
}

/** The message at `offset` of a page, if it is in it. */
export function entryAt(page: readonly Entry[], offset: number): Entry | undefined {
  const first = page[0];
  if (first === undefined) return undefined;
  const entry = page[offset - first.offset];
  return entry?.offset === offset ? entry : undefined;
}

/** Creates the reader of a channel. */
export function createPageReader(
  store: ChannelStore,
  channel: string,
  limits: PageLimits = { reads: RECOVERY_READS, bytes: PAGES_BYTES },
): PageReader {
  const inFlight = new Map<number, Promise<readonly Entry[]>>();
  const kept = new Map<number, Kept>();
  const waiting: (() => void)[] = [];
  let keptBytes = 0;
  let busy = 0;
  let generation = 0;

  async function read(start: number): Promise<readonly Entry[]> {
    if (busy >= limits.reads) await new Promise<void>((resolve) => waiting.push(resolve));
    else busy++;
    const asked = generation;
    try {
      const entries = (await store.read(channel, start, RECOVERY_PAGE)).map(entryOf);
      if (asked === generation && entries.length === RECOVERY_PAGE) keep(start, entries);
      return entries;
    } finally {
      // The place goes straight to the next one waiting.
      const next = waiting.shift();
      if (next === undefined) busy--;
      else next();
    }
  }

  function keep(start: number, entries: readonly Entry[]): void {
    const bytes = entries.reduce((sum, entry) => sum + entry.frame.length, 0);
    keptBytes += bytes - (kept.get(start)?.bytes ?? 0);
    kept.set(start, { entries, bytes });
    for (const [oldest, page] of kept) {
      if (keptBytes <= limits.bytes) return;
      kept.delete(oldest);
      keptBytes -= page.bytes;
    }
  }

  function begin(start: number): Promise<readonly Entry[]> {
    const reading = read(start).finally(() => {
      if (inFlight.get(start) === reading) inFlight.delete(start);
    });
    inFlight.set(start, reading);
    return reading;
  }

  return {
    page(after) {
      const start = after - (after % RECOVERY_PAGE);
      const known = kept.get(start);
      if (known !== undefined) {
        kept.delete(start);
        kept.set(start, known);
        return Promise.resolve(known.entries);
      }
      const shared = inFlight.get(start);
      if (shared === undefined) return begin(start);
      // One that is on its way may have begun before the message was there: the next one, which all share again, has not.
      return shared.then((entries) =>
        entryAt(entries, after + 1) === undefined ? (inFlight.get(start) ?? begin(start)) : entries,
      );
    },
    clear() {
      generation++;
      inFlight.clear();
      kept.clear();
      keptBytes = 0;
    },
  };
}
