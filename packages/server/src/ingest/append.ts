/**
 * Stage: the envelope becomes durable. Envelopes that arrive while a commit is on its way wait for the next one and
 * share it (group commit), so the cost of a commit is paid once for all of them.
 *
 * Guarantees: null only after the commit. Bounded: beyond `mostPending` envelopes or `mostPendingBytes` of bodies
 * nothing is taken in (503 `overloaded`).
 * Nothing is written later than `mostWaitMs` plus the time of one commit after it came here.
 * Failure: when a commit fails, all of its envelopes are refused with `store-unavailable`.
 */
import { createHash } from 'node:crypto';
import type { Refusal } from '@tocsin/protocol/errors';
import { partitionOf } from '../lib/partition.ts';
import type { AppendOutcome, DeviceContext, EnvelopeAppend } from '../store/ports/log.ts';
import type { Draft, IngestDevice, Stage } from './stage.ts';

/** What the stage needs and how much it may hold. */
export interface AppendOptions {
  readonly append: (envelopes: readonly EnvelopeAppend[]) => Promise<AppendOutcome[]>;
  readonly partitions: number;
  /** Called after each commit with the partitions that grew. */
  readonly committed: (partitions: ReadonlySet<number>) => void;
  /** Called when a commit failed. */
  readonly failed: (error: unknown) => void;
  /** Overload seen elsewhere (memory, event loop), or null. */
  readonly overload: () => { readonly retryAfterMs: number } | null;
  readonly mostPending: number;
  readonly mostPendingBytes: number;
  /** Envelopes and bytes of one commit at most. */
  readonly batch: number;
  readonly batchBytes: number;
  /** Commits under way at once. */
  readonly concurrency: number;
  /**
   * What has waited longer for its commit is refused, not written: its device was told 503 long ago, and a record must
   * not enter the log long after its arrival (the log counts arrivals older than a minute as complete). Milliseconds.
   */
  readonly mostWaitMs: number;
  /**
   * True, with a concurrency of 1: what came later never becomes durable before what came earlier and is to come again. When a
   * commit fails, or came too late, all that wait are refused with it.
   */
  readonly inOrder?: boolean;
  readonly monotonic: () => number;
}

interface Waiting {
  readonly envelope: EnvelopeAppend;
  readonly since: number;
  readonly resolve: (refusal: Refusal | null) => void;
}

const RETRY_AFTER_MS = 1000;
const UNAVAILABLE: Refusal = {
  code: 'store-unavailable',
  detail: 'The store did not confirm in time; send the envelope again',
  retryAfterMs: RETRY_AFTER_MS,
};
const ANSWERS: Readonly<Record<AppendOutcome, Refusal | null>> = {
  accepted: null,
  replay: { code: 'replay', detail: 'This envelope is already durable; nothing happened twice' },
  'id-conflict': {
    code: 'id-conflict',
    detail: 'The id belongs to an envelope with other content; this one was not accepted',
  },
};

/** The stage, and how full it is. */
export interface Appender {
  readonly stage: Stage;
  /** Envelopes that wait or are being committed. */
  pending(): number;
}

/** Builds the stage. */
export function createAppender(options: AppendOptions): Appender {
  const waiting: Waiting[] = [];
  let pending = 0;
  let pendingBytes = 0;
  let running = 0;

  const done = (batch: readonly Waiting[], answer: (index: number) => Refusal | null): void => {
    for (const [index, { envelope, resolve }] of batch.entries()) {
      pending -= 1;
      pendingBytes -= envelope.body.length;
      resolve(answer(index));
    }
  };

  const refuse = (batch: readonly Waiting[]): void => done(batch, () => UNAVAILABLE);
  const run = async (): Promise<void> => {
    running += 1;
    for (let batch = next(waiting, options); batch.length > 0; batch = next(waiting, options)) {
      const oldest = options.monotonic() - options.mostWaitMs;
      const old = batch.filter(({ since }) => since < oldest);
      const young = batch.filter(({ since }) => since >= oldest);
      const together = options.inOrder === true && old.length > 0;
      refuse(together ? batch : old);
      const failed = together || (young.length > 0 && !(await commit(options, young, done)));
      if (failed && options.inOrder === true) refuse(waiting.splice(0));
    }
    running -= 1;
  };

  const stage: Stage = (draft) => {
    const overload = options.overload();
    if (overload !== null || pending >= options.mostPending || pendingBytes >= options.mostPendingBytes) {
      const retryAfterMs = overload?.retryAfterMs ?? RETRY_AFTER_MS;
      return { code: 'overloaded', detail: 'Overloaded; nothing was accepted', retryAfterMs };
    }
    const envelope = toAppend(draft, options.partitions);
    pending += 1;
    pendingBytes += envelope.body.length;
    return new Promise((resolve) => {
      waiting.push({ envelope, since: options.monotonic(), resolve });
      draft.entered?.();
      // After this turn of the event loop, so that envelopes that were verified in the same turn share the first commit too.
      if (running < options.concurrency)
        setImmediate(() => running < options.concurrency && waiting.length > 0 && void run());
    });
  };
  return { stage, pending: () => pending };
}

/** Takes the next batch from the front of the line. */
function next(waiting: Waiting[], options: AppendOptions): Waiting[] {
  let count = 0;
  let bytes = 0;
  for (const { envelope } of waiting) {
    bytes += envelope.body.length;
    if (count > 0 && (count >= options.batch || bytes > options.batchBytes)) break;
    count += 1;
  }
  return waiting.splice(0, count);
}

/** False: it failed. */
async function commit(
  options: AppendOptions,
  batch: readonly Waiting[],
  done: (batch: readonly Waiting[], answer: (index: number) => Refusal | null) => void,
): Promise<boolean> {
  try {
    const outcomes = await options.append(batch.map(({ envelope }) => envelope));
    options.committed(new Set(batch.map(({ envelope }) => envelope.partition)));
    done(batch, (index) => {
      const outcome = outcomes[index];
      return outcome === undefined ? UNAVAILABLE : ANSWERS[outcome];
    });
    return true;
  } catch (error) {
    options.failed(error);
    done(batch, () => UNAVAILABLE);
    return false;
  }
}

/** A frame's identity tells its content. */
const NO_DIGEST = Buffer.alloc(0);

function toAppend(draft: Draft, partitions: number): EnvelopeAppend {
  const { device, envelope, identity } = draft;
  if (device === null || envelope === null || identity === null) throw new TypeError('a draft came here unchecked');
  return {
    deviceId: device.id,
    envelopeId: identity,
    digest: draft.kind === 'frame' ? NO_DIGEST : digestOf(envelope.profile, envelope.readings),
    partition: partitionOf(device.id, partitions),
    kind: draft.kind,
    receivedAt: draft.receivedAt,
    traceparent: draft.traceparent,
    context: contextOf(device),
    body: draft.record ?? draft.body,
    envelope,
  };
}

function contextOf({ number, zoneNumber, zoneId, latitude, longitude, exercise }: IngestDevice): DeviceContext {
  const known = { device: number, zone: zoneNumber, zoneId };
  const context = latitude === null || longitude === null ? known : { ...known, place: { latitude, longitude } };
  return exercise ? { ...context, exercise } : context;
}

/** SHA-256 of profile and readings as they are after validation (keys in a fixed order): equal content, equal digest. */
function digestOf(profile: string, readings: readonly unknown[]): Buffer {
  return createHash('sha256')
    .update(`${profile}\n${JSON.stringify(readings)}`)
    .digest();
}
