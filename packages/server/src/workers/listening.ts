/**
 * Since when somebody listens. Silence counts only while there is somebody to hear: a tick of the log says since when a
 * worker has seen time pass without a break. Pure.
 *
 * A break is more than three ticks: the worker was down, frozen or without its store, or time in the log stood still for a
 * backlog. Then whoever was not heard gets its full time anew.
 */
import type { LogRecord } from '../store/ports/log.ts';

/** Of one worker; Unix ms, the times of its ticks. */
export interface Listening {
  readonly since: number;
  readonly last: number;
}

/** Ticks that may fail or be late before it is a break. */
const MISSED_TICKS = 3;

/** After a tick at `now`. */
export function heardTick(before: Listening | null, now: number, tickMs: number): Listening {
  const broken = before === null || now - before.last > MISSED_TICKS * tickMs;
  return { since: broken ? now : before.since, last: Math.max(now, before?.last ?? now) };
}

/** The body of a tick. */
export function tickBody({ since }: Listening): string {
  return JSON.stringify({ listeningSince: since });
}

/** Since when somebody listened, Unix ms; with a tick of a version that did not say so: since that tick. */
export function listeningSince({ body, receivedAt }: Pick<LogRecord, 'body' | 'receivedAt'>): number {
  if (body === '') return receivedAt;
  const { listeningSince: since } = JSON.parse(body) as { readonly listeningSince?: unknown };
  return typeof since === 'number' ? since : receivedAt;
}
