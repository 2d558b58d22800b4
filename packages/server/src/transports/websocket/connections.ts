/**
 * All open connections of this process: one shared timer for heartbeats, deadlines and the state of sessions, and the
 * orderly end of them all.
 */
import type { Connection } from './connection.ts';
import type { WebSocketOptions } from './options.ts';

const SWEEP_MS = 1000;
/** While draining all connections are looked at this often, in ms; those whose time has come are closed together. */
const DRAIN_STEP_MS = 50;
/** Clients go elsewhere spread over this time, in ms: at least, for each connection, at most. */
const SPREAD_LEAST_MS = 1000;
const SPREAD_EACH_MS = 2;
const SPREAD_MOST_MS = 15_000;
/** How long a connection stays open after the moment it was told, in ms, so that the next one can be there before it ends. */
const OVERLAP_MS = 1500;
/** Of the time for a drain: what the spread, and what the overlap after it may take. The rest is for the answers to closes. */
const SPREAD_SHARE = 0.6;
const OVERLAP_SHARE = 0.25;

/** Sessions are looked at once for each turn of the timer, not for each step of a drain; timers may come a little early. */
const SESSIONS_EARLY = 0.9;

/** The open connections. */
export interface Connections {
  readonly size: number;
  add(connection: Connection): void;
  remove(connection: Connection): void;
  /** Those of all, as they are now. */
  ids(): readonly string[];
  get(id: string): Connection | undefined;
  start(): void;
  /**
   * `moving` to all with spread delays; each hears everything until a moment after its delay, when it is closed with 1001;
   * who is left after `deadlineMs` is cut.
   */
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
  let sessionsAt = 0;
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
    if (monotonic < sessionsAt) return;
    sessionsAt = monotonic + (options.sweepMs ?? SWEEP_MS) * SESSIONS_EARLY;
    void checkSessions();
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
    ids: () => [...open.keys()],
    get: (id) => open.get(id),
    start() {
      timer = setInterval(sweep, options.sweepMs ?? SWEEP_MS);
      stopListening = sessions.onEnded(endSessions);
    },
    async drain(deadlineMs) {
      if (timer !== null) clearInterval(timer);
      const now = clock.monotonic();
      const spread = Math.min(SPREAD_MOST_MS, SPREAD_LEAST_MS + open.size * SPREAD_EACH_MS, deadlineMs * SPREAD_SHARE);
      const overlap = Math.min(OVERLAP_MS, deadlineMs * OVERLAP_SHARE);
      // Each in a slot of its own, drawn at random within it: evenly spread, and no two instances alike.
      const slot = spread / Math.max(1, open.size);
      let index = 0;
      for (const connection of open.values()) {
        const delay = Math.floor((index + Math.random()) * slot);
        connection.move(delay, now + delay + overlap);
        index++;
      }
      timer = setInterval(sweep, Math.min(DRAIN_STEP_MS, options.sweepMs ?? DRAIN_STEP_MS));
      await allGone(now + deadlineMs);
      for (const connection of open.values()) connection.terminate();
    },
    stop() {
      if (timer !== null) clearInterval(timer);
      stopListening?.();
      for (const connection of open.values()) connection.terminate();
    },
  };
}
