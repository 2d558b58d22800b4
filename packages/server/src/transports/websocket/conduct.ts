/**
 * How a client behaves on its connection: how often it speaks, how often it errs, when its receipts count. Pure rules over
 * times (monotonic ms) that are passed in; a few numbers for each connection.
 */

/** The window of the message limit, in ms. */
export const RATE_WINDOW_MS = 10_000;
/** Two errors within this time end the connection, in ms. */
export const STRIKE_MS = 60_000;
/** A receipt counts at most once in this time, in ms. */
export const RECEIPT_MS = 5000;
/** Messages of the uncounted kinds in one window; more, which no client has a use for, are counted like others. */
export const UNCOUNTED_MOST = 200;

/** Frames of all kinds in one window, pings and pongs too; more is a flood, which costs us more than its sender. */
export const FRAMES_MOST = 1000;

/** What to do with a message or an error: take it, answer an error, or close. */
export type Verdict = 'accept' | 'warn' | 'close';

const NO_TIMES: readonly number[] = [];
const NEVER = Number.NEGATIVE_INFINITY;

/** The conduct of a client that may send `perWindow` counted messages in 10 s. */
export class Conduct {
  readonly #perWindow: number;
  #counted = NO_TIMES;
  #uncounted = NO_TIMES;
  #warned = false;
  #frames = 0;
  #framesFrom = NEVER;
  #lastError = NEVER;
  #receiptAt = NEVER;
  #passedOn = -1;
  #waiting = -1;

  constructor(perWindow: number) {
    this.#perWindow = perWindow;
  }

  /** A message came. The first one over the limit is a warning, the next one closes. */
  message(uncounted: boolean, now: number): Verdict {
    if (uncounted) {
      this.#uncounted = recent(this.#uncounted, now);
      if (this.#uncounted.length < UNCOUNTED_MOST) {
        this.#uncounted = [...this.#uncounted, now];
        return 'accept';
      }
    }
    this.#counted = recent(this.#counted, now);
    if (this.#counted.length < this.#perWindow) {
      this.#counted = [...this.#counted, now];
      this.#warned = false;
      return 'accept';
    }
    if (this.#warned) return 'close';
    this.#warned = true;
    return 'warn';
  }

  /** A frame came, of whatever kind; answers true when it makes a flood, then again after as many more. */
  flood(now: number): boolean {
    if (now - this.#framesFrom >= RATE_WINDOW_MS) {
      this.#framesFrom = now;
      this.#frames = 0;
    }
    this.#frames++;
    if (this.#frames <= FRAMES_MOST) return false;
    this.#frames = 0;
    return true;
  }

  /** A message was wrong. The second within a minute closes. */
  error(now: number): Exclude<Verdict, 'accept'> {
    const second = now - this.#lastError < STRIKE_MS;
    this.#lastError = now;
    return second ? 'close' : 'warn';
  }

  /** A receipt came; answers the offset to pass on now, or null (it may be passed on later by {@link dueReceipt}). */
  receipt(offset: number, now: number): number | null {
    this.#waiting = Math.max(this.#waiting, offset);
    return this.dueReceipt(now);
  }

  /** The receipt that waited when the connection ended, or null. */
  lastReceipt(): number | null {
    return this.#waiting > this.#passedOn ? this.#waiting : null;
  }

  /** A receipt that waited and may be passed on now, or null. */
  dueReceipt(now: number): number | null {
    if (this.#waiting <= this.#passedOn || now - this.#receiptAt < RECEIPT_MS) return null;
    this.#receiptAt = now;
    this.#passedOn = this.#waiting;
    return this.#passedOn;
  }
}

function recent(times: readonly number[], now: number): readonly number[] {
  return times.length === 0 ? NO_TIMES : times.filter((time) => time > now - RATE_WINDOW_MS);
}
