/**
 * The recent messages of a channel as built frames. Offsets in it are contiguous and end at the newest; bounded by
 * number and bytes, the oldest goes first.
 */
import type { Entry } from './entry.ts';

/** The recent messages. */
export interface Ring {
  /** The oldest offset that is held; one more than the newest when nothing is. */
  readonly first: number;
  get(offset: number): Entry | undefined;
  /** Adds the next message; one that does not follow the newest starts the ring anew. */
  push(entry: Entry): void;
  clear(): void;
}

/** Creates a ring of at most `capacity` messages and `bytesMost` bytes of frames. */
export function createRing(capacity: number, bytesMost: number): Ring {
  const slots: (Entry | undefined)[] = [];
  let first = 1;
  let next = 1;
  let bytes = 0;

  function dropOldest(): void {
    bytes -= slots[first % capacity]?.frame.length ?? 0;
    slots[first % capacity] = undefined;
    first++;
  }
  function clear(): void {
    slots.length = 0;
    bytes = 0;
    first = next;
  }

  return {
    get first(): number {
      return first;
    },
    get: (offset) => (offset >= first && offset < next ? slots[offset % capacity] : undefined),
    push(entry) {
      if (entry.offset !== next) {
        clear();
        first = entry.offset;
      }
      next = entry.offset;
      while (next - first >= capacity || (first < next && bytes + entry.frame.length > bytesMost)) dropOldest();
      slots[entry.offset % capacity] = entry;
      bytes += entry.frame.length;
      next = entry.offset + 1;
    },
    clear,
  };
}
