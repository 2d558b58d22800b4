/**
 * Ingest: an envelope through its stages, in the order of the contract's section 2. The answer is a value; nothing is
 * thrown at a transport but what nobody foresaw.
 *
 * Guarantees: an answer within the deadline, whatever the store does; an envelope whose commit is then still on its way
 * is refused with `store-unavailable`, and its id tells later what became of it (202 or 409). What is on its way is
 * bounded by count and bytes, also what was answered already but has not ended; beyond that 503 `overloaded`.
 */
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import type { ProfileName } from '@tocsin/protocol/envelope';
import { CodedError } from '../lib/coded-error.ts';
import type { Draft, Stage, TransportName } from './stage.ts';

/** What became of an envelope. */
export type IngestAnswer =
  | { readonly accepted: true; readonly id: string; readonly readings: number }
  | { readonly accepted: false; readonly refusal: Refusal };

/** What ingest tells the metrics. */
export interface IngestMetrics {
  accepted(transport: TransportName, profile: ProfileName, readings: number): void;
  rejected(transport: TransportName, reason: ErrorCode): void;
}

/** Takes one envelope in. */
export type Ingest = (draft: Draft) => Promise<IngestAnswer>;

/** How long an answer may take, and how much may be on its way. */
export interface IngestBounds {
  readonly deadlineMs: number;
  readonly mostInFlight: number;
  readonly mostInFlightBytes: number;
}

/** The bounds of the product. A device that waits longer than this would rather send again. */
export const INGEST_BOUNDS: IngestBounds = { deadlineMs: 5000, mostInFlight: 25_000, mostInFlightBytes: 100_663_296 };

const RETRY_AFTER_MS = 1000;
const FULL: Refusal = { code: 'overloaded', detail: 'Overloaded; nothing was accepted', retryAfterMs: RETRY_AFTER_MS };
const LATE: Refusal = {
  code: 'store-unavailable',
  detail: 'The store did not confirm in time; send the envelope again',
  retryAfterMs: RETRY_AFTER_MS,
};

/** Hears of each draft that the stages are done with; `through`: none refused it. */
export type Finished = (draft: Draft, through: boolean) => void;

/** Joins stages into one function. */
export function createIngest(
  stages: readonly Stage[],
  metrics: IngestMetrics,
  finished: Finished = () => undefined,
): Ingest {
  let inFlight = 0;
  let bytes = 0;
  const admit = (draft: Draft): Promise<Refusal | null> => {
    if (inFlight >= INGEST_BOUNDS.mostInFlight || bytes >= INGEST_BOUNDS.mostInFlightBytes)
      return Promise.resolve(FULL);
    inFlight += 1;
    bytes += draft.body.length;
    const ended = (through: boolean): void => {
      inFlight -= 1;
      bytes -= draft.body.length;
      finished(draft, through);
    };
    const work = firstRefusal(stages, draft).then(
      (refusal) => {
        ended(refusal === null);
        return refusal;
      },
      (error: Error) => {
        ended(false);
        throw error;
      },
    );
    return within(work, INGEST_BOUNDS.deadlineMs);
  };
  return async (draft) => {
    const refusal = await admit(draft);
    if (refusal !== null) {
      metrics.rejected(draft.transport, refusal.code);
      return { accepted: false, refusal };
    }
    const { envelope } = draft;
    if (envelope === null) throw new TypeError('the stages left no envelope');
    metrics.accepted(draft.transport, envelope.profile, envelope.readings.length);
    return { accepted: true, id: envelope.id, readings: envelope.readings.length };
  };
}

/** The outcome of `work`, or {@link LATE} when there is none after `ms`; the work goes on. */
function within(work: Promise<Refusal | null>, ms: number): Promise<Refusal | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms, LATE);
    const settle = (end: () => void): void => {
      clearTimeout(timer);
      end();
    };
    work.then(
      (refusal) => settle(() => resolve(refusal)),
      (error: Error) => settle(() => reject(error)),
    );
  });
}

async function firstRefusal(stages: readonly Stage[], draft: Draft): Promise<Refusal | null> {
  try {
    for (const stage of stages) {
      const answer = stage(draft);
      const refusal = answer instanceof Promise ? await answer : answer;
      if (refusal !== null) return refusal;
    }
    return null;
  } catch (error) {
    if (error instanceof CodedError && error.code === 'store-unavailable') {
      return {
        code: 'store-unavailable',
        detail: 'The store does not answer; nothing was accepted',
        retryAfterMs: RETRY_AFTER_MS,
      };
    }
    throw error;
  }
}
