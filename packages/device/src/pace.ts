/**
 * When a device may send and how much at once: what the verdicts of its answers add up to. Pure but for the draw of
 * `random`; times are monotonic ms.
 *
 * After a failure one envelope goes at a time until one is delivered. Failures of envelopes that left before the last wait
 * began count once, so that a window that fails together is one failure. Waits only grow while they last: a success of
 * another envelope does not end a `Retry-After`.
 */
import { backOffMs, spreadMs } from './retry.ts';
import type { Tuning } from './tuning.ts';
import type { Reason, Verdict } from './verdict.ts';

/** Why and until when nothing is sent. */
export interface Pause {
  readonly until: number;
  readonly reason: Reason | 'folder-unusable';
  /** Only an operator can mend it. */
  readonly refused: boolean;
}

/** The pace of one device. */
export interface Pace {
  /** How many may be on their way at `now`: 0 while it waits. */
  window(now: number): number;
  /** The wait that lasts, or lasted last, as long as nothing was delivered after its end. */
  pause(): Pause | null;
  delivered(now: number): void;
  /** An envelope that left at `sentAt` failed with `verdict` at `now`; `retryAfterMs` is what the server asked for. */
  failed(verdict: Pick<Verdict, 'action'> & { readonly reason: Pause['reason'] }, times: FailedTimes): void;
  /** How long an envelope is put off that failed `attempts` times for what may be its own fault, ms. */
  putOffMs(attempts: number): number;
}

/** When a failure was. */
export interface FailedTimes {
  readonly now: number;
  readonly sentAt: number;
  readonly retryAfterMs: number | null;
}

/** The pace of a device that has not sent yet; `random` in [0, 1). */
export function createPace(tuning: Tuning, random: () => number): Pace {
  const backOff = { firstMs: tuning.backOffFirstMs, mostMs: tuning.backOffMostMs };
  const refusedBackOff = { firstMs: tuning.refusedFirstMs, mostMs: tuning.refusedMostMs };
  let failures = 0;
  let refusals = 0;
  let pausedAt = Number.NEGATIVE_INFINITY;
  let pause: Pause | null = null;
  return {
    window: (now) => {
      if (pause !== null && now < pause.until) return 0;
      return failures + refusals > 0 ? 1 : tuning.inFlight;
    },
    pause: () => pause,
    delivered: (now) => {
      failures = 0;
      refusals = 0;
      if (pause !== null && now >= pause.until) pause = null;
    },
    failed: ({ action, reason }, { now, sentAt, retryAfterMs }) => {
      const refused = action === 'hold';
      if (sentAt > pausedAt) {
        if (refused) refusals += 1;
        else failures += 1;
      }
      const asked = retryAfterMs === null ? 0 : spreadMs(retryAfterMs, random());
      const own = refused
        ? refusedBackOff.firstMs / 2 + backOffMs(Math.max(refusals, 1), refusedBackOff, random()) / 2
        : backOffMs(Math.max(failures, 1), backOff, random());
      const wait = action === 'wait' && retryAfterMs !== null ? asked : Math.max(asked, own);
      pausedAt = now;
      const until = now + wait;
      if (pause === null || until >= pause.until) pause = { until, reason, refused };
    },
    putOffMs: (attempts) => backOffMs(attempts, backOff, random()),
  };
}
