/** One process on a shared bus, for tests: what it hears, drops and has made anew. */
import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { vi } from 'vitest';
import { systemClock } from '../../lib/clock.ts';
import { openRedisLink, type RedisLink } from './link.ts';
import type { RedisPlace } from './place.ts';
import type { ProbeTimes } from './probe.ts';
import { type BusDropReason, createRedisPubSub, type RedisPubSub } from './pubsub.ts';

/** The key of all processes of a test. */
export const CLUSTER_KEY: KeyObject = createSecretKey(randomBytes(32));
/** A tenth of the product's, so that nobody waits. */
export const QUICK: ProbeTimes = { everyMs: 200, deafMs: 600, unhealthyMs: 1500 };

/** The process. */
export interface BusProcess {
  readonly pubsub: RedisPubSub;
  readonly link: RedisLink;
  readonly dropped: [BusDropReason, string][];
  readonly remade: (readonly string[])[];
  readonly listenerErrors: unknown[];
  readonly errors: unknown[];
  close(): Promise<void>;
}

/** What may differ. */
export interface ProcessOptions {
  readonly ca?: string;
  readonly times?: ProbeTimes;
  readonly key?: KeyObject;
  /** Where it hears, when that is another way than where it publishes. */
  readonly hearing?: RedisPlace;
}

/** Starts one. */
export async function startBusProcess(place: RedisPlace, more: ProcessOptions = {}): Promise<BusProcess> {
  const tls = more.ca === undefined ? {} : { ca: more.ca };
  const link = openRedisLink({ place, name: 'test-link', onError: () => undefined, ...tls });
  const dropped: [BusDropReason, string][] = [];
  const remade: (readonly string[])[] = [];
  const listenerErrors: unknown[] = [];
  const errors: unknown[] = [];
  const pubsub = createRedisPubSub({
    place: more.hearing ?? place,
    link,
    key: more.key ?? CLUSTER_KEY,
    clock: systemClock,
    onListenerError: (error) => listenerErrors.push(error),
    onDropped: (reason, topic) => dropped.push([reason, topic]),
    onRemade: (topics) => remade.push(topics),
    onTravel: () => undefined,
    onError: (error) => errors.push(error),
    times: more.times ?? QUICK,
    ...tls,
  });
  return {
    pubsub,
    link,
    dropped,
    remade,
    listenerErrors,
    errors,
    async close() {
      await pubsub.close();
      await link.close();
    },
  };
}

/** Hears a topic into a list. */
export async function hear({ pubsub }: BusProcess, topic: string): Promise<string[]> {
  const heard: string[] = [];
  await pubsub.subscribe(topic, (payload) => heard.push(payload));
  return heard;
}

/** Publishes again and again until the last of `listeners` heard something new; answers how long that took, in ms. */
export async function untilFlows(
  from: BusProcess,
  topic: string,
  listeners: readonly string[][],
  timeout = 20_000,
): Promise<number> {
  const began = performance.now();
  const payload = randomBytes(6).toString('hex');
  await vi.waitFor(
    async () => {
      await from.pubsub.publish(topic, payload).catch(() => undefined);
      if (!listeners.every((heard) => heard.includes(payload))) throw new Error(`${topic} does not flow`);
    },
    { timeout, interval: 50 },
  );
  return performance.now() - began;
}
