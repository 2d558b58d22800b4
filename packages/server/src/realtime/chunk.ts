/** Frames joined into one write. Pure. */
import { type Entry, type Filter, passes } from './entry.ts';

/** Frames are joined up to this many bytes, so that what is joined always fits a socket with room. */
export const JOIN_BYTES = 32_768;

/** Frames that leave together. */
export interface Chunk {
  readonly bytes: Buffer;
  readonly messages: number;
  /** The channel's messages among them. */
  readonly entries: readonly Entry[];
}

/** Collects frames into chunks. */
export class ChunkBuilder {
  readonly #chunks: Chunk[] = [];
  #frames: Buffer[] = [];
  #entries: Entry[] = [];
  #size = 0;

  /** True when one more frame of this length would begin another chunk. */
  full(length: number): boolean {
    return this.#size > 0 && this.#size + length > JOIN_BYTES;
  }

  /** `entry`: the message that the frame is. */
  add(frame: Buffer, entry?: Entry): void {
    if (this.full(frame.length)) this.#close();
    this.#frames.push(frame);
    if (entry !== undefined) this.#entries.push(entry);
    this.#size += frame.length;
  }

  chunks(): readonly Chunk[] {
    this.#close();
    return this.#chunks;
  }

  #close(): void {
    const [only] = this.#frames;
    if (only === undefined) return;
    const bytes = this.#frames.length === 1 ? only : Buffer.concat(this.#frames, this.#size);
    this.#chunks.push({ bytes, messages: this.#frames.length, entries: this.#entries });
    this.#frames = [];
    this.#entries = [];
    this.#size = 0;
  }
}

/** What follows a message up to `last`, as one chunk at most; none when the filter lets nothing of it through. */
export interface Stretch {
  readonly chunk: Chunk | null;
  readonly last: number;
}

/**
 * The longest stretch of messages after `after`, up to `most`, that `find` has and that fits one chunk; null when it does not
 * even have the first.
 */
export function stretchAfter(
  find: (offset: number) => Entry | undefined,
  filter: Filter,
  after: number,
  most: number,
): Stretch | null {
  const builder = new ChunkBuilder();
  let last = after;
  while (last < most) {
    const entry = find(last + 1);
    if (entry === undefined) break;
    const wanted = passes(filter, entry);
    if (wanted && builder.full(entry.frame.length)) break;
    if (wanted) builder.add(entry.frame, entry);
    last = entry.offset;
  }
  if (last === after) return null;
  return { chunk: builder.chunks()[0] ?? null, last };
}
