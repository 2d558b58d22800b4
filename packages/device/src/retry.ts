/** How long to wait before the next try. Pure. */
import { readDate } from './clock.ts';

/** The longest wait that a server may ask for, ms: a mistake of somebody else must not silence a device for a day. */
const RETRY_AFTER_MOST_MS = 3_600_000;
/** Waits are spread by at least this and by a fifth, ms, so that a fleet does not come back as one. */
const SPREAD_LEAST_MS = 500;
const SPREAD_SHARE = 0.2;
/** No random draw makes a back-off shorter than this share of its bound. */
const BACK_OFF_LEAST_SHARE = 0.1;

/** Bounds of an exponential back-off, ms. */
export interface BackOff {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * `Retry-After` (RFC 9110 section 10.2.3: seconds, or a date) in ms, within 0 and an hour; null when it is missing or
 * neither. `date` is the `Date` of the same answer (Unix ms): a date counts from there, and for nothing where that is null.
 */
export function readRetryAfter(header: string | undefined, date: number | null): number | null {
  if (header === undefined) return null;
  // Not Date.parse: it reads `-5` and `1.5` as dates, too.
  const until = readDate(header);
  const fromDate = until === null || date === null ? null : until - date;
  const ms = /^[0-9]{1,10}$/.test(header) ? Number(header) * 1000 : fromDate;
  return ms === null ? null : Math.min(Math.max(ms, 0), RETRY_AFTER_MOST_MS);
}

/** The wait that a server asked for, and a little more; `random` in [0, 1). */
export function spreadMs(retryAfterMs: number, random: number): number {
  return retryAfterMs + random * Math.max(SPREAD_LEAST_MS, retryAfterMs * SPREAD_SHARE);
}

/** The wait after `failures` in a row (from 1 on): doubling to its bound, with full jitter; `random` in [0, 1). */
export function backOffMs(failures: number, { firstMs, mostMs }: BackOff, random: number): number {
  const bound = Math.min(mostMs, firstMs * 2 ** Math.min(failures - 1, 40));
  return bound * (BACK_OFF_LEAST_SHARE + (1 - BACK_OFF_LEAST_SHARE) * random);
}
