/**
 * Slack, by an incoming webhook and Slack's own client for it.
 *
 * The URL is a secret and is in no error, log or outcome. The client makes no retries of its own (`delivery.ts` does), gets its HTTP
 * from us (bounds, no redirects, no proxy of the environment), and each post carries the keys of its alerts in `Idempotency-Key`:
 * Slack ignores it, a relay in between need not.
 */
import {
  type FetchFunction,
  IncomingWebhook,
  IncomingWebhookHTTPError,
  IncomingWebhookRequestError,
} from '@slack/webhook';
import type { Clock } from '../../lib/clock.ts';
import { exchange } from '../exchange.ts';
import { codeOf, type Notifier, type Outcome, outcomeOfStatus } from '../notifier.ts';
import { readRetryAfter } from '../retry.ts';
import { joined, lineOf } from './text.ts';

/** What it needs. */
export interface SlackOptions {
  /** The incoming webhook; http(s). */
  readonly url: string;
  /** Where people find alerts: an alert's id follows it. Null: nowhere. */
  readonly link: string | null;
  readonly clock: Clock;
  /** For one post, ms. */
  readonly timeoutMs?: number;
}

/** For one post: Slack and most receivers answer within one second. */
const TIMEOUT_MS = 10_000;

/** Builds the destination `slack`. */
export function createSlack({ url, link, clock, timeoutMs = TIMEOUT_MS }: SlackOptions): Notifier {
  const target = new URL(url);
  const post = async (text: string, keys: string, signal: AbortSignal): Promise<Outcome> => {
    let retryAfter: string | undefined;
    const fetchOnce: FetchFunction = async (_url, init) => {
      const answer = await exchange({
        url: target,
        headers: { ...init?.headers, ...(keys === '' ? {} : { 'idempotency-key': keys }) },
        body: typeof init?.body === 'string' ? init.body : '',
        timeoutMs,
        signal,
      });
      retryAfter = answer.retryAfter;
      return new Response(NULL_BODY.includes(answer.status) ? null : answer.text, { status: answer.status });
    };
    // Outside text can neither unfurl nor mention.
    const webhook = new IncomingWebhook(url, { fetch: fetchOnce, link_names: false });
    try {
      await webhook.send({ text, unfurl_links: false, unfurl_media: false });
      return { kind: 'sent' };
    } catch (error) {
      if (error instanceof IncomingWebhookHTTPError) {
        return outcomeOfStatus(error.statusCode, readRetryAfter(retryAfter, clock.now()));
      }
      const cause = error instanceof IncomingWebhookRequestError ? error.original : error;
      return { kind: 'later', reason: codeOf(cause) };
    }
  };
  return {
    kind: 'slack',
    destination: 'slack',
    timeoutMs,
    join: (waiting) => joined(waiting, link),
    post: (notices, signal) =>
      post(notices.map((notice) => lineOf(notice, link)).join('\n'), notices.map(({ key }) => key).join(','), signal),
    postText: (text, signal) => post(text, '', signal),
    close: () => undefined,
  };
}

/** Statuses whose Response may have no body. */
const NULL_BODY: readonly number[] = [204, 205, 304];
