/**
 * How old a message of the server is when we read it: a page that was frozen reads at once what was sent over an hour.
 *
 * The server's times against our monotonic clock: the least delay so far counts as none, what is more is age. Clocks that
 * run a little differently do no harm (one part in a hundred is forgiven); a time that does not rise is a clock that was set.
 */
import type { Environment } from './environment.ts';

/** The longest time between two messages for which a difference of the clocks is forgiven, in ms. */
const FORGIVEN_MS = 20_000;

/** Creates it for one connection: of the server's time (Unix ms) of what was read now, the moment it was sent, monotonic ms. */
export function createAge(env: Environment): (at: number) => number {
  let lastAt = Number.POSITIVE_INFINITY;
  let readAt = 0;
  let lead = 0;
  return (at) => {
    const now = env.monotonic();
    const forgiven = Math.min(now - readAt, FORGIVEN_MS) / 100;
    lead = at > lastAt ? Math.max(at - now, lead - forgiven) : at - now;
    lastAt = at;
    readAt = now;
    return at - lead;
  };
}
