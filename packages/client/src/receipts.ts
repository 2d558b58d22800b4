/** Receipts: cumulative, at once after quiet, at most one in 5 s, and one when a connection is left. */
import type { Environment } from './environment.ts';

/** Time between two receipts, in ms; the server counts no more. */
export const RECEIPT_MS = 5000;

/** Sends receipts. */
export interface Receipts {
  /** Everything up to this offset was handled. `leaving`: there is no later on this connection. */
  handled(offset: number, leaving?: boolean): void;
  /** The channel began anew: offsets of before say nothing. */
  restart(offset: number): void;
  stop(): void;
}

/** Creates them. `send` answers the offset that it told, or null when there was nobody to tell it to. */
export function createReceipts(env: Environment, send: (offset: number) => number | null): Receipts {
  let newest = 0;
  let told = 0;
  let toldAt = Number.NEGATIVE_INFINITY;
  let cancel: (() => void) | null = null;
  let stopped = false;

  function tell(leaving = false): void {
    if (newest <= told || (cancel !== null && !leaving) || stopped) return;
    const wait = leaving ? 0 : toldAt + RECEIPT_MS - env.monotonic();
    if (wait > 0) {
      cancel = env.after(wait, () => {
        cancel = null;
        tell();
      });
      return;
    }
    const offset = send(newest);
    if (offset === null || offset <= told) return;
    told = offset;
    toldAt = env.monotonic();
  }

  return {
    handled(offset, leaving) {
      newest = Math.max(newest, offset);
      tell(leaving);
    },
    restart(offset) {
      newest = offset;
      told = offset;
    },
    stop() {
      stopped = true;
      cancel?.();
    },
  };
}
