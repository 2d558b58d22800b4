/**
 * Groups of tests that need something of the machine. A group whose need is not met is skipped, never silently: one
 * skipped test named `needs <need>: <reason>` stands for it, which the summary of `npm test` lists and CI refuses.
 */
import { describe, it } from 'vitest';
import { lacking, type Need } from './machine.ts';

/** Like vitest's `describe`; `body` does not run at all when one of `needs` is not met. */
export function describeWith(needs: readonly Need[], name: string, body: () => void): void {
  const absent = needs.flatMap((need) => {
    const reason = lacking(need);
    return reason === null ? [] : [`needs ${need}: ${reason}`];
  });
  describe(name, () => {
    if (absent.length === 0) return body();
    it.skip(absent.join('; '), () => undefined);
  });
}
