/**
 * A gate: lets so much work through at once, lets some wait in the order it came, and turns the rest away. It keeps what
 * is merely wanted from taking everything that what must not wait needs too.
 */
import { CodedError } from './coded-error.ts';

/** Runs `work` when there is room. Rejects with a CodedError `gate-full`, or as `work` does. */
export type Gate = <Result>(work: () => Promise<Result>) => Promise<Result>;

/** Creates a gate for `most` at once, behind which at most `waiting` wait. */
export function createGate(most: number, waiting: number): Gate {
  const line: (() => void)[] = [];
  let inside = 0;
  return async (work) => {
    if (inside >= most) {
      if (line.length >= waiting) throw new CodedError('gate-full', 'too much of this is asked for at once');
      await new Promise<void>((resolve) => line.push(resolve));
    } else inside += 1;
    try {
      return await work();
    } finally {
      // The place goes straight to the next in line.
      const next = line.shift();
      if (next === undefined) inside -= 1;
      else next();
    }
  };
}
