/**
 * One after the other by key: for work whose order counts and whose ground may overtake. ioredis tries a command of a
 * Cluster again after a pause when its node's connection was not ready or its slot had moved, and what was sent after it
 * goes through meanwhile (measured: 50 messages at once on a new connection arrived in disorder).
 *
 * Bound: at most `most` pieces of work of a key wait; more reject with `bus-unavailable`.
 */
import { CodedError } from '../../lib/coded-error.ts';

/** Runs `work` when all work given before for the key has settled. */
export type InTurn = <Result>(key: string, work: () => Promise<Result>) => Promise<Result>;

/** Creates it, empty. */
export function createInTurn(most: number): InTurn {
  const lines = new Map<string, { last: Promise<unknown>; waiting: number }>();
  return async (key, work) => {
    const line = lines.get(key) ?? { last: Promise.resolve(), waiting: 0 };
    if (line.waiting >= most) throw new CodedError('bus-unavailable', 'Redis: too many messages of a topic wait');
    lines.set(key, line);
    line.waiting += 1;
    const mine = line.last.then(work);
    line.last = mine.catch(() => undefined);
    try {
      return await mine;
    } finally {
      line.waiting -= 1;
      if (line.waiting === 0) lines.delete(key);
    }
  };
}
