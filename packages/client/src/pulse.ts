/**
 * Whether a welcomed connection is alive: by what it brings, not by being open.
 *
 * Nothing at all for one and a half watermark periods: a ping. Nothing for two: silent. Messages but no watermark for six:
 * the server does not vouch any more, perhaps another one does. A timer that comes late by seconds, or a page that woke,
 * says nothing about the server: a ping, and five seconds for an answer.
 */
import type { Environment } from './environment.ts';

/** The wait for an answer to a ping after waking, in ms. */
export const PROBE_MS = 5000;
/** A timer this late, in ms, slept. */
const LATE_MS = 3000;
/** Time between two pings at least, in ms: the server counts messages, five in 10 s by default. */
const PING_MS = 3000;
/** Watermark periods without a watermark, though other messages come. */
const PERIODS_MOST = 6;

/** The watch over one connection. */
export interface Pulse {
  /** A message came. */
  heard(watermark: boolean): void;
  /** Asks for a sign of life now. */
  probe(): void;
  stop(): void;
}

/** Begins to watch. `onDead` is called once at most. */
export function createPulse(
  env: Environment,
  periodMs: number,
  ping: () => void,
  onDead: (why: 'silent' | 'no-watermark') => void,
): Pulse {
  let heardAt = env.monotonic();
  let watermarkAt = heardAt;
  let deadAt = heardAt + 2 * periodMs;
  let pinged = false;
  let late = false;
  let pingedAt = Number.NEGATIVE_INFINITY;
  let cancel: (() => void) | null = null;

  function plan(): void {
    cancel?.();
    const pingAt = pinged ? Number.POSITIVE_INFINITY : Math.max(heardAt + 1.5 * periodMs, pingedAt + PING_MS);
    const at = Math.min(pingAt, deadAt, watermarkAt + PERIODS_MOST * periodMs);
    cancel = env.after(Math.max(0, at - env.monotonic()), () => look(at));
  }

  function look(dueAt: number): void {
    const now = env.monotonic();
    // Once: the timers of a hidden page are always late, and a server that lives has answered meanwhile.
    if (now - dueAt > LATE_MS && !late) {
      late = true;
      return probe();
    }
    if (now >= deadAt) return onDead('silent');
    if (now >= watermarkAt + PERIODS_MOST * periodMs) return onDead('no-watermark');
    if (!pinged) ask(now);
    plan();
  }

  function ask(now: number): void {
    pinged = true;
    pingedAt = now;
    ping();
  }

  function probe(): void {
    const now = env.monotonic();
    if (now < pingedAt + PING_MS) return;
    deadAt = now + PROBE_MS;
    watermarkAt = Math.max(watermarkAt, now - (PERIODS_MOST - 2) * periodMs);
    ask(now);
    plan();
  }

  plan();
  return {
    heard(watermark) {
      heardAt = env.monotonic();
      deadAt = heardAt + 2 * periodMs;
      pinged = false;
      late = false;
      if (watermark) watermarkAt = heardAt;
      plan();
    },
    probe,
    stop: () => cancel?.(),
  };
}
