/**
 * What a kind of destination is: it takes notices and says what became of them. Slack, webhooks and e-mail are
 * implementations; `delivery.ts` decides what is told, when, in which order, and what happens after a failure.
 *
 * Failure: `post` never rejects; whatever happens is an {@link Outcome} with a short code. No code, and nothing else that
 * leaves a notifier, holds a URL, a secret, an address or a text of the other side.
 */
import type { Alert } from '@tocsin/protocol/alert';
import type { NoticeEvent } from '../store/ports/notifications.ts';

/** Kinds of destinations, as metrics name them. */
export type DestinationKind = 'slack' | 'webhook' | 'email';

/** What a destination is told: one message of the channel. */
export interface Notice {
  /** `<alert id>.<revision>`: the same however often it is posted. */
  readonly key: string;
  readonly offset: number;
  readonly event: NoticeEvent;
  readonly alert: Alert;
  /** The alert as the channel has it, JSON text. */
  readonly body: string;
}

/** What became of a post. `reason` is a code such as `http-503`, `timeout`, `ECONNREFUSED`. */
export type Outcome =
  | { readonly kind: 'sent' }
  /** Try again, at the earliest after `retryAfterMs` if the other side said so. */
  | { readonly kind: 'later'; readonly reason: string; readonly retryAfterMs?: number | undefined }
  /** Trying again would change nothing. */
  | { readonly kind: 'refused'; readonly reason: string };

/** One destination. */
export interface Notifier {
  readonly kind: DestinationKind;
  /** Its name in the store: `slack`, `email`, `webhook:<digest>`. */
  readonly destination: string;
  /** A post has ended by then, ms. */
  readonly timeoutMs: number;
  /** How many of the first of these go into one post; at least 1. Pure. */
  join(waiting: readonly Notice[]): number;
  /** Posts notices, in one post. `signal` ends it early (the outcome is `later` then). */
  post(notices: readonly Notice[], signal: AbortSignal): Promise<Outcome>;
  /** Posts a text of the program's own that is no alert; absent where there is none. */
  postText?(text: string, signal: AbortSignal): Promise<Outcome>;
  close(): void;
}

/** The outcome of an HTTP status: 2xx sent; 429 and 5xx later; whatever else refused (redirects too). Pure. */
export function outcomeOfStatus(status: number, retryAfterMs?: number): Outcome {
  if (status >= 200 && status < 300) return { kind: 'sent' };
  const reason = `http-${status}`;
  return status === 429 || status >= 500 ? { kind: 'later', reason, retryAfterMs } : { kind: 'refused', reason };
}

/** The code of an error as it may be shown: Node's (`ECONNRESET`) or ours, never its text. */
export function codeOf(error: unknown): string {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[A-Za-z0-9_-]{1,60}$/.test(code) ? code : 'failed';
}
