/**
 * What becomes of a channel's messages in this process: who was connected, what was handed out, what was received.
 *
 * Guarantees: for each message `connected` are the open viewers whose filter let it through when it came; `sent` those of
 * them that it was handed to (written to their socket, or queued for it); `resent` connections that were opened after it
 * and got it because they resumed; `received` the connections of both kinds whose cumulative receipt covers it. Each
 * connection counts once in each of them, whatever it sends.
 * Cost: a message costs something for each filter in use and each slice of its fan-out, a receipt something for each
 * message that it newly covers; nothing is allocated for a viewer and a message.
 * Bounds: the newest {@link ACCOUNT_MESSAGES} messages, and of those that are written to the store only what is younger than
 * {@link ACCOUNT_MS}; 6 KB each, 13 MB at most. What happens to older ones is not counted. A message that leaves before its
 * last changes were taken is told to `onLost`.
 */
import type { Clock } from '../lib/clock.ts';
import type { DeliveryRow } from '../store/ports/deliveries.ts';
import { type Entry, type Filter, filterKey, passes } from './entry.ts';
import { createLagCounts, type LagCounts } from './lag-counts.ts';

/** Messages that are accounted for at the same time. */
export const ACCOUNT_MESSAGES = 2048;
/** How long after a message what happens to it counts, in ms: 15 minutes. */
export const ACCOUNT_MS = 900_000;

/** What an entry must say of itself to be accounted for. */
export type Accountable = Pick<Entry, 'offset' | 'at' | 'zoneId' | 'severity'>;

/** What the account needs. */
export interface DeliveryAccountOptions {
  readonly clock: Clock;
  /** {@link ACCOUNT_MESSAGES} when absent. */
  readonly messages?: number;
  /** A receipt came; `seconds` since the commit of the newest message that it newly covers. */
  readonly onReceipt?: (seconds: number) => void;
  /** Changes of a message went before they were taken. */
  readonly onLost?: () => void;
}

/** The account of one channel. */
export interface DeliveryAccount {
  /** A viewer with this filter is there from the next message on. */
  opened(filter: Filter): void;
  closed(filter: Filter): void;
  /** The channel's next message; call it before it is handed to anybody. */
  published(entry: Accountable): void;
  /** These were just handed to so many viewers that were there when they came. */
  handed(entries: readonly Accountable[], viewers: number): void;
  /** These were just handed to one connection that was opened when the channel stood at `joinedAt`. */
  caughtUp(entries: readonly Accountable[], joinedAt: number): void;
  /** A viewer with this filter has received what lies after `after`, up to `upTo`; it was handed all of that. */
  received(filter: Filter, after: number, upTo: number): void;
  /** The channel's history began anew. */
  clear(): void;
  /** Forgets what is written and too old. Then answers what changed since it was last taken, at most `most`. */
  take(most: number): DeliveryRow[];
  /** These could not be written: they count as changed again. */
  giveBack(rows: readonly DeliveryRow[]): void;
}

interface Count {
  offset: number;
  at: number;
  zoneId: string | null;
  severity: number;
  connected: number;
  sent: number;
  resent: number;
  received: number;
  firstSentAt: number | null;
  lastSentAt: number | null;
  firstReceivedAt: number | null;
  lastReceivedAt: number | null;
  /** Changed since it was taken. */
  dirty: boolean;
  readonly send: LagCounts;
  readonly receive: LagCounts;
}

/** What a count begins with. */
const NOTHING = {
  connected: 0,
  sent: 0,
  resent: 0,
  received: 0,
  firstSentAt: null,
  lastSentAt: null,
  firstReceivedAt: null,
  lastReceivedAt: null,
  dirty: true,
} as const;

/** A count of this message, in the place of a used one when there is one. */
function begin(used: Count | undefined, { offset, at, zoneId, severity }: Accountable): Count {
  const own = { offset, at, zoneId, severity, ...NOTHING };
  if (used === undefined) return { ...own, send: createLagCounts(), receive: createLagCounts() };
  used.send.clear();
  used.receive.clear();
  return Object.assign(used, own);
}

function rowOf(count: Count): DeliveryRow {
  const { offset, connected, sent, resent, received, firstSentAt, lastSentAt, firstReceivedAt, lastReceivedAt } = count;
  return {
    offset,
    connected,
    sent,
    resent,
    received,
    firstSentAt,
    lastSentAt,
    firstReceivedAt,
    lastReceivedAt,
    send: count.send.sketch(),
    receive: count.receive.sketch(),
  };
}

function addSent(count: Count, viewers: number, now: number): void {
  count.sent += viewers;
  if (count.firstSentAt === null || now < count.firstSentAt) count.firstSentAt = now;
  if (count.lastSentAt === null || now > count.lastSentAt) count.lastSentAt = now;
  count.send.add(now - count.at, viewers);
  count.dirty = true;
}

