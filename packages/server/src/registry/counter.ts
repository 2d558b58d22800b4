/**
 * How many devices are registered (not revoked). Answered at once from what was counted last, at most 10 s ago while the
 * store answers; counted anew on every change, one count at a time and at most every 100 ms.
 */
import type { Clock } from '../lib/clock.ts';

/** The age from which a count is renewed when it is asked for, ms. */
export const COUNT_MS = 10_000;
const SPACING_MS = 100;

/** The counter. */
export interface DeviceCounter {
  /** The count known now; 0 before the first one. */
  read(): number;
  /** Counts, soon. */
  renew(): void;
  /** Counts now; rejects when the store is away. */
  load(): Promise<void>;
  stop(): void;
}

/** Builds the counter. A count that fails leaves the last one standing. */
export function createDeviceCounter(count: () => Promise<number>, clock: Clock): DeviceCounter {
  let value = 0;
  let countedAt = Number.NEGATIVE_INFINITY;
  let state: 'idle' | 'counting' | 'counting-and-due' | 'stopped' = 'idle';
  let timer: NodeJS.Timeout | undefined;

  const load = async (): Promise<void> => {
    const at = clock.monotonic();
    value = await count();
    countedAt = at;
  };
  const run = (): void => {
    state = 'counting';
    void load()
      .catch(() => undefined)
      .then(() => {
        if (state === 'stopped') return;
        const due = state === 'counting-and-due';
        state = 'idle';
        // A failed count is not tried again at once: the next question after 10 s does it.
        if (due) schedule();
      });
  };
  const schedule = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      if (state === 'idle') run();
    }, SPACING_MS).unref();
  };
  const renew = (): void => {
    if (state === 'counting') state = 'counting-and-due';
    else if (state === 'idle' && timer === undefined) run();
  };
  return {
    read() {
      if (state === 'idle' && clock.monotonic() - countedAt >= COUNT_MS) {
        countedAt = clock.monotonic();
        run();
      }
      return value;
    },
    renew,
    load,
    stop() {
      state = 'stopped';
      clearTimeout(timer);
    },
  };
}
