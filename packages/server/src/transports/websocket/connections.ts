/**
 * All open connections of this process: one shared timer for heartbeats, deadlines and the state of sessions, and the
 * orderly end of them all.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Connection } from './connection.ts';
import type { WebSocketOptions } from './options.ts';

const SWEEP_MS = 1000;
/** Connections closed at a time while draining, and the pause after each of these batches in ms. */
const DRAIN_BATCH = 500;
const DRAIN_PAUSE_MS = 50;
/** Clients come back spread over this time, in ms: at least, for each connection, at most. */
const SPREAD_LEAST_MS = 1000;
const SPREAD_EACH_MS = 2;
const SPREAD_MOST_MS = 15_000;

/** The open connections. */
export interface Connections {
  readonly size: number;
  add(connection: Connection): void;
  remove(connection: Connection): void;
  get(id: string): Connection | undefined;
  start(): void;
  /** `moving` to all with spread delays, close 1001 in batches, cut who is left after `deadlineMs`. */
  drain(deadlineMs: number): Promise<void>;
  stop(): void;
}

/** Creates the registry. */
export function createConnections(
  options: Pick<WebSocketOptions, 'clock' | 'sessions' | 'log' | 'sweepMs'>,
): Connections {
  const { clock, sessions, log } = options;
  const open = new Map<string, Connection>();
  let timer: NodeJS.Timeout | null = null;
  let stopListening: (() => void) | null = null;
  let checking = false;
  let onEmpty: (() => void) | null = null;

  function endSessions(ids: readonly string[]): void {
    const ended = new Set(ids);
    for (const connection of open.values()) {
      if (connection.principal !== null && ended.has(connection.principal.sessionId)) connection.close('revoked');
    }
  }

  async function checkSessions(): Promise<void> {
    if (checking) return;
    const ids = new Set<string>();
    for (const { principal } of open.values()) if (principal !== null) ids.add(principal.sessionId);
    if (ids.size === 0) return;
    checking = true;
    try {
      const ended = await sessions.dead([...ids]);
      if (ended.length > 0) endSessions(ended);
    } catch (error) {
      // A store that is away ends nobody's session: viewers stay, the next look decides.
      log.error({ err: error }, 'sessions could not be checked');
    } finally {
      checking = false;
    }
  }

  function sweep(): void {
    const now = clock.now();
    const monotonic = clock.monotonic();
    for (const connection of open.values()) connection.upkeep(now, monotonic);
    void checkSessions();
  }

  async function closeAll(until: number): Promise<void> {
    const batches = Math.ceil(open.size / DRAIN_BATCH);
    const room = Math.max(0, until - clock.monotonic()) / 2;
    const wait = Math.min(DRAIN_PAUSE_MS, batches === 0 ? 0 : room / batches);
    const all = [...open.values()];
    for (let from = 0; from < all.length; from += DRAIN_BATCH) {
      for (const connection of all.slice(from, from + DRAIN_BATCH)) connection.close('end');
      if (from + DRAIN_BATCH < all.length) await pause(wait);
    }
  }

  async function allGone(until: number): Promise<void> {
    if (open.size === 0) return;
    let deadline: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      onEmpty = resolve;
      deadline = setTimeout(resolve, Math.max(0, until - clock.monotonic()));
    });
    clearTimeout(deadline);
  }

  return {
    get size(): number {
      return open.size;
    },
    add: (connection) => void open.set(connection.id, connection),
    remove(connection) {
      open.delete(connection.id);
      if (open.size === 0) onEmpty?.();
    },
    get: (id) => open.get(id),
    start() {
      timer = setInterval(sweep, options.sweepMs ?? SWEEP_MS);
      stopListening = sessions.onEnded(endSessions);
    },
    async drain(deadlineMs) {
      const until = clock.monotonic() + deadlineMs;
      const spread = Math.min(SPREAD_MOST_MS, SPREAD_LEAST_MS + open.size * SPREAD_EACH_MS);
      for (const connection of open.values()) {
        connection.send({ type: 'moving', retryAfterMs: Math.floor(Math.random() * spread) });
      }
      await closeAll(until);
      await allGone(until);
      for (const connection of open.values()) connection.terminate();
    },
    stop() {
      if (timer !== null) clearInterval(timer);
      stopListening?.();
      for (const connection of open.values()) connection.terminate();
    },
  };
}
