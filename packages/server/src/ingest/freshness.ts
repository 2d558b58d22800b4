/** Stage: the envelope was signed just now. Together with the ids that are kept, this is what stops replays. */
import type { Stage } from './stage.ts';

/** 403 when the envelope's `at` is more than `toleranceMs` from its arrival, either way. */
export function checkFreshness(toleranceMs: number): Stage {
  return ({ envelope, receivedAt }) => {
    const at = envelope?.at ?? 0;
    const seconds = toleranceMs / 1000;
    if (at < receivedAt - toleranceMs)
      return { code: 'envelope-stale', detail: `The envelope was signed more than ${seconds} s ago` };
    if (at > receivedAt + toleranceMs)
      return { code: 'envelope-future', detail: `The envelope was signed more than ${seconds} s ahead` };
    return null;
  };
}
