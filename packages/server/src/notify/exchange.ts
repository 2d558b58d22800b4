/**
 * One HTTP POST, bounded in time and in what it reads.
 *
 * Guarantees: no redirect is followed, no proxy of the environment is used, no connection is kept. With an `admit` no
 * connection is made to an address that it refuses: it is asked about the very address that is connected to, after the name was
 * looked up, so that a name that changes its mind (DNS rebinding) wins nothing.
 * Failure: rejects with Node's network errors, or a CodedError `timeout`, `aborted`, `address-refused`. None of their codes
 * holds the URL.
 */
import { type LookupAddress, lookup as dnsLookup } from 'node:dns';
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { CodedError } from '../lib/coded-error.ts';

/** One POST. */
export interface Exchange {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** For all of it: name, connection, TLS, request, answer. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Whether an address may be connected to; absent: all may. */
  readonly admit?: ((address: string) => boolean) | undefined;
}

/** The answer. */
export interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** The first {@link ANSWER_BYTES} of its body, as UTF-8. */
  readonly text: string;
}

/** Most bytes of an answer that are read; the connection is cut after them. */
export const ANSWER_BYTES = 4096;

/** Posts and answers what came back, whatever its status. */
export function exchange({ url, headers, body, timeoutMs, signal, admit }: Exchange): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const literal = url.hostname.replace(/^\[(.*)\]$/, '$1');
    // Node looks up names only.
    if (admit !== undefined && isIP(literal) !== 0 && !admit(literal)) {
      reject(refused());
      return;
    }
    const bytes = Buffer.from(body);
    const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const sent: ClientRequest = start(url, {
      method: 'POST',
      agent: false,
      headers: { ...headers, 'content-length': String(bytes.length), connection: 'close' },
      ...(admit === undefined ? {} : { lookup: admittedLookup(admit) }),
    });
    let answering: IncomingMessage | undefined;
    // Once a status is there, only the rest of its body is given up.
    const end = (error: CodedError): void =>
      void (answering ?? sent).destroy(answering === undefined ? error : undefined);
    const abort = (): void => end(new CodedError('aborted', 'the post was ended'));
    const timer = setTimeout(() => end(new CodedError('timeout', 'no answer in time')), timeoutMs);
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    };
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
    sent.on('error', (error) => {
      finish();
      reject(error);
    });
    sent.on('response', (response) => {
      answering = response;
      void readSome(response).then((text) => {
        finish();
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], text });
      });
    });
    sent.end(bytes);
  });
}

/** The beginning of a body. The status says what happened: a body that breaks off or hangs changes nothing. */
function readSome(response: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const end = (): void => resolve(Buffer.concat(chunks).subarray(0, ANSWER_BYTES).toString('utf8'));
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= ANSWER_BYTES) response.destroy();
    });
    response.on('error', () => undefined);
    response.on('close', end);
  });
}

function admittedLookup(admit: (address: string) => boolean): LookupFunction {
  return (hostname, options, answer) => {
    dnsLookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return answer(error, []);
      const good = found.filter(({ address }) => admit(address));
      const [first] = good as [LookupAddress?];
      if (first === undefined) return answer(refused(), []);
      if (options.all === true) return answer(null, good);
      answer(null, first.address, first.family);
    });
  };
}

function refused(): CodedError {
  return new CodedError('address-refused', 'the address is none that may be connected to');
}
