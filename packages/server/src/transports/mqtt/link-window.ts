/**
 * The messages of one connection on their way: handed to `take` as they arrive, many at once, and acknowledged in the order
 * of their arrival (MQTT 3.1.1 and 5, section 4.6) once each of them was taken.
 *
 * Guarantees: `acknowledge` is called only for a message whose `take` said so, and never after `close`: an id of one
 * connection is not known on the next. A message that must wait is tried again after its delay, and holds back those of its
 * device that come after it, so that they are tried in their order; one that was on its way already is not held back.
 * A message of QoS 0 is tried once.
 * Bounds: the room (`link-room.ts`) is shared by all connections of a link. `arrive` answers false when it is used up; the
 * caller then brings nothing more until there is some.
 * Failure: a `take` that rejects, which it must not, counts as one that says `later`.
 */
import type { Room } from './link-room.ts';
import type { MqttMessage, MqttVerdict, TakeMqttMessage } from './message.ts';

/** A message with what the connection must know of it. */
export interface Arrival {
  readonly message: MqttMessage;
  /** Packet id of QoS 1; null: QoS 0, nothing to acknowledge. */
  readonly packetId: number | null;
  /** Not to be taken, only acknowledged in its turn. */
  readonly skip: boolean;
}

/** What a window needs. */
export interface WindowOptions {
  readonly room: Room;
  readonly take: TakeMqttMessage;
  /** What a topic's messages keep their order with: the name of the device. */
  readonly laneOf: (topic: string) => string;
  /** Sends PUBACK; `waitedMs` since the message arrived. */
  readonly acknowledge: (packetId: number, waitedMs: number) => void;
  /** A message of QoS 0 could not be taken. */
  readonly dropped: (topic: string) => void;
  readonly monotonic: () => number;
}

/** The window of one connection. */
export interface Window {
  /** Takes a message in; false: the room is used up. */
  arrive(arrival: Arrival): boolean;
  /** Messages whose PUBACK is still to come. */
  unacknowledged(): number;
  /** Tries nothing again from now on; resolves when nothing is at `take` any more, with the acknowledgements given. */
  settle(): Promise<void>;
  /** The connection has ended. */
  close(): void;
}

interface Entry extends Arrival {
  readonly order: number;
  readonly arrivedAt: number;
  readonly bytes: number;
  done: boolean;
}

/** A device of which a message must wait. */
interface Lane {
  /** In the order of their arrival. */
  readonly waiting: Entry[];
  busy: boolean;
  timer: NodeJS.Timeout | undefined;
}

/** What a message takes beside its text, about. */
const ENTRY_BYTES = 256;
const RETRY_LEAST_MS = 20;
const RETRY_MOST_MS = 60_000;
const REJECTED: MqttVerdict = { kind: 'later', retryAfterMs: 1000 };

/** An empty window. */
export function createWindow(options: WindowOptions): Window {
  return new OrderedWindow(options);
}

class OrderedWindow implements Window {
  readonly #options: WindowOptions;
  /** QoS 1, in the order of arrival; those before `#first` are acknowledged. */
  #line: Entry[] = [];
  #first = 0;
  #orders = 0;
  /** At `take` now. */
  #taking = 0;
  #settling = false;
  #closed = false;
  #settled: (() => void)[] = [];
  readonly #lanes = new Map<string, Lane>();

  constructor(options: WindowOptions) {
    this.#options = options;
  }

  arrive(arrival: Arrival): boolean {
    const { room, monotonic } = this.#options;
    const { message, packetId } = arrival;
    const bytes = message.payload.length + message.topic.length + ENTRY_BYTES;
    const entry = { ...arrival, order: this.#orders, arrivedAt: monotonic(), bytes, done: false };
    this.#orders += 1;
    room.enter(bytes);
    if (packetId !== null) this.#line.push(entry);
    const lane = this.#lanes.size === 0 ? undefined : this.#lanes.get(this.#options.laneOf(message.topic));
    if (arrival.skip) this.#finish(entry);
    else if (lane !== undefined && packetId !== null) lane.waiting.push(entry);
    else void this.#try(entry);
    return !room.full();
  }

  unacknowledged(): number {
    return this.#line.length - this.#first;
  }

  settle(): Promise<void> {
    this.#settling = true;
    this.#stopTimers();
    return new Promise((resolve) => {
      this.#settled.push(resolve);
      this.#tellSettled();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTimers();
    // What is at `take` keeps its room until it is back.
    for (const { waiting } of this.#lanes.values()) for (const entry of waiting) this.#free(entry);
    for (const entry of this.#line.slice(this.#first)) if (entry.done) this.#free(entry);
    this.#line = [];
    this.#first = 0;
    this.#lanes.clear();
  }

  async #try(entry: Entry): Promise<MqttVerdict> {
    this.#taking += 1;
    let verdict = REJECTED;
    try {
      verdict = await this.#options.take(entry.message);
    } catch {
      // As if it had said so.
    }
    this.#taking -= 1;
    if (this.#closed) this.#free(entry);
    else if (verdict.kind === 'acknowledge') this.#finish(entry);
    else this.#wait(entry, verdict.retryAfterMs);
    this.#tellSettled();
    return verdict;
  }

  #finish(entry: Entry): void {
    entry.done = true;
    if (entry.packetId === null) return this.#free(entry);
    const now = this.#options.monotonic();
    for (let next = this.#line[this.#first]; next?.done === true; next = this.#line[this.#first]) {
      this.#first += 1;
      this.#options.acknowledge(next.packetId ?? 0, now - next.arrivedAt);
      this.#free(next);
    }
    if (this.#first > 1024 && this.#first * 2 > this.#line.length) {
      this.#line = this.#line.slice(this.#first);
      this.#first = 0;
    }
  }

  #wait(entry: Entry, afterMs: number): void {
    if (entry.packetId === null) {
      this.#options.dropped(entry.message.topic);
      return this.#free(entry);
    }
    const name = this.#options.laneOf(entry.message.topic);
    const lane = this.#lanes.get(name) ?? { waiting: [], busy: false, timer: undefined };
    this.#lanes.set(name, lane);
    const later = lane.waiting.findIndex(({ order }) => order > entry.order);
    lane.waiting.splice(later === -1 ? lane.waiting.length : later, 0, entry);
    this.#schedule(name, lane, afterMs);
  }

  #schedule(name: string, lane: Lane, afterMs: number): void {
    if (this.#settling || lane.busy || lane.timer !== undefined) return;
    const wait = Math.min(Math.max(afterMs, RETRY_LEAST_MS), RETRY_MOST_MS);
    lane.timer = setTimeout(() => {
      lane.timer = undefined;
      void this.#retry(name, lane);
    }, wait);
  }

  /** Tries what waits, one after the other, until one must wait again. */
  async #retry(name: string, lane: Lane): Promise<void> {
    lane.busy = true;
    let again: number | null = null;
    while (again === null && !this.#settling) {
      const entry = lane.waiting.shift();
      if (entry === undefined) break;
      const verdict = await this.#try(entry);
      if (this.#closed) return;
      if (verdict.kind === 'later') again = verdict.retryAfterMs;
    }
    lane.busy = false;
    if (again !== null) this.#schedule(name, lane, again);
    else if (lane.waiting.length === 0) this.#lanes.delete(name);
  }

  #free(entry: Entry): void {
    this.#options.room.leave(entry.bytes);
  }

  #stopTimers(): void {
    for (const lane of this.#lanes.values()) clearTimeout(lane.timer);
  }

  #tellSettled(): void {
    if (this.#taking > 0) return;
    for (const resolve of this.#settled.splice(0)) resolve();
  }
}
