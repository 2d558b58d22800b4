/**
 * What follows from the end of a connection: whether to come back, when, and with what. Pure tables.
 *
 * `CLOSE_POLICY` has exactly the rows of the protocol's `CLOSE_CODES`: the compiler compares names and codes, a test the
 * advice. (The protocol's own table, with its prose, would be a part of every page.) A code that is not in it, 1006 among
 * them, is a loss of the network.
 */
import type { CLOSE_CODES, CloseName } from '@tocsin/protocol/close-codes';
import type { SecretNeed } from './credentials.ts';

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
      /** What the next secret is for. */
      readonly need: SecretNeed;
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

/** Short at the most: nobody is protected meanwhile, and to be refused costs the other side next to nothing. */
const NETWORK: Pace = { firstMs: 500, mostMs: 5000 };
const CROWDED: Pace = { firstMs: 2000, mostMs: 60_000 };
const SOON: Pace = { firstMs: 250, mostMs: 5000 };

/** What a close code leads to. */
export interface ClosePolicy<Code extends number> {
  readonly code: Code;
  /** The pace of coming back, or null to stay away. */
  readonly pace: Pace | null;
  /** What the next secret is for, if not just to connect. */
  readonly need?: SecretNeed;
}

/** Every close code of the protocol, by its name. */
export const CLOSE_POLICY: { readonly [Name in CloseName]: ClosePolicy<(typeof CLOSE_CODES)[Name]['code']> } = {
  end: { code: 1001, pace: NETWORK },
  restart: { code: 1012, pace: NETWORK },
  policy: { code: 1008, pace: null },
  tooBig: { code: 1009, pace: null },
  overloaded: { code: 1013, pace: CROWDED },
  replaced: { code: 4001, pace: null },
  expired: { code: 4002, pace: SOON, need: 'reauthenticate' },
  paymentRequired: { code: 4003, pace: null },
  revoked: { code: 4004, pace: null },
  slow: { code: 4008, pace: SOON },
  rate: { code: 4029, pace: CROWDED },
};

/** By HTTP status of a refusal: what it means; the others are a matter of time. */
const STATUS_STOP: Readonly<Record<number, string>> = { 400: 'malformed', 402: 'payment-required', 403: 'forbidden' };

/** To come back. */
export type Retry = Extract<Verdict, { action: 'retry' }>;

function retry(
  reason: string,
  pace: Pace,
  leastMs: number | null = 0,
  need: SecretNeed = 'connect',
  ask = false,
): Retry {
  return { action: 'retry', reason, pace, leastMs: leastMs ?? 0, need, ask };
}

/** A connection that is gone, and nothing says why. */
export const NETWORK_LOSS: Retry = retry('network', NETWORK, 0, 'connect', true);

const halt = (reason: string): Verdict => ({ action: 'stop', reason });

function judgeClose(code: number): Verdict {
  const rows: [string, ClosePolicy<number>][] = Object.entries(CLOSE_POLICY);
  const [name, row] = rows.find(([, known]) => known.code === code) ?? ['network', { code, pace: NETWORK }];
  if (row.pace === null) return halt(name);
  // The token may be good still: a page that slept has only missed to show it again.
  return retry(name, row.pace, 0, row.need);
}

function judgeStatus(status: number, retryAfterMs: number | null): Verdict {
  const final = STATUS_STOP[status];
  if (final !== undefined) return halt(final);
  if (status === 401) return retry('unauthorized', SOON, retryAfterMs, 'refused');
  return retry(status === 429 ? 'rate-limited' : 'unavailable', CROWDED, retryAfterMs);
}

/** What follows from an end. */
export function judge(end: LinkEnd): Verdict {
  switch (end.kind) {
    case 'closed':
      return judgeClose(end.code);
    case 'refused':
      return judgeStatus(end.status, end.retryAfterMs);
    case 'unexplained':
      return NETWORK_LOSS;
    case 'dropped':
      return retry(end.why, end.why === 'silent' ? NETWORK : CROWDED);
    case 'credentials':
      return end.final ? halt('credentials') : retry('credentials', CROWDED, end.retryAfterMs);
    case 'unsupported':
      return halt('unsupported');
  }
}

/**
 * The wait before the next attempt, in ms: full jitter on top of what we were told to wait at least.
 * `attempt` counts from 0; `random` is from 0 to below 1.
 */
export function waitMs(pace: Pace, attempt: number, leastMs: number, random: number): number {
  return Math.round(leastMs + random * Math.min(pace.mostMs, pace.firstMs * 2 ** Math.min(attempt, 20)));
}