function addReceived(count: Count, now: number): void {
  count.received++;
  if (count.firstReceivedAt === null || now < count.firstReceivedAt) count.firstReceivedAt = now;
  if (count.lastReceivedAt === null || now > count.lastReceivedAt) count.lastReceivedAt = now;
  count.receive.add(now - count.at, 1);
  count.dirty = true;
}

/** The counts of the newest messages, each in the place of its offset; places are used again. */
interface Book {
  readonly counts: (Count | undefined)[];
  /** The newest offset that was seen. */
  newest: number;
  /** Up to here nothing is begun any more: it was forgotten, and its row would be written over. */
  floor: number;
  get(offset: number): Count | undefined;
  /** The count of an entry, begun if need be; undefined when it is too old for that. */
  open(entry: Accountable): Count | undefined;
}

function createBook(capacity: number, onLost: () => void): Book {
  const book: Book = {
    counts: [],
    newest: 0,
    floor: 0,
    get(offset) {
      const count = book.counts[offset % capacity];
      return count?.offset === offset ? count : undefined;
    },
    open(entry) {
      const { offset } = entry;
      const place = offset % capacity;
      const held = book.counts[place];
      if (held?.offset === offset) return held;
      if (offset <= book.floor || offset <= book.newest - capacity) return undefined;
      if (held?.dirty === true) onLost();
      book.newest = Math.max(book.newest, offset);
      const count = begin(held, entry);
      book.counts[place] = count;
      return count;
    },
  };
  return book;
}

/** Creates the account of one channel. */
export function createDeliveryAccount(options: DeliveryAccountOptions): DeliveryAccount {
  const { clock, onReceipt } = options;
  const capacity = options.messages ?? ACCOUNT_MESSAGES;
  const groups = new Map<string, { readonly filter: Filter; open: number }>();
  const onLost = (): void => options.onLost?.();
  let book = createBook(capacity, onLost);
  /** The time as of the last `take`: looked at for messages that were resent, of which there may be thousands at once. */
  let lately = clock.now();
  let nextPlace = 0;

  function forgetOld(now: number): void {
    for (const [place, count] of book.counts.entries()) {
      if (count === undefined || count.dirty || now - count.at <= ACCOUNT_MS) continue;
      book.counts[place] = undefined;
      book.floor = Math.max(book.floor, count.offset);
    }
  }

  function resend(entry: Accountable): void {
    let count = book.get(entry.offset);
    if (count === undefined && lately - entry.at <= ACCOUNT_MS) count = book.open(entry);
    if (count === undefined) return;
    count.resent++;
    count.dirty = true;
  }

  return {
    opened(filter) {
      const key = filterKey(filter);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { filter, open: 1 });
      else group.open++;
    },
    closed(filter) {
      const key = filterKey(filter);
      const group = groups.get(key);
      if (group !== undefined && --group.open === 0) groups.delete(key);
    },
    published(entry) {
      let connected = 0;
      for (const group of groups.values()) if (passes(group.filter, entry)) connected += group.open;
      book.newest = Math.max(book.newest, entry.offset);
      // Nobody is there: whoever resumes over it later begins its count.
      if (connected === 0) return;
      const count = book.open(entry);
      if (count !== undefined) count.connected += connected;
    },
    handed(entries, viewers) {
      const now = clock.now();
      for (const entry of entries) {
        const count = book.get(entry.offset);
        if (count !== undefined) addSent(count, viewers, now);
      }
    },
    caughtUp(entries, joinedAt) {
      for (const entry of entries) {
        if (entry.offset <= joinedAt) resend(entry);
        else {
          const count = book.get(entry.offset);
          if (count !== undefined) addSent(count, 1, clock.now());
        }
      }
    },
    received(filter, after, upTo) {
      const now = clock.now();
      let newest: Count | undefined;
      for (let offset = Math.max(after, book.newest - capacity) + 1; offset <= upTo; offset++) {
        const count = book.get(offset);
        if (count === undefined || !passes(filter, count)) continue;
        addReceived(count, now);
        newest = count;
      }
      if (newest !== undefined) onReceipt?.(Math.max(0, now - newest.at) / 1000);
    },
    clear() {
      book = createBook(capacity, onLost);
    },
    take(most) {
      lately = clock.now();
      forgetOld(lately);
      const rows: DeliveryRow[] = [];
      // Goes round, so that with more changes than `most` each has its turn.
      for (let looked = 0; looked < capacity && rows.length < most; looked++) {
        const count = book.counts[nextPlace];
        nextPlace = (nextPlace + 1) % capacity;
        if (count?.dirty !== true) continue;
        rows.push(rowOf(count));
        count.dirty = false;
      }
      return rows;
    },
    giveBack(rows) {
      for (const { offset } of rows) {
        const count = book.get(offset);
        if (count !== undefined) count.dirty = true;
      }
    },
  };
}
