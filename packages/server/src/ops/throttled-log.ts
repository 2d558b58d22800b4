/**
 * At most one line for each reason in a stretch of time, so that a flood of refusals is not a flood of lines.
 * The next line of a reason says how many were left out. Reasons are bounded; past the bound they share one.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import type { LogFields } from './logging.ts';

/** Writes at most one line for each reason and stretch. */
export interface ThrottledLog {
  /** True when the line was written. */
  warn(reason: string, fields: LogFields, message: string): boolean;
  error(reason: string, fields: LogFields, message: string): boolean;
}

/** Where the lines go. */
export interface ThrottledInto {
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

/** Most reasons that are told apart. */
const MOST_REASONS = 200;
const OTHER_REASON = 'other';

/** Builds a {@link ThrottledLog} over `log`: one line for each reason in `perMs` milliseconds. */
export function throttled(log: ThrottledInto, perMs: number, clock: Clock = systemClock): ThrottledLog {
  const reasons = new Map<string, { until: number; leftOut: number }>();
  const write = (level: keyof ThrottledInto, asked: string, fields: LogFields, message: string): boolean => {
    const reason = reasons.has(asked) || reasons.size < MOST_REASONS ? asked : OTHER_REASON;
    const now = clock.monotonic();
    const state = reasons.get(reason);
    if (state !== undefined && now < state.until) {
      state.leftOut += 1;
      return false;
    }
    const leftOut = state?.leftOut ?? 0;
    reasons.set(reason, { until: now + perMs, leftOut: 0 });
    log[level]({ ...fields, reason, ...(leftOut === 0 ? {} : { leftOut }) }, message);
    return true;
  };
  return {
    warn: (reason, fields, message) => write('warn', reason, fields, message),
    error: (reason, fields, message) => write('error', reason, fields, message),
  };
}
