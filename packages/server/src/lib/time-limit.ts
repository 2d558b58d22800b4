/** A signal that ends with another one, and after a time. */

/** The signal, and how to let go of its timer. */
export interface TimeLimit {
  readonly signal: AbortSignal;
  /** To be called when the work is over. */
  clear(): void;
}

/**
 * Aborts with `signal`, and after `ms`. Not `AbortSignal.timeout` within `AbortSignal.any`: in Node 20 the garbage collection
 * may take the timer, and then nothing ends.
 */
export function timeLimit(signal: AbortSignal, ms: number): TimeLimit {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), ms);
  return { signal: AbortSignal.any([signal, limit.signal]), clear: () => clearTimeout(timer) };
}
