/** Stages: token buckets for the whole installation, for each API key and for each device. */
import type { Refusal } from '@tocsin/protocol/errors';
import type { BucketAnswer, BucketShape, Limiter } from '../bus/ports/bus.ts';
import type { Draft, Stage } from './stage.ts';

/** Rates in envelopes a second; null switches a limit off. */
export interface IngestLimits {
  readonly perKey: number;
  /** Burst of a key; called for each envelope because it grows with the devices registered. */
  readonly keyBurst: () => number;
  readonly perDevice: number;
  readonly global: number | null;
}

/** Before the envelope is looked at: the installation's and the key's bucket. */
export function limitKey(limiter: Limiter, limits: IngestLimits): Stage {
  const { global } = limits;
  return async (draft) => {
    if (global !== null) {
      const refusal = await take(limiter, 'ingest:all', { ratePerSecond: global, burst: 2 * global }, 'installation');
      if (refusal !== null) return refusal;
    }
    const shape = { ratePerSecond: limits.perKey, burst: limits.keyBurst() };
    return take(limiter, `ingest:key:${draft.keyId}`, shape, 'API key');
  };
}

/** As soon as the device's name is known, before anything is looked up or verified for it. */
export function limitDevice(limiter: Limiter, limits: IngestLimits): Stage {
  const shape = { ratePerSecond: limits.perDevice, burst: 2 * limits.perDevice };
  return (draft: Draft) => take(limiter, `ingest:device:${draft.deviceId}`, shape, 'device');
}

function take(
  limiter: Limiter,
  key: string,
  shape: BucketShape,
  whose: string,
): Refusal | null | Promise<Refusal | null> {
  const answer = limiter.take(key, shape);
  const refuse = (refused: BucketAnswer): Refusal | null => (refused.allowed ? null : refusalOf(refused, shape, whose));
  return answer instanceof Promise ? answer.then(refuse) : refuse(answer);
}

function refusalOf(answer: BucketAnswer, shape: BucketShape, whose: string): Refusal {
  return {
    code: 'rate-limited',
    detail: `Too many envelopes for this ${whose}`,
    retryAfterMs: Math.max(1, answer.retryAfterMs),
    quota: {
      name: whose.replace(' ', '-'),
      quota: shape.burst,
      windowSeconds: Math.ceil(shape.burst / shape.ratePerSecond),
    },
  };
}
