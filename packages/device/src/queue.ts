/**
 * What waits, in memory: an entry for each envelope on the disk, in two lanes. Says who is next and who goes when there is
 * too much. Pure.
 *
 * Order: urgent ones first, each lane in the order of reports; one that was put off lets later ones pass. When bounds are
 * passed the oldest telemetry goes first, urgent ones only when no telemetry is left that may go; an entry that is on its
 * way to the disk or to the server never goes.
 */

/** One envelope that waits. Times are of the monotonic counter. */
export interface Entry<Where> {
  readonly id: string;
  readonly sequence: number;
  readonly urgent: boolean;
  /** How many readings. */
  readonly count: number;
  /** Its bytes on the disk. */
  readonly bytes: number;
  where: Where;
  state: 'waiting' | 'taken' | 'gone';
  /** Tries that failed for a reason that may be its own. */
  attempts: number;
  notBefore: number;
}

/** How much may wait. */
export interface QueueBounds {
  readonly bytes: number;
  readonly envelopes: number;
}

/** The lanes. */
export interface Queue<Where> {
  /** True when there is room for `more`, if need be by dropping what may be dropped for it. */
  fits(more: { readonly count: number; readonly bytes: number }, urgent: boolean): boolean;
  add(entry: Entry<Where>): void;
  /** The entries that have to go to keep the bounds; they are removed. */
  trim(): Entry<Where>[];
  remove(entry: Entry<Where>): void;
  /** Takes the next that may be sent at `now`; null when there is none. */
  take(now: number): Entry<Where> | null;
  /** A taken entry waits again. */
  putBack(entry: Entry<Where>, notBefore: number): void;
  /** When the next waiting entry may be sent, 0 for at once; null when none waits. */
  earliest(): number | null;
  /** Everything that waits or is taken, in no order. */
  entries(): Iterable<Entry<Where>>;
  count(): number;
  bytes(): number;
}

interface Lane<Where> {
  list: Entry<Where>[];
  head: number;
}

/** Gone entries at the head of a lane before it is copied. */
const LANE_SLACK = 1024;

interface Sums {
  count: number;
  bytes: number;
}

/** An empty queue. */
export function createQueue<Where>(bounds: QueueBounds): Queue<Where> {
  const urgent: Lane<Where> = { list: [], head: 0 };
  const telemetry: Lane<Where> = { list: [], head: 0 };
  const all: Sums = { count: 0, bytes: 0 };
  /** What may be dropped: waiting telemetry, waiting urgent ones. */
  const loose: { readonly telemetry: Sums; readonly urgent: Sums } = {
    telemetry: { count: 0, bytes: 0 },
    urgent: { count: 0, bytes: 0 },
  };
  /** Waiting entries that were put off. */
  let putOff = 0;
  const loosen = (entry: Entry<Where>, times: 1 | -1): void => {
    add(entry.urgent ? loose.urgent : loose.telemetry, entry, times);
    if (entry.notBefore > 0) putOff += times;
  };
  const remove = (entry: Entry<Where>): void => {
    if (entry.state === 'gone') return;
    if (entry.state === 'waiting') loosen(entry, -1);
    add(all, entry, -1);
    entry.state = 'gone';
    settleHead(entry.urgent ? urgent : telemetry);
  };
  const passed = (): boolean => all.count > bounds.envelopes || all.bytes > bounds.bytes;
  return {
    fits: (more, isUrgent) => {
      const count = all.count - loose.telemetry.count - (isUrgent ? loose.urgent.count : 0);
      const kept = all.bytes - loose.telemetry.bytes - (isUrgent ? loose.urgent.bytes : 0);
      return count + more.count <= bounds.envelopes && kept + more.bytes <= bounds.bytes;
    },
    add: (entry) => {
      (entry.urgent ? urgent : telemetry).list.push(entry);
      add(all, entry, 1);
      if (entry.state === 'waiting') loosen(entry, 1);
    },
    trim: () => {
      const victims: Entry<Where>[] = [];
      while (passed()) {
        const victim = find(telemetry, isWaiting) ?? find(urgent, isWaiting);
        if (victim === null) break;
        remove(victim);
        victims.push(victim);
      }
      return victims;
    },
    remove,
    take: (now) => {
      const due = (entry: Entry<Where>): boolean => isWaiting(entry) && entry.notBefore <= now;
      const entry = find(urgent, due) ?? find(telemetry, due);
      if (entry === null) return null;
      entry.state = 'taken';
      loosen(entry, -1);
      return entry;
    },
    putBack: (entry, notBefore) => {
      if (entry.state !== 'taken') return;
      entry.state = 'waiting';
      entry.notBefore = notBefore;
      loosen(entry, 1);
    },
    earliest: () => {
      const waiting = loose.telemetry.count + loose.urgent.count;
      // Called for each report: only those that were put off are worth a look, and only when there are no others.
      if (waiting > putOff) return 0;
      let least: number | null = null;
      for (const entry of everything(urgent, telemetry)) {
        if (entry.state === 'waiting' && (least === null || entry.notBefore < least)) least = entry.notBefore;
      }
      return least;
    },
    entries: () => everything(urgent, telemetry),
    count: () => all.count,
    bytes: () => all.bytes,
  };
}

function isWaiting(entry: { readonly state: Entry<unknown>['state'] }): boolean {
  return entry.state === 'waiting';
}

function add(sums: Sums, entry: { readonly bytes: number }, times: 1 | -1): void {
  sums.count += times;
  sums.bytes += times * entry.bytes;
}

function find<Where>(lane: Lane<Where>, wanted: (entry: Entry<Where>) => boolean): Entry<Where> | null {
  for (let at = lane.head; at < lane.list.length; at += 1) {
    const entry = lane.list[at];
    if (entry !== undefined && entry.state !== 'gone' && wanted(entry)) return entry;
  }
  return null;
}

function settleHead<Where>(lane: Lane<Where>): void {
  while (lane.list[lane.head]?.state === 'gone') lane.head += 1;
  if (lane.head < LANE_SLACK || lane.head * 2 < lane.list.length) return;
  lane.list = lane.list.slice(lane.head);
  lane.head = 0;
}

function* everything<Where>(...lanes: readonly Lane<Where>[]): Generator<Entry<Where>> {
  for (const { list, head } of lanes) {
    for (let at = head; at < list.length; at += 1) {
      const entry = list[at];
      if (entry !== undefined && entry.state !== 'gone') yield entry;
    }
  }
}
