/**
 * What follows from the end of a connection: whether to come back, when, and with what. Pure tables.
 *
 * `CLOSE_POLICY` has exactly the rows of the protocol's `CLOSE_CODES` (a test compares code and advice). A code that is not
 * in it, 1006 among them, is a loss of the network.
 */
import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';

/** How waits grow: full jitter, `random x min(most, first x 2^attempt)`, in ms. */
export interface Pace {
  readonly firstMs: number;
  readonly mostMs: number;
}

/** What to do. */
export type Verdict =
  | { readonly action: 'stop'; readonly reason: string }
  | {
      readonly action: 'retry';
      readonly reason: string;
      readonly pace: Pace;
      /** Not before this, in ms. */
      readonly leastMs: number;
      /** True: what was carried is of no use any more. */
      readonly renew: boolean;
      /** True: nothing said why; `GET /v1/auth/session` may. */
      readonly ask: boolean;
    };

/** How a connection ended, or why there was none. */
export type LinkEnd =
  | { readonly kind: 'closed'; readonly code: number }
  /** A refused handshake, or a refused question about the session. */
  | { readonly kind: 'refused'; readonly status: number; readonly retryAfterMs: number | null }
  /** The handshake failed, and nothing says why. */
  | { readonly kind: 'unexplained' }
  /** We ended it. */
  | { readonly kind: 'dropped'; readonly why: DropReason }
  | { readonly kind: 'credentials'; readonly final: boolean; readonly retryAfterMs: number | null }
  /** The browser does not even try: a wrong URL, or ws: from a page over https. */
  | { readonly kind: 'unsupported' };

/** Why we end a connection. */
export type DropReason = 'silent' | 'no-watermark' | 'violation' | 'hole' | 'forged' | 'overflow' | 'handshake-late';

const NETWORK: Pace = { firstMs: 500, mostMs: 30_000 };
const CROWDED: Pace = { firstMs: 2000, mostMs: 60_000 };
const SOON: Pace = { firstMs: 250, mostMs: 30_000 };

/** By close code: the pace of coming back, or null to stay away. */
export const CLOSE_POLICY: Readonly<Record<CloseName, Pace | null>> = {
  end: NETWORK,
  restart: NETWORK,
  policy: null,
  tooBig: null,
  overloaded: CROWDED,
  replaced: null,
  expired: SOON,
  paymentRequired: null,
  revoked: null,
  slow: SOON,
  rate: CROWDED,
};

/** By HTTP status of a refusal: what it means; the others are a matter of time. */
const STATUS_STOP: Readonly<Record<number, string>> = { 400: 'malformed', 402: 'payment-required', 403: 'forbidden' };

type Retry = Extract<Verdict, { action: 'retry' }>;

function retry(reason: string, pace: Pace, more: Partial<Retry> = {}): Retry {
  return { action: 'retry', reason, pace, leastMs: 0, renew: false, ask: false, ...more };
}

function judgeClose(code: number): Verdict {
  const [name, row] = Object.entries(CLOSE_CODES).find(([, known]) => known.code === code) ?? [];
  if (name === undefined || row === undefined) return retry('network', NETWORK);
  const pace = CLOSE_POLICY[name as CloseName];
  if (pace === null) return { action: 'stop', reason: name };
  return retry(name, pace, { renew: row.advice === 'refresh-then-reconnect' });
}

function judgeStatus(status: number, retryAfterMs: number | null): Verdict {
  const stop = STATUS_STOP[status];
  if (stop !== undefined) return { action: 'stop', reason: stop };
  const reason = status === 429 ? 'rate-limited' : status === 401 ? 'unauthorized' : 'unavailable';
  return retry(reason, status === 401 ? SOON : CROWDED, { leastMs: retryAfterMs ?? 0, renew: status === 401 });
}

/** What follows from an end. */
export function judge(end: LinkEnd): Verdict {
  switch (end.kind) {
    case 'closed':
      return judgeClose(end.code);
    case 'refused':
      return judgeStatus(end.status, end.retryAfterMs);
    case 'unexplained':
      return retry('network', NETWORK, { ask: true });
    case 'dropped':
      return retry(end.why, end.why === 'silent' ? NETWORK : CROWDED);
    case 'credentials':
      return end.final
        ? { action: 'stop', reason: 'credentials' }
        : retry('credentials', CROWDED, { leastMs: end.retryAfterMs ?? 0 });
    case 'unsupported':
      return { action: 'stop', reason: 'unsupported' };
  }
}

/**
 * The wait before the next attempt, in ms: full jitter on top of what we were told to wait at least.
 * `attempt` counts from 0; `random` is from 0 to below 1.
 */
export function waitMs(pace: Pace, attempt: number, leastMs: number, random: number): number {
  return Math.round(leastMs + random * Math.min(pace.mostMs, pace.firstMs * 2 ** Math.min(attempt, 20)));
}
