/**
 * The routes of operators, for whoever makes and removes a fleet: signs in, and again when the token has expired.
 *
 * Guarantees: a server that says "later" (429, 503) is asked again for up to 30 s, as it says itself.
 * Failure: {@link FleetError}.
 */
import { createHttpPool, type HttpOutcome, type HttpPool } from './http-pool.ts';
import type { HttpResponse } from './http-response.ts';

/** What keeps a fleet from working. `message` is one line for people. */
export class FleetError extends Error {
  override readonly name = 'FleetError';
  readonly code: 'server-unreachable' | 'server-refused';

  constructor(code: FleetError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** An answer; `body` is parsed JSON, or null. */
export interface OperatorAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>> | null;
}

/** A person's session. */
export interface Operator {
  /** Any answer but 401, 429 and 503 is the caller's to judge. */
  call(method: string, path: string, body?: object): Promise<OperatorAnswer>;
  /** As {@link Operator.call}, and refuses every status that is not in `wanted`. */
  expect(wanted: readonly number[], method: string, path: string, body?: object): Promise<OperatorAnswer>;
  close(): void;
}

/** Where and as whom. */
export interface OperatorOptions {
  readonly origin: string;
  readonly email: string;
  readonly password: string;
}

const CONNECTIONS = 8;
const TIMEOUT_MS = 15_000;
/** The server refuses connections: no use in waiting as long as for an answer. */
const CONNECT_PATIENCE_MS = 2000;
const LATER_MS = 30_000;

/** One request over a pool; rejects with `server-unreachable`. */
export async function request(
  pool: HttpPool,
  origin: string,
  {
    method,
    path,
    headers = {},
    body,
  }: { method: string; path: string; headers?: Record<string, string>; body?: string },
): Promise<HttpResponse> {
  const content = body === undefined ? '' : Buffer.from(body, 'utf8').toString('latin1');
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `host: ${new URL(origin).host}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ...(body === undefined ? [] : ['content-type: application/json']),
    `content-length: ${content.length}`,
  ];
  const outcome = await new Promise<HttpOutcome>((resolve) => {
    const watch = setInterval(() => {
      const down = pool.downSince();
      if (down !== null && performance.now() - down > CONNECT_PATIENCE_MS) settle({ kind: 'unsent' });
    }, 100);
    const settle = (end: HttpOutcome): void => {
      clearInterval(watch);
      resolve(end);
    };
    pool.send(() => `${lines.join('\r\n')}\r\n\r\n${content}`, settle);
  });
  if (outcome.kind === 'answer') return outcome.response;
  const why =
    outcome.kind === 'unanswered' && outcome.why === 'timeout'
      ? 'it does not answer'
      : pool.lastError() || 'the connection broke';
  throw new FleetError('server-unreachable', `the server at ${origin} cannot be reached: ${why}`);
}

function parse({ status, body }: HttpResponse): OperatorAnswer {
  try {
    const value: unknown = JSON.parse(Buffer.from(body, 'latin1').toString('utf8'));
    return { status, body: typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null };
  } catch {
    return { status, body: null };
  }
}

/** Signs in. */
export async function openOperator({ origin, email, password }: OperatorOptions): Promise<Operator> {
  const pool = createHttpPool({ origin, connections: CONNECTIONS, timeoutMs: TIMEOUT_MS });
  let token = '';
  const signIn = async (): Promise<void> => {
    const body = JSON.stringify({ email, password });
    const { status, body: answer } = parse(
      await request(pool, origin, { method: 'POST', path: '/v1/auth/login', body }),
    );
    const given = answer?.['access_token'];
    if (typeof given !== 'string') {
      throw new FleetError(
        'server-refused',
        `the server at ${origin} does not let ${email} sign in${said(status, answer)}`,
      );
    }
    token = given;
  };
  const once = (method: string, path: string, body?: object): Promise<HttpResponse> => {
    const headers = { authorization: `Bearer ${token}` };
    return request(pool, origin, {
      method,
      path,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  };
  const call: Operator['call'] = async (method, path, body) => {
    const until = performance.now() + LATER_MS;
    for (;;) {
      const response = await once(method, path, body);
      if (response.status === 401 && performance.now() < until) await signIn();
      else if ((response.status === 429 || response.status === 503) && performance.now() < until) await later(response);
      else return parse(response);
    }
  };
  try {
    await signIn();
  } catch (error) {
    pool.close();
    throw error;
  }
  return {
    call,
    async expect(wanted, method, path, body) {
      const answer = await call(method, path, body);
      if (wanted.includes(answer.status)) return answer;
      throw new FleetError(
        'server-refused',
        `${method} ${path}: the server refused${said(answer.status, answer.body)}`,
      );
    },
    close: () => pool.close(),
  };
}

function later({ head }: HttpResponse): Promise<void> {
  const seconds = Number(/\r\nretry-after:[ \t]*(\d{1,4})/i.exec(head)?.[1] ?? 1);
  return new Promise((resolve) => setTimeout(resolve, Math.min(10, Math.max(1, seconds)) * 1000));
}

/** What a refusal says, in brackets. */
function said(status: number, body: OperatorAnswer['body']): string {
  const detail = body?.['detail'];
  return ` (${status}${typeof detail === 'string' ? `: ${detail.replaceAll(/\p{Cc}/gu, '?').slice(0, 200)}` : ''})`;
}
