/**
 * Envelopes over HTTP: `POST /v1/readings` on kept connections.
 *
 * Guarantees: https, or this machine, unless `allowInsecure`; the API key goes into its header and nowhere else; times
 * and sizes bounded, redirects not followed (`http-exchange.ts`). Failure: an answer of its own, see `verdict.ts`.
 */
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { type ErrorDetail, MAX_ERROR_DETAILS } from '@tocsin/protocol/errors';
import { readDate, type TimeSample } from './clock.ts';
import { type Exchanged, exchange } from './http-exchange.ts';
import { readRetryAfter } from './retry.ts';
import type { Sender } from './sender.ts';
import { checkApiKey, checkUrl } from './server-url.ts';
import { systemTime, type TimeSource } from './time-source.ts';
import type { Answer } from './verdict.ts';

/** PEM texts, as `node:tls` takes them. */
export interface TlsFiles {
  /** Whom to trust, instead of the usual authorities. */
  readonly ca?: string;
  /** Our certificate and its key. */
  readonly cert?: string;
  readonly key?: string;
}

/** How to reach the server. */
export interface HttpSenderOptions {
  /** Base URL, as in `https://tocsin.example`; a path before `/v1` is kept. */
  readonly server: string;
  readonly apiKey: string;
  readonly allowInsecure?: boolean;
  readonly tls?: TlsFiles;
  /** The longest that a request takes, ms. */
  readonly requestMs: number;
  /** Connections at once. */
  readonly connections: number;
  readonly time?: TimeSource;
}

/** The longest text of an answer that is kept. */
const TEXT_MOST = 500;
/** Idle connections are closed before the server does (75 s). */
const IDLE_MS = 60_000;

/** A sender over HTTP. Throws `option-invalid` or `server-insecure`. */
export function createHttpSender(options: HttpSenderOptions): Sender {
  const { apiKey, tls = {}, requestMs: timeoutMs, connections, time = systemTime } = options;
  const rules = { option: 'server', secure: 'https:', plain: 'http:', allowInsecure: options.allowInsecure === true };
  const base = checkUrl(options.server, rules);
  const to = (path: string): URL => new URL(base.pathname.replace(/\/+$/, '') + path, base);
  // One more, for the question of the time: what waits for a connection would outlive the agent.
  const settings = { keepAlive: true, maxSockets: connections + 1, timeout: IDLE_MS };
  const agent = base.protocol === 'https:' ? new SecureAgent({ ...settings, ...tls }) : new Agent(settings);
  const headers = { 'content-type': 'application/jose', 'x-api-key': checkApiKey(apiKey), accept: 'application/json' };
  const readings = to('/v1/readings');
  const live = to('/health/live');
  let closed = false;
  return {
    send: async (sealed, id) => {
      if (closed) return { kind: 'failed', reason: 'connection-lost' };
      const length = String(Buffer.byteLength(sealed));
      return readAnswer(
        await exchange({
          ...{ url: readings, method: 'POST', body: sealed, agent, timeoutMs, time },
          headers: { ...headers, 'content-length': length },
        }),
        id,
      );
    },
    askTime: async () => {
      if (closed) return null;
      return sampleOf(await exchange({ url: live, method: 'GET', headers: {}, body: '', agent, timeoutMs, time }));
    },
    close: async () => {
      closed = true;
      agent.destroy();
    },
  };
}

/** The time that an answer tells; null for one out of a cache. */
export function sampleOf(outcome: Exchanged): TimeSample | null {
  if (!outcome.ok || outcome.headers.age !== undefined) return null;
  const date = readDate(outcome.headers.date);
  return date === null ? null : { date, sentAt: outcome.sentAt, receivedAt: outcome.receivedAt };
}

/** What the server said about the envelope `id`. */
export function readAnswer(outcome: Exchanged, id: string): Answer {
  if (!outcome.ok) return { kind: 'failed', reason: outcome.reason };
  const { status, headers, text } = outcome;
  const body = parseObject(text);
  const sample = sampleOf(outcome);
  return {
    kind: 'answered',
    status,
    code: typeof body['code'] === 'string' ? body['code'].slice(0, TEXT_MOST) : null,
    named: status === 202 && body['id'] === id,
    detail: typeof body['detail'] === 'string' ? body['detail'].slice(0, TEXT_MOST) : '',
    errors: readErrors(body['errors']),
    retryAfterMs: readRetryAfter(headers['retry-after'], sample?.date ?? null),
    sample,
  };
}

function readErrors(value: unknown): ErrorDetail[] {
  if (!Array.isArray(value)) return [];
  return value.slice(0, MAX_ERROR_DETAILS).map((each: unknown) => {
    const { pointer, detail } = (each ?? {}) as { readonly pointer?: unknown; readonly detail?: unknown };
    return { pointer: String(pointer).slice(0, TEXT_MOST), detail: String(detail).slice(0, TEXT_MOST) };
  });
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
