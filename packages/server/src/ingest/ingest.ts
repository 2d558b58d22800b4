/**
 * Ingest: an envelope through its stages, in the order of the contract's section 2. The answer is a value; nothing is
 * thrown at a transport but what nobody foresaw.
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

/** Joins stages into one function. */
export function createIngest(stages: readonly Stage[], metrics: IngestMetrics): Ingest {
  return async (draft) => {
    const refusal = await firstRefusal(stages, draft);
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
      return { code: 'store-unavailable', detail: 'The store does not answer; nothing was accepted', retryAfterMs: 1000 };
    }
    throw error;
  }
}
