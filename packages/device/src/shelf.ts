/** How full each file of the outbox is, and with what. Pure. */
import type { Place } from './journal.ts';

/** A file's contents in numbers. */
export interface ShelfFile {
  readonly file: number;
  /** Envelopes in it that wait. */
  readonly waiting: number;
}

/** The files by number. */
export interface Shelf {
  /** A file has `bytes` more. */
  grow(file: number, bytes: number): void;
  /** The record at a place is an envelope that waits. */
  put(place: Place): void;
  /** It waits no more. */
  take(place: Place): void;
  remove(file: number): void;
  oldest(): ShelfFile | null;
  /** Bytes of all files that hold nothing that waits. */
  waste(): number;
}

interface Numbers {
  bytes: number;
  waiting: number;
}

/** An empty shelf. */
export function createShelf(): Shelf {
  const files = new Map<number, Numbers>();
  let waste = 0;
  const of = (file: number): Numbers => {
    const known = files.get(file) ?? { bytes: 0, waiting: 0 };
    files.set(file, known);
    return known;
  };
  return {
    grow: (file, bytes) => {
      of(file).bytes += bytes;
      waste += bytes;
    },
    put: ({ file, length }) => {
      of(file).waiting += 1;
      waste -= length;
    },
    take: ({ file, length }) => {
      const numbers = files.get(file);
      if (numbers === undefined) return;
      numbers.waiting -= 1;
      waste += length;
    },
    remove: (file) => {
      waste -= files.get(file)?.bytes ?? 0;
      files.delete(file);
    },
    oldest: () => {
      let least: number | null = null;
      for (const file of files.keys()) if (least === null || file < least) least = file;
      return least === null ? null : { file: least, waiting: files.get(least)?.waiting ?? 0 };
    },
    waste: () => waste,
  };
}
