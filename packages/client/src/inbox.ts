/**
 * What has arrived and waits for the application: one at a time, in order, bounded.
 *
 * Guarantee: `handle` never runs twice at a time; after `keep` nothing else of before is begun any more.
 */

/** Messages that wait at most. */
export const INBOX_MESSAGES = 1000;
/** UTF-16 units of them at most, as they came. */
export const INBOX_CHARACTERS = 8_388_608;

/** Waiting items. */
export interface Inbox<Item> {
  readonly size: number;
  /** Takes an item of this many characters; false when there is no room for it. */
  push(item: Item, characters: number): boolean;
  /** The item that came last and waits still, to be changed by who put it there; undefined when none waits. */
  last(): Item | undefined;
  /** Nothing waits, nothing is being handled. */
  readonly idle: boolean;
  /** Forgets everything else that waits. */
  keep(wanted: (item: Item) => boolean): void;
}

/** Creates it. `handle` must not reject. */
export function createInbox<Item>(handle: (item: Item) => Promise<void>): Inbox<Item> {
  let waiting: { readonly item: Item; readonly characters: number }[] = [];
  let characters = 0;
  let busy = false;

  async function work(): Promise<void> {
    busy = true;
    for (let entry = waiting.shift(); entry !== undefined; entry = waiting.shift()) {
      characters -= entry.characters;
      await handle(entry.item);
    }
    busy = false;
  }

  return {
    get size(): number {
      return waiting.length;
    },
    push(item, length) {
      // A single large one always fits: else it would never be handled.
      const full = waiting.length >= INBOX_MESSAGES || (waiting.length > 0 && characters + length > INBOX_CHARACTERS);
      if (full) return false;
      waiting.push({ item, characters: length });
      characters += length;
      if (!busy) void work();
      return true;
    },
    last: () => waiting.at(-1)?.item,
    get idle(): boolean {
      return !busy;
    },
    keep(wanted) {
      waiting = waiting.filter(({ item }) => wanted(item));
      characters = waiting.reduce((sum, entry) => sum + entry.characters, 0);
    },
  };
}
