/**
 * What was begun, to be ended in the opposite order.
 *
 * Guarantee: every end is tried, also after one that failed, so that no process, port or lease stays behind.
 */

/** Ends to come. */
export interface Ends {
  add(end: () => unknown): void;
  /** Ends everything that was added, last first, one after the other; then rejects with the first failure, if any. */
  endAll(): Promise<void>;
}

/** Nothing to end yet. */
export function createEnds(): Ends {
  const ends: (() => unknown)[] = [];
  return {
    add: (end) => void ends.push(end),
    async endAll() {
      const failures: unknown[] = [];
      for (const end of ends.splice(0).reverse()) {
        try {
          await end();
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}
