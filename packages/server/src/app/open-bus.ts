/** The bus that the settings ask for: Redis where one is named, else that of this process alone. */
import { createMemoryBus } from '../bus/memory/bus.ts';
import type { Bus } from '../bus/ports/bus.ts';
import { type BusEvent, createRedisBus } from '../bus/redis/bus.ts';
import { redisPlaceOf } from '../bus/redis/place.ts';
import { deriveKeys } from '../identity/secrets.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../ops/logging.ts';
import type { Metrics } from '../ops/metrics.ts';
import { throttled } from '../ops/throttled-log.ts';
import type { Settings } from './settings.ts';

/** What it stands on. */
export interface BusGround {
  readonly clusterSecret: string;
  readonly clock: Clock;
  readonly instance: string;
  readonly log: Logger;
  readonly metrics: Metrics;
}

const SAID: Readonly<Record<BusEvent['kind'], string>> = {
  circuit: 'the circuit to Redis changed',
  deaf: 'a subscription did not bring its probe; it is made anew',
  'fell-back': 'Redis is away: this part answers from this process alone',
  rejoined: 'connections were entered anew on the bus',
  failed: 'Redis failed; it is tried again',
};

/** Opens it; a Redis that is away is connected to as soon as it is there. */
export function openBus(settings: Settings, { clusterSecret, clock, instance, log, metrics }: BusGround): Bus {
  const onListenerError = (error: unknown): void => log.error({ err: error }, 'a listener of the bus failed');
  const place = redisPlaceOf(settings);
  if (place === null) return createMemoryBus({ clock, instance, onListenerError });
  const dropped = throttled(log, 10_000, clock);
  const told = throttled(log, 1000, clock);
  return createRedisBus({
    place,
    key: deriveKeys(clusterSecret).busMac,
    clock,
    instance,
    onListenerError,
    onDropped: (reason, topic) => void dropped.warn(`bus-${reason}`, { topic }, 'a message of the bus was dropped'),
    observe: (command, seconds) => metrics.redis.observe({ command }, seconds),
    onEvent: (event) => {
      // At a start there is nothing to enter yet.
      if (event.kind === 'rejoined' && event.entries === 0) return;
      told.warn(`bus-${event.kind}`, { ...event }, SAID[event.kind]);
    },
    onLag: (seconds) => metrics.busLag.set({}, seconds),
  });
}
