/**
 * Counts the WebSocket handshakes of this process in windows and appends them to the log for the detector of connection
 * spikes: one small record for each window in which there was something to count, at its end.
 *
 * Guarantees: a count has a sequence number of its own, so one whose append may have taken effect is simply sent again; one at
 * a time, in order. Nothing here rejects or waits for a handshake. No timer runs while there is nothing to tell.
 * Failure: while the store is away the counts of the last minute are kept and tried again; older ones would come too late.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { ConnectionCount } from '../detectors/connection-spike.ts';

/** What it needs. Times are Unix ms, durations ms. */
export interface HandshakeCountsOptions {
  readonly instance: string;
  readonly windowMs: number;
  readonly now: () => number;
  /** Commits it to the log. */
  readonly append: (count: ConnectionCount) => Promise<void>;
  readonly failed: (error: unknown) => void;
  /** Calls `work` once in so many ms, and answers how to prevent it; a timer that keeps no process alive when absent. */
  readonly later?: (work: () => void, ms: number) => () => void;
}

/** The counts of this process. */
export interface HandshakeCounts {
  opened(): void;
  refused(): void;
  /** The server closed so many connections, or is about to, so that they come back. */
  released(connections: number): void;
  /** Appends what is counted so far; resolves when that was done or has failed, at the latest after `mostMs`. */
  flush(mostMs: number): Promise<void>;
  /** The same, and counts no more. */
  stop(mostMs: number): Promise<void>;
}

/** Counts that wait for the store at most. */
const MOST_WAITING = 6;
type Kind = 'opened' | 'refused' | 'released';

function laterOn(work: () => void, ms: number): () => void {
  const timer = setTimeout(work, ms).unref();
  return () => clearTimeout(timer);
}

/** Begins to count. */
export function createHandshakeCounts(options: HandshakeCountsOptions): HandshakeCounts {
  const { instance, windowMs, now, append, failed } = options;
  const later = options.later ?? laterOn;
  const windowStartAt = (at: number): number => at - (at % windowMs);
  let current: ConnectionCount | null = null;
  let sequence = 0;
  let waiting: readonly ConnectionCount[] = [];
  let sending: Promise<void> | null = null;
  let prevent: (() => void) | null = null;
  let stopped = false;

  function count(kind: Kind, n: number): void {
    if (n === 0 || stopped) return;
    const windowStart = windowStartAt(now());
    if (current !== null && current.windowStart !== windowStart) end();
    if (current === null) {
      sequence += 1;
      current = { instance, sequence, windowStart, opened: 0, refused: 0, released: 0 };
    }
    current = { ...current, [kind]: current[kind] + n };
    wake();
  }

  /** What was counted waits to be sent. */
  function end(): void {
    if (current === null) return;
    waiting = [...waiting, current].slice(-MOST_WAITING);
    current = null;
  }

  /** At the end of the window, once. */
  function wake(): void {
    if (prevent !== null || stopped) return;
    const at = now();
    prevent = later(onWindowEnd, windowStartAt(at) + windowMs - at);
  }

  function onWindowEnd(): void {
    prevent = null;
    if (current !== null && windowStartAt(now()) !== current.windowStart) end();
    void send();
    if (current !== null) wake();
  }

  function send(): Promise<void> {
    sending ??= sendAll().finally(() => {
      sending = null;
    });
    return sending;
  }

  async function sendAll(): Promise<void> {
    const oldest = now() - MOST_WAITING * windowMs;
    waiting = waiting.filter(({ windowStart }) => windowStart >= oldest);
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const sent = next;
      try {
        await append(sent);
      } catch (error) {
        failed(error);
        return wake();
      }
      waiting = waiting.filter((other) => other !== sent);
    }
  }

  async function flush(mostMs: number): Promise<void> {
    end();
    const stop = new AbortController();
    // What is being sent may not hold what was ended just now.
    const sent = (sending ?? Promise.resolve()).then(send);
    await Promise.race([sent, pause(mostMs, undefined, { signal: stop.signal, ref: false }).catch(() => undefined)]);
    stop.abort();
  }

  return {
    opened: () => count('opened', 1),
    refused: () => count('refused', 1),
    released: (connections) => count('released', connections),
    flush,
    async stop(mostMs) {
      stopped = true;
      prevent?.();
      await flush(mostMs);
    },
  };
}
