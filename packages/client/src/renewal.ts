/**
 * Re-authentication on an open connection, in time.
 *
 * `reauthenticateBy` is a time of the server's clock; watermarks tell how far ours is off. A credential that has no token
 * to show (ticket, cookie) moves to a new connection instead, before the old one ends.
 */
import { type CredentialContext, type Credentials, CredentialsError } from './credentials.ts';
import type { Environment } from './environment.ts';

/** Time between two tries, in ms; less where a third of the whole span is less. */
const TRY_MS = 15_000;
const TRY_LEAST_MS = 500;
/** The longest wait, in ms: timers hold no more than 24 days. */
const DAY_MS = 86_400_000;
/** The share of the whole time that is left for the try, and the most of it in ms. */
const MARGIN = 0.2;
const MARGIN_MOST_MS = 60_000;

/** Codes of `error` that say nothing about the token. */
const PASSING = ['store-unavailable', 'internal', 'rate-limited'];

/** What it needs. */
export interface RenewalOptions {
  readonly env: Environment;
  readonly credentials: Credentials;
  readonly context: CredentialContext;
  /** Sends a token on the connection. */
  readonly authenticate: (token: string) => void;
  /** Nothing can be done on this connection: move to another one. */
  readonly onMove: () => void;
  readonly onError: (error: unknown) => void;
}

/** Keeps one connection authenticated. */
export interface Renewal {
  /** The server told a new end, Unix ms. */
  until(reauthenticateBy: number): void;
  /** The server told its time, Unix ms. */
  serverTime(at: number): void;
  /** The server sent an error; answers whether it was about our token. */
  refused(code: string): boolean;
  stop(): void;
}

/** Creates it for a connection that was just opened. */
export function createRenewal(options: RenewalOptions): Renewal {
  const { env, credentials } = options;
  /** The server's clock less ours; null while it is not known. */
  let skew: number | null = null;
  let endsAt: number | null = null;
  /** When that was told, by our clock. */
  let toldAt = 0;
  const jitter = 0.5 + env.random() / 2;
  let startedAt = env.monotonic();
  let waiting = false;
  let cancel: (() => void) | null = null;
  let stopped = false;

  function plan(): void {
    cancel?.();
    if (endsAt === null || credentials.kind === 'none' || waiting || stopped) return;
    const left = endsAt - env.now() - (skew ?? 0);
    const span = Math.max(0, left + env.monotonic() - toldAt);
    const margin = Math.min(MARGIN_MOST_MS, span * MARGIN) * jitter;
    // A span that was told with a clock that may be off makes no tries more.
    const pause = skew === null ? TRY_MS : Math.min(TRY_MS, Math.max(TRY_LEAST_MS, span / 3));
    const soonest = startedAt + pause - env.monotonic();
    cancel = env.after(Math.min(DAY_MS, Math.max(soonest, left - margin, 0)), () => void renew());
  }

  async function renew(): Promise<void> {
    startedAt = env.monotonic();
    if (credentials.kind !== 'token') {
      // Again and again, until the move has worked: this connection is released then.
      plan();
      return options.onMove();
    }
    waiting = true;
    try {
      const token = await credentials.secret('reauthenticate', options.context);
      if (stopped) return;
      if (token !== null) return options.authenticate(token);
    } catch (error) {
      if (!(error instanceof CredentialsError)) options.onError(error);
    }
    waiting = false;
    plan();
  }

  return {
    until(reauthenticateBy) {
      waiting = false;
      endsAt = reauthenticateBy;
      toldAt = env.monotonic();
      plan();
    },
    serverTime(at) {
      skew = at - env.now();
      plan();
    },
    refused(code) {
      if (!waiting) return false;
      if (PASSING.includes(code)) {
        waiting = false;
        plan();
      } else if (!stopped) {
        // A second error within a minute would end the connection for good: another one, with another token.
        options.onMove();
      }
      return true;
    },
    stop() {
      stopped = true;
      cancel?.();
    },
  };
}
