/** A flag that one loop waits for. Raising it while nobody waits is remembered once. */

/** See above. */
export interface Signal {
  raise(): void;
  /** Resolves at once when it was raised since the last wait. */
  wait(): Promise<void>;
}

/** Creates a signal that is down. */
export function createSignal(): Signal {
  let raised = false;
  let waiter: (() => void) | null = null;
  return {
    raise: () => {
      raised = true;
      waiter?.();
    },
    wait: async () => {
      if (!raised) {
        await new Promise<void>((resolve) => {
          waiter = resolve;
        });
      }
      waiter = null;
      raised = false;
    },
  };
}
