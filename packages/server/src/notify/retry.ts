/** When a post that failed is tried again. Pure; the random number is passed in. */

/** The first pause, ms. */
export const FIRST_PAUSE_MS = 1000;
/** The longest pause of our own, ms. */
export const LONGEST_PAUSE_MS = 60_000;
/**
 * The longest `Retry-After` that is honoured, ms: 15 minutes. Whoever asks for more is asked again then; alerts do not wait for an
 * hour because of a header.
 */
export const RETRY_AFTER_MOST_MS = 900_000;
/**
 * An alert that a destination did not take within this time of its message, ms (24 h), becomes a dead letter: news of yesterday's
 * alarm helps nobody at night, and stays where an operator can see it and send it all the same.
 */
export const TELL_WITHIN_MS = 86_400_000;

/**
 * The pause after the `attempts`-th failure in a row (1 is the first), ms: 1 s, 2 s, 4 s … 60 s, each somewhere between half and all
 * of it, but not less than the other side asked for (at most {@link RETRY_AFTER_MOST_MS}). `random` is from 0 to 1.
 */
export function pauseAfter(attempts: number, retryAfterMs: number | undefined, random: number): number {
  // 2^16 s are over the longest pause, and no exponent grows without end.
  const whole = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempts - 1, 16));
  const own = Math.round(whole / 2 + (whole / 2) * random);
  return Math.max(own, Math.min(retryAfterMs ?? 0, RETRY_AFTER_MOST_MS));
}

const MOST_CHARACTERS = 64;
/** RFC 9110 section 5.6.7: IMF-fixdate, and the two obsolete forms that a recipient must read. */
const HTTP_DATE =
  /^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT|[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4})$/;

/**
 * The wait that a `Retry-After` asks for (RFC 9110 section 10.2.3), ms from `now`: seconds, or a date (past: 0). Undefined when there
 * is none or it is neither.
 */
export function readRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined || header.length > MOST_CHARACTERS) return undefined;
  const text = header.trim();
  if (/^\d{1,15}$/.test(text)) return Number(text) * 1000;
  if (!HTTP_DATE.test(text)) return undefined;
  // The asctime form names no zone; it is UTC.
  const at = Date.parse(text.endsWith('GMT') ? text : `${text} GMT`);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
