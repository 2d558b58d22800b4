/**
 * How a client behaves on its connection: how often it speaks, how often it errs, when its receipts count. Pure rules over
 * times (monotonic ms) that are passed in; a few numbers for each connection.
 */

/** The window of the message limit, in ms. */
export const RATE_WINDOW_MS = 10_000;
/** Two errors within this time end the connection, in ms. */
export const STRIKE_MS = 60_000;
/** A receipt counts at most once in this time, in ms. */
export const RECEIPT_MS = 5000;
/** Messages of the uncounted kinds in one window; more, which no client has a use for, are counted like others. */
export const UNCOUNTED_MOST = 200;

/** What to do with a message or an error: take it, answer an error, or close. */
export type Verdict = 'accept' | 'warn' | 'close';

/** The conduct of one client. */
export interface Conduct {
  /** A message came. The first one over the limit is a warning, the next one closes. */
  message(uncounted: boolean, now: number): Verdict;
  /** A message was wrong. The second within a minute closes. */
  error(now: number): Exclude<Verdict, 'accept'>;
  /** A receipt came; answers the offset to pass on now, or null (it may be passed on later by {@link dueReceipt}). */
  receipt(offset: number, now: number): number | null;
  /** A receipt that waited and may be passed on now, or null. */
  dueReceipt(now: number): number | null;
}

/** Creates the conduct of a client that may send `perWindow` counted messages in 10 s. */
export function createConduct(perWindow: number): Conduct {
  let counted: number[] = [];
  let uncountedSeen: number[] = [];
  let warned = false;
  let lastError = Number.NEGATIVE_INFINITY;
  let receiptAt = Number.NEGATIVE_INFINITY;
  let passedOn = -1;
  let waiting = -1;

  const recent = (times: number[], now: number): number[] => times.filter((time) => time > now - RATE_WINDOW_MS);

  function dueReceipt(now: number): number | null {
    if (waiting <= passedOn || now - receiptAt < RECEIPT_MS) return null;
    receiptAt = now;
    passedOn = waiting;
    return passedOn;
  }

  return {
    message(uncounted, now) {
      if (uncounted) {
        uncountedSeen = recent(uncountedSeen, now);
        if (uncountedSeen.length < UNCOUNTED_MOST) {
          uncountedSeen.push(now);
          return 'accept';
        }
      }
      counted = recent(counted, now);
      if (counted.length < perWindow) {
        counted.push(now);
        warned = false;
        return 'accept';
      }
      if (warned) return 'close';
      warned = true;
      return 'warn';
    },
    error(now) {
      const second = now - lastError < STRIKE_MS;
      lastError = now;
      return second ? 'close' : 'warn';
    },
    receipt(offset, now) {
      waiting = Math.max(waiting, offset);
      return dueReceipt(now);
    },
    dueReceipt,
  };
}
