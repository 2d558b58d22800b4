/**
 * The one source of time of the product. Everything that decides by time takes a {@link Clock}, so tests can move it.
 */

/** Unix milliseconds and a monotonic millisecond counter. */
export interface Clock {
  /** Unix milliseconds (may jump when the machine's clock is set). */
  now(): number;
  /** Milliseconds that only grow; for durations. */
  monotonic(): number;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};
