/**
 * A generic webhook: a CloudEvent for each notice, signed by Standard Webhooks, to public addresses over https unless private ones
 * are allowed.
 *
 * Its name in the store is a digest of its URL, which may hold a token; nothing else shows it.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../../lib/clock.ts';
import { exchange } from '../exchange.ts';
import { codeOf, type Notifier, outcomeOfStatus } from '../notifier.ts';
import { readRetryAfter } from '../retry.ts';
import { isPublicAddress } from './addresses.ts';
import { EVENT_MEDIA_TYPE, eventOf } from './event.ts';
import { signWebhook } from './signature.ts';

/** What it needs. */
export interface WebhookOptions {
  readonly url: string;
  /** Secrets, the newest first; one signature for each. */
  readonly secrets: readonly Buffer[];
  /** How the outside calls us. */
  readonly source: string;
  /** Addresses of private networks and this host may be reached, and http is allowed. */
  readonly allowPrivate: boolean;
  readonly clock: Clock;
  /** For one post, ms. */
  readonly timeoutMs?: number;
  readonly version: string;
}

/** For one post: Slack and most receivers answer within one second. */
const TIMEOUT_MS = 10_000;
const DIGEST_CHARACTERS = 16;

/** The name of a webhook in the store. */
export function webhookName(url: string): string {
  return `webhook:${createHash('sha256').update(url).digest('hex').slice(0, DIGEST_CHARACTERS)}`;
}

/** Builds the destination. */
export function createWebhook(options: WebhookOptions): Notifier {
  const { url, secrets, source, allowPrivate, clock, version, timeoutMs = TIMEOUT_MS } = options;
  const target = new URL(url);
  return {
    kind: 'webhook',
    destination: webhookName(url),
    timeoutMs,
    join: () => 1,
    async post([notice], signal) {
      if (notice === undefined) return { kind: 'sent' };
      const now = clock.now();
      const timestamp = Math.floor(now / 1000);
      const body = eventOf(notice, source);
      try {
        const { status, retryAfter } = await exchange({
          url: target,
          headers: {
            'content-type': EVENT_MEDIA_TYPE,
            'user-agent': `tocsin/${version}`,
            'webhook-id': notice.key,
            'webhook-timestamp': String(timestamp),
            'webhook-signature': signWebhook(secrets, notice.key, timestamp, body),
          },
          body,
          timeoutMs,
          signal,
          admit: allowPrivate ? undefined : isPublicAddress,
        });
        return outcomeOfStatus(status, readRetryAfter(retryAfter, now));
      } catch (error) {
        const reason = codeOf(error);
        return { kind: reason === 'address-refused' ? 'refused' : 'later', reason };
      }
    },
    close: () => undefined,
  };
}
