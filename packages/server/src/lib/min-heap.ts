/** A binary heap of names by number: the least is at the top. Adding and taking cost O(log n), looking nothing. Pure. */

/** One entry. */
export interface HeapEntry {
  readonly key: number;
  readonly name: string;
}

/** A heap. Names may be in it more than once. */
export interface MinHeap {
  readonly size: number;
  /** The entry with the least key; undefined when it is empty. */
  top(): HeapEntry | undefined;
  add(entry: HeapEntry): void;
  /** Takes the top out and puts `next` in, when there is one. */
  replaceTop(next?: HeapEntry): void;
  clear(): void;
}

/** Creates an empty heap. */
export function createMinHeap(): MinHeap {
  const entries: HeapEntry[] = [];

  function keyAt(index: number): number {
    return entries[index]?.key ?? Number.POSITIVE_INFINITY;
  }

  function rise(start: number, entry: HeapEntry): void {
    let index = start;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = entries[parent];
      if (above === undefined || above.key <= entry.key) break;
      entries[index] = above;
      index = parent;
    }
    entries[index] = entry;
  }

  function sink(entry: HeapEntry): void {
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      const child = keyAt(left + 1) < keyAt(left) ? left + 1 : left;
      const below = entries[child];
      if (below === undefined || below.key >= entry.key) break;
      entries[index] = below;
      index = child;
    }
    entries[index] = entry;
  }

  return {
    get size(): number {
      return entries.length;
    },
    top: () => entries[0],
    add: (entry) => rise(entries.length, entry),
    replaceTop(next) {
      if (next !== undefined) return sink(next);
      const last = entries.pop();
      if (last !== undefined && entries.length > 0) sink(last);
    },
    clear: () => void (entries.length = 0),
  };
}
