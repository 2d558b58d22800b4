/** Receipts: cumulative, at once after quiet, at most one in 5 s. */
import type { Environment } from './environment.ts';

/** Time between two receipts, in ms; the server counts no more. */
export const RECEIPT_MS = 5000;

/** Sends receipts. */
export interface Receipts {
  /** Everything up to this offset was handled. */
  handled(offset: number): void;
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

  function tell(): void {
    if (newest <= told || cancel !== null || stopped) return;
    const wait = toldAt + RECEIPT_MS - env.monotonic();
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
    handled(offset) {
      newest = Math.max(newest, offset);
      tell();
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
