/**
 * The bus of a single process. Nothing here outlives the process and nothing has to; every map is bounded.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../lib/clock.ts';
import type { Bus } from '../ports/bus.ts';
import { createMemoryCells } from './cells.ts';
import { createMemoryLimiter } from './limiter.ts';
import { createMemoryPresence } from './presence.ts';
import { createMemoryPubSub } from './pubsub.ts';

/** What the bus in memory needs. */
export interface MemoryBusOptions {
  readonly clock: Clock;
  /** The name of this process in presence entries; a random one when absent. */
  readonly instance?: string;
  /** Hears what a listener of publish-subscribe throws. */
  readonly onListenerError?: (error: unknown) => void;
}

const SWEEP_MS = 1000;
const SWEEP_STEPS = 20_000;

/** Creates a {@link Bus} that works within this process. `close` ends its one timer. */
export function createMemoryBus(options: MemoryBusOptions): Bus {
  const { clock } = options;
  const instance = options.instance ?? randomUUID();
  const cells = createMemoryCells(clock);
  const limiter = createMemoryLimiter(clock);
  const timer = setInterval(() => {
    cells.sweep(SWEEP_STEPS);
    limiter.sweep(SWEEP_STEPS);
  }, SWEEP_MS);
  timer.unref();
  return {
    pubsub: createMemoryPubSub(clock, options.onListenerError ?? (() => undefined)),
    cells,
    limiter,
    presence: createMemoryPresence(clock, instance),
    shared: false,
    peers: async () => [instance],
    healthy: () => true,
    close: async () => clearInterval(timer),
  };
}
