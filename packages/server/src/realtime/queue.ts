/**
 * What waits for one viewer, in lanes: commands first, then alerts. Telemetry does not wait here: it is offered, and who has
 * no room for it is shown the latest later (`live-hub.ts`).
 *
 * Guarantees: order within a lane; at most `socketBytes` wait in the socket (one larger frame only into an empty one);
 * what is pushed while the socket has room is written at once, and frames that leave together leave in one write.
 * Bounds: more than `messages` or `bytes` waiting is an overflow: the queue empties itself, calls `onOverflow` once and takes
 * nothing more.
 * A queue with nothing in it holds no memory of its own and no timer.
 */
import type { Sink } from './sink.ts';

/** Lanes in which order is kept. */
export type Lane = 'commands' | 'alerts';

/** Bounds of a queue. */
export interface QueueLimits {
  readonly socketBytes: number;
  readonly messages: number;
  readonly bytes: number;
}

interface Item {
  readonly bytes: Buffer;
  readonly messages: number;
}

const NOTHING: Item[] = [];

/** The queue of one viewer. A class with few fields: thousands of them wait empty for hours. */
export class ViewerQueue {
  readonly #sink: Sink;
  readonly #limits: QueueLimits;
  readonly #onOverflow: () => void;
  #commands = NOTHING;
  #alerts = NOTHING;
  #bytes = 0;
  #messages = 0;
  #awaiting = false;
  #ended = false;
  #onEmpty: (() => void) | null = null;

  constructor(sink: Sink, limits: QueueLimits, onOverflow: () => void) {
    this.#sink = sink;
    this.#limits = limits;
    this.#onOverflow = onOverflow;
  }

  /** Bytes that wait here (not in the socket). */
  get bytes(): number {
    return this.#bytes;
  }

  /** True when nothing waits here. */
  get empty(): boolean {
    return this.#commands.length === 0 && this.#alerts.length === 0;
  }

  /** Adds frames that hold `messages` messages; answers false when this was too much. */
  push(lane: Lane, frames: Buffer, messages = 1): boolean {
    if (this.#ended || !this.#sink.open) return false;
    if (this.empty && this.#fits(frames.length)) {
      this.#sink.write(frames);
      return true;
    }
    const limits = this.#limits;
    if (this.#messages + messages > limits.messages || this.#bytes + frames.length > limits.bytes) {
      this.end();
      this.#onOverflow();
      return false;
    }
    this.#waiting(lane).push({ bytes: frames, messages });
    this.#bytes += frames.length;
    this.#messages += messages;
    this.#awaitDrain();
    return true;
  }

  /** Writes frames now, or not at all: answers false when something waits or the socket has no room for them. */
  offer(frames: Buffer): boolean {
    if (!this.hasRoom(frames.length)) return false;
    this.#sink.write(frames);
    return true;
  }

  /** True when {@link offer} would take so many bytes. */
  hasRoom(bytes: number): boolean {
    return !this.#ended && this.#sink.open && this.empty && this.#fits(bytes);
  }

  /** Calls `callback` once, when nothing waits here any more and the socket has drained; never when the queue ends before. */
  whenDrained(callback: () => void): void {
    if (this.#ended) return;
    this.#onEmpty = callback;
    this.#awaitDrain();
  }

  /** Calls `callback` once, when nothing waits here any more; at once when nothing does. */
  whenEmpty(callback: () => void): void {
    if (this.#ended) return;
    if (this.empty) callback();
    else this.#onEmpty = callback;
  }

  /** Forgets everything; later pushes do nothing. */
  end(): void {
    this.#ended = true;
    this.#commands = NOTHING;
    this.#alerts = NOTHING;
    this.#bytes = 0;
    this.#messages = 0;
    this.#onEmpty = null;
  }

  #waiting(lane: Lane): Item[] {
    if (lane === 'commands') {
      if (this.#commands === NOTHING) this.#commands = [];
      return this.#commands;
    }
    if (this.#alerts === NOTHING) this.#alerts = [];
    return this.#alerts;
  }

  #fits(length: number): boolean {
    const before = this.#sink.writableLength;
    return before === 0 || before + length <= this.#limits.socketBytes;
  }

  /** Writes from the front of a lane; answers what stays because the socket is full. */
  #flushLane(items: Item[]): Item[] {
    let sent = 0;
    for (const item of items) {
      if (!this.#fits(item.bytes.length)) break;
      this.#sink.write(item.bytes);
      this.#bytes -= item.bytes.length;
      this.#messages -= item.messages;
      sent++;
    }
    return sent === items.length ? NOTHING : items.slice(sent);
  }

  #flush(): void {
    if (this.#ended || !this.#sink.open) return;
    this.#sink.cork();
    this.#commands = this.#flushLane(this.#commands);
    if (this.#commands.length === 0) this.#alerts = this.#flushLane(this.#alerts);
    this.#sink.uncork();
    if (!this.empty) {
      this.#awaitDrain();
      return;
    }
    const callback = this.#onEmpty;
    this.#onEmpty = null;
    callback?.();
  }

  #awaitDrain(): void {
    if (this.#awaiting) return;
    this.#awaiting = true;
    this.#sink.whenDrained(() => {
      this.#awaiting = false;
      this.#flush();
    });
  }
}
