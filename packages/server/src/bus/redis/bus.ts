/**
 * The bus of several processes, over Redis: publish-subscribe, cells, limits and presence on one link, and one connection
 * that hears.
 *
 * Guarantees: opening it waits for nobody; a Redis that is away is connected to as soon as it is there. Nothing but `publish`
 * and `peers` rejects because of Redis: limits, cells and presence answer from this process alone meanwhile.
 * Order at the end: the lease goes first, so that other processes see this one leave; then the connections.
 * Failure: `onEvent` tells what changes. `close` takes at most a second, also when Redis is frozen; the lease then runs out.
 */
import type { KeyObject } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Clock } from '../../lib/clock.ts';
import { createMemoryCells } from '../memory/cells.ts';
import { createMemoryLimiter } from '../memory/limiter.ts';
import { createMemoryPresence } from '../memory/presence.ts';
import type { Bus } from '../ports/bus.ts';
import { createRedisCells } from './cells.ts';
import { createRedisLimiter } from './limiter.ts';
import { type Circuit, openRedisLink } from './link.ts';
import type { RedisPlace } from './place.ts';
import { createRedisPresence, type RejoinReason } from './presence.ts';
import { type BusDropReason, createRedisPubSub } from './pubsub.ts';
import { type BusPart, cellsWithFallback, limiterWithFallback, presenceWithFallback } from './with-fallback.ts';

/** What happens, for logs: nothing here comes more often than some times a second. */
export type BusEvent =
  /** The circuit to Redis opened or closed. */
  | { readonly kind: 'circuit'; readonly circuit: Circuit }
  /** Probes on these topics did not come back: the hearing connection is made anew. */
  | { readonly kind: 'deaf'; readonly topics: readonly string[] }
  /** A part answers from this process alone. */
  | { readonly kind: 'fell-back'; readonly part: BusPart }
  /** What this process holds on presence boards was joined anew. */
  | { readonly kind: 'rejoined'; readonly entries: number; readonly why: RejoinReason }
  /** Something failed and is tried again. `err` holds no secret. */
  | { readonly kind: 'failed'; readonly err: unknown };

/** What the bus over Redis needs. */
export interface RedisBusOptions {
  readonly place: RedisPlace;
  /** Authenticates messages: `busMac` of `deriveKeys(clusterSecret)`. */
  readonly key: KeyObject;
  readonly clock: Clock;
  /** The name of this process in presence entries and among the peers; another one at every start, without `/`. */
  readonly instance: string;
  /** Hears what a listener of publish-subscribe throws. */
  readonly onListenerError: (error: unknown) => void;
  /** A message of a topic was dropped. */
  readonly onDropped: (reason: BusDropReason, topic: string) => void;
  /** How long a command took that was tried, and (`probe`) a probe's way there and back. */
  readonly observe?: (command: string, seconds: number) => void;
  readonly onEvent: (event: BusEvent) => void;
  /** Each second: the age of the last probe that came back, in seconds. */
  readonly onLag?: (seconds: number) => void;
  /** A CA (PEM) to trust instead of Node's own roots. */
  readonly ca?: string;
}

/** A {@link Bus} that knows how old its last sign of life is. */
export interface RedisBus extends Bus {
  /** Age of the last probe that came back, of the topic where it is oldest, in ms. */
  lagMs(): number;
}

const SWEEP_MS = 1000;
const SWEEP_STEPS = 20_000;
/** What taking the lease off may take, in ms; the rest of the second is for the connections. */
const LEAVE_MOST_MS = 700;

/**
 * Opens the bus.
 * @throws CodedError `redis-place` when the place cannot be read.
 */
export function createRedisBus(options: RedisBusOptions): RedisBus {
  const { place, key, clock, instance, onListenerError, onDropped, onEvent, observe } = options;
  const onError = (err: unknown): void => onEvent({ kind: 'failed', err });
  const tls = options.ca === undefined ? {} : { ca: options.ca };
  const link = openRedisLink({ place, name: 'tocsin', onError, ...(observe === undefined ? {} : { observe }), ...tls });
  link.onCircuit((circuit) => {
    if (circuit !== 'half-open') onEvent({ kind: 'circuit', circuit });
  });
  const pubsub = createRedisPubSub({
    place,
    link,
    key,
    clock,
    onListenerError,
    onDropped,
    onRemade: (topics) => onEvent({ kind: 'deaf', topics }),
    onTravel: (seconds) => observe?.('probe', seconds),
    onError,
    ...tls,
  });
  const board = createRedisPresence({
    link,
    instance,
    onError,
    onRejoined: (entries, why) => onEvent({ kind: 'rejoined', entries, why }),
  });
  const local = { cells: createMemoryCells(clock), limiter: createMemoryLimiter(clock) };
  const fallback = { link, onFellBack: (part: BusPart) => onEvent({ kind: 'fell-back', part }), onError };
  const timer = setInterval(() => {
    local.cells.sweep(SWEEP_STEPS);
    local.limiter.sweep(SWEEP_STEPS);
    options.onLag?.(pubsub.lagMs() / 1000);
  }, SWEEP_MS);
  timer.unref();

  return {
    pubsub,
    cells: cellsWithFallback(createRedisCells({ link }), local.cells, fallback),
    limiter: limiterWithFallback(createRedisLimiter({ link }), local.limiter, fallback),
    presence: presenceWithFallback(board, createMemoryPresence(clock, instance), fallback),
    shared: true,
    peers: () => board.peers(),
    healthy: () => pubsub.healthy(),
    lagMs: () => pubsub.lagMs(),
    async close() {
      clearInterval(timer);
      const late = new AbortController();
      const leaving = board.close().finally(() => late.abort());
      await Promise.race([leaving, pause(LEAVE_MOST_MS, undefined, { signal: late.signal }).catch(() => undefined)]);
      await Promise.all([pubsub.close(), link.close()]);
      await leaving;
    },
  };
}
