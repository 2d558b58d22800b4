/**
 * A client that trusts nothing: what an independent author of a client would write from the contract alone. Requests
 * with any bytes in them, raw sockets, and the shape that every refusal must have.
 */
import { type Agent, request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { ERRORS, MAX_ERROR_DETAILS } from '@tocsin/protocol/errors';
import { expect } from 'vitest';

/** An answer as it came. `json` is the parsed body, or undefined. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- a test looks into whatever came
  readonly json: any;
}

/** What is sent. `body`: an object goes as JSON, text and bytes as they are; `chunks` go chunked, without a length. */
export interface Sent {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: unknown;
  readonly chunks?: readonly (string | Buffer)[];
  readonly token?: string;
  readonly key?: string;
  readonly agent?: Agent;
  readonly timeoutMs?: number;
}

function headersOf({ headers, body, token, key }: Sent): Record<string, string | string[]> {
  const json = body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body);
  return {
    ...(json ? { 'content-type': 'application/json' } : {}),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(key === undefined ? {} : { 'x-api-key': key }),
    ...headers,
  };
}

/** One request. Rejects when the connection breaks before a whole answer, or after `timeoutMs` (15 s). */
export function ask(url: string, sent: Sent = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', body, chunks, agent, timeoutMs = 15_000 } = sent;
    const headers = headersOf(sent);
    const bytes = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    if (chunks !== undefined) headers['transfer-encoding'] = 'chunked';
    else if (bytes !== undefined) headers['content-length'] = String(Buffer.byteLength(bytes));
    const request = httpRequest(url, { method, headers, ...(agent === undefined ? {} : { agent }) }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        clearTimeout(timer);
        const text = Buffer.concat(parts).toString('utf8');
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: parse(text) });
      });
    });
    const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    request.on('error', (error: Error) => {
      clearTimeout(timer);
      reject(error);
    });
    for (const chunk of chunks ?? []) request.write(chunk);
    request.end(bytes);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Expects the refusal of the contract's section 2: its document and the headers that its status calls for. */
export function expectRefusal(reply: Pick<Reply, 'status' | 'headers' | 'json'>, status: number, code?: string): void {
  const { json, headers } = reply;
  expect({ status: reply.status, code: json?.code }).toEqual({ status, code: code ?? expect.any(String) });
  expect(headers['content-type']).toMatch(/^application\/problem\+json(;|$)/);
  expect(Object.keys(ERRORS)).toContain(json.code);
  expect(json).toMatchObject({
    type: `urn:tocsin:error:${json.code}`,
    status,
    title: expect.any(String),
    detail: expect.any(String),
  });
  expect(json.title).toBe(ERRORS[json.code as keyof typeof ERRORS].title);
  expect(
    Object.keys(json).filter(
      (name) => !['type', 'title', 'status', 'code', 'detail', 'errors', 'checks'].includes(name),
    ),
  ).toEqual([]);
  if (json.errors !== undefined) {
    expect(json.errors.length).toBeLessThanOrEqual(MAX_ERROR_DETAILS);
    for (const entry of json.errors)
      expect(entry).toEqual({ pointer: expect.stringMatching(/^(\/.*)?$/), detail: expect.any(String) });
  }
  if (status === 429 || status === 503) expect(String(headers['retry-after'])).toMatch(/^[1-9]\d*$/);
  if (status === 429) {
    expect(headers['ratelimit']).toMatch(/^"[^"]+";r=0;t=\d+$/);
    expect(headers['ratelimit-policy']).toMatch(/^"[^"]+";q=\d+;w=\d+$/);
  }
  if (status === 401) expect(headers['www-authenticate']).toBeTruthy();
}

/** A raw connection: what is written goes out as it is, what comes back is kept until the end. */
export interface RawSocket {
  readonly socket: Socket;
  write(bytes: string | Buffer): void;
  /** Everything received so far. */
  received(): string;
  /** Resolves when `count` whole answers are there (by their Content-Length), or the other side has closed. */
  answers(count: number, timeoutMs?: number): Promise<Reply[]>;
  readonly closed: Promise<void>;
}

/** Opens one to the host and port of `base`. */
export async function openRaw(base: string): Promise<RawSocket> {
  const { hostname, port } = new URL(base);
  const socket = connect({ host: hostname, port: Number(port) });
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  let bytes = Buffer.alloc(0);
  const wake = new Set<() => void>();
  const stir = (): void => {
    for (const listener of wake) listener();
  };
  let over = false;
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      over = true;
      stir();
      resolve();
    });
  });
  socket.on('error', () => undefined);
  socket.on('data', (part: Buffer) => {
    bytes = Buffer.concat([bytes, part]);
    stir();
  });
  return {
    socket,
    closed,
    write: (text) => void socket.write(text),
    received: () => bytes.toString('latin1'),
    answers: (count, timeoutMs = 15_000) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => finish(new Error(`${split(bytes).length} of ${count} answers within ${timeoutMs} ms`)),
          timeoutMs,
        );
        const finish = (error?: Error): void => {
          clearTimeout(timer);
          wake.delete(look);
          if (error === undefined) resolve(split(bytes));
          else reject(error);
        };
        const look = (): void => {
          if (over || split(bytes).length >= count) finish();
        };
        wake.add(look);
        look();
      }),
  };
}

/** Whole answers at the front of `bytes`. */
function split(bytes: Buffer): Reply[] {
  const replies: Reply[] = [];
  for (let rest = bytes; ; ) {
    const end = rest.indexOf('\r\n\r\n');
    if (end === -1) return replies;
    const [line = '', ...fields] = rest.subarray(0, end).toString('latin1').split('\r\n');
    const headers = Object.fromEntries(
      fields.map((field) => [
        field.slice(0, field.indexOf(':')).toLowerCase(),
        field.slice(field.indexOf(':') + 1).trim(),
      ]),
    );
    const status = Number(line.split(' ')[1]);
    const length = status === 100 ? 0 : Number(headers['content-length'] ?? 0);
    if (rest.length < end + 4 + length) return replies;
    const text = rest.subarray(end + 4, end + 4 + length).toString('utf8');
    if (status !== 100) replies.push({ status, headers, text, json: parse(text) });
    rest = rest.subarray(end + 4 + length);
  }
}
