/**
 * One HTTP request and its answer, over `node:http` or `node:https`.
 *
 * Guarantees: ends within its time limit; an answer larger than 64 KiB is not read; redirects are not followed; never
 * rejects. A request that meets a kept connection just as the server closes it is sent once more on a new one.
 */
import { type Agent, type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { systemCode } from './device-error.ts';
import type { TimeSource } from './time-source.ts';
import { type FailureReason, failureOf } from './verdict.ts';

/** What is asked. */
export interface Exchange {
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly agent: Agent;
  readonly timeoutMs: number;
  readonly time: TimeSource;
}

/** What came back; times are monotonic ms. */
export type Exchanged =
  | {
      readonly ok: true;
      readonly status: number;
      readonly headers: IncomingMessage['headers'];
      readonly text: string;
      readonly sentAt: number;
      readonly receivedAt: number;
    }
  | { readonly ok: false; readonly reason: FailureReason };

/** The largest answer that is read, bytes. Problem documents are at most a few KiB. */
const ANSWER_MOST_BYTES = 65_536;

/** Asks, and answers what came of it. */
export async function exchange(asked: Exchange): Promise<Exchanged> {
  const first = await attempt(asked);
  return first === 'stale-connection' ? attempt(asked).then(settled) : first;
}

function settled(outcome: Exchanged | 'stale-connection'): Exchanged {
  return outcome === 'stale-connection' ? { ok: false, reason: 'connection-lost' } : outcome;
}

function attempt(asked: Exchange): Promise<Exchanged | 'stale-connection'> {
  const { url, method, headers, body, agent, timeoutMs, time } = asked;
  return new Promise((resolve) => {
    const sentAt = time.monotonic();
    const start = url.protocol === 'https:' ? requestHttps : requestHttp;
    const request = start(url, { method, headers, agent });
    let heard = false;
    let over = false;
    const finish = (outcome: Exchanged | 'stale-connection'): void => {
      over = true;
      forget();
      resolve(outcome);
    };
    const fail = (reason: FailureReason): void => {
      if (over) return;
      finish({ ok: false, reason });
      request.destroy();
    };
    const forget = time.after(timeoutMs, () => fail('timeout'));
    request.once('error', (error) => {
      const stale = request.reusedSocket && !heard && ['ECONNRESET', 'EPIPE'].includes(systemCode(error));
      if (stale) finish('stale-connection');
      else fail(failureOf(systemCode(error)));
    });
    request.once('response', (response) => {
      heard = true;
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > ANSWER_MOST_BYTES) fail('answer-too-large');
        else chunks.push(chunk);
      });
      response.once('error', () => fail('connection-lost'));
      response.once('close', () => fail('connection-lost'));
      response.once('end', () => {
        const { statusCode: status = 0, headers: named } = response;
        const text = Buffer.concat(chunks).toString('utf8');
        finish({ ok: true, status, headers: named, text, sentAt, receivedAt: time.monotonic() });
      });
    });
    request.end(body);
  });
}
