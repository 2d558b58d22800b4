/**
 * Requests to the server: JSON in and out, bounded in time and size. Secrets travel in headers and bodies, never in a URL.
 */
import { isObject } from './alert-shape.ts';
import type { Environment, HttpResponse } from './environment.ts';

/** The longest that an answer may take, in ms. */
const ANSWER_MS = 10_000;
/** The largest answer, in bytes: a page of 500 alerts is below it. */
const ANSWER_BYTES = 16_777_216;
/** Longer than this no `Retry-After` makes us wait, in ms. */
const RETRY_AFTER_MOST_MS = 300_000;

/** What is asked. */
export interface Question {
  /** Path with its query, from the base of the server; without a slash in front. */
  readonly path: string;
  readonly bearer?: string | null;
  /** With a body it is a POST. */
  readonly body?: object;
  /** True: the browser's cookies of the same origin go along. */
  readonly cookies?: boolean;
}

/** What was answered. */
export interface Reply {
  readonly status: number;
  /** An empty object when the body is none, or no JSON object. */
  readonly body: Readonly<Record<string, unknown>>;
  readonly retryAfterMs: number | null;
}

/** Asks; answers null when there was no answer that could be read: no network, no permission (CORS), too slow, too large. */
export type Ask = (question: Question) => Promise<Reply | null>;

/** Milliseconds of a `Retry-After` in seconds; null when there is none. */
export function retryAfterMs(header: string | null = null): number | null {
  return header !== null && /^\d{1,9}$/.test(header) ? Math.min(Number(header) * 1000, RETRY_AFTER_MOST_MS) : null;
}

async function readText(response: HttpResponse): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done || value === undefined) return text + decoder.decode();
    bytes += value.length;
    if (bytes > ANSWER_BYTES) {
      void reader?.cancel();
      throw new RangeError('too large');
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** Creates the way to ask the server at `base` (with a slash at its end). */
export function createAsk(env: Environment, base: string): Ask {
  return async ({ path, bearer = null, body, cookies = false }) => {
    try {
      const response = await env.fetch(base + path, {
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        body: body === undefined ? null : JSON.stringify(body),
        cache: 'no-store',
        redirect: 'error',
        credentials: cookies ? 'same-origin' : 'omit',
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const text = await readText(response);
      return {
        status: response.status,
        body: parseObject(text),
        retryAfterMs: retryAfterMs(response.headers.get('retry-after')),
      };
    } catch {
      return null;
    }
  };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}
