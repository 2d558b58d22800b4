/**
 * A clock that nobody sets back, and that does not stand still while the machine sleeps: `performance.now()` does in Node and
 * in most browsers, so that an hour-old proof would look fresh.
 */

/** The wall clock ahead of the other one by more than this at once: the machine slept (or somebody set it), in ms. */
const JUMP_MS = 1000;

/** Creates it from the wall clock and the monotonic one, both in ms. */
export function createClock(wall: () => number, steady: () => number): () => number {
  let slept = 0;
  let ahead = wall() - steady();
  return () => {
    const now = steady();
    const jump = wall() - now - ahead;
    ahead += jump;
    if (jump > JUMP_MS) slept += jump;
    return now + slept;
  };
}
