/** The machine's time as the SDK asks for it, so that tests can move it. */

/** Clocks and a timer. */
export interface TimeSource {
  /** Unix ms; may jump when somebody sets the clock. */
  wall(): number;
  /** Ms that only grow; for durations. */
  monotonic(): number;
  /** Runs `run` once after `ms`; answers how to forget it. */
  after(ms: number, run: () => void): () => void;
}

/** The longest that a timer of Node's waits. */
const TIMER_MOST_MS = 2_147_483_647;

/** The machine's own. */
export const systemTime: TimeSource = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, Math.min(Math.max(ms, 0), TIMER_MOST_MS));
    return () => clearTimeout(timer);
  },
};

/** Resolves with `work`, however it ends, or once `ms` are over. */
export function within(time: TimeSource, ms: number, work: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      forget();
      resolve();
    };
    const forget = time.after(ms, resolve);
    work.then(done, done);
  });
}
