/** A server of a few lines that answers as a test says, for tests of the whole device. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One envelope that arrived. */
export interface Arrived {
  readonly id: string;
  readonly at: number;
  readonly readings: readonly Record<string, unknown>[];
  readonly sealed: string;
}

/** What to answer; `null`: cut the connection. */
export interface Scripted {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object | string;
}

/** A listening server. */
export interface ScriptedServer {
  readonly base: string;
  /** Everything that arrived, in order. */
  readonly arrived: Arrived[];
  /** How the next ones are answered. */
  answer: (arrived: Arrived) => Scripted | null;
  /** Resolves once `count` envelopes have arrived. */
  reached(count: number): Promise<void>;
  stop(): Promise<void>;
}

/** A 202 for the envelope. */
export function accepted({ id, readings }: Arrived): Scripted {
  return { status: 202, body: { id, accepted: readings.length } };
}

/** A problem document. */
export function problem(status: number, code: string, headers: Readonly<Record<string, string>> = {}): Scripted {
  return { status, headers, body: { code, detail: `detail of ${code}` } };
}

/** Starts on a free port; accepts everything. Sends no `Date` but those of the script. */
export async function startScripted(): Promise<ScriptedServer> {
  const arrived: Arrived[] = [];
  const waiting: { readonly count: number; readonly resolve: () => void }[] = [];
  const server = createServer((request, response) => {
    response.sendDate = false;
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('error', () => undefined);
    request.on('end', () => {
      if (request.url !== '/v1/readings') return void response.writeHead(200, { connection: 'close' }).end('{}');
      const payload = JSON.parse(Buffer.from(body.split('.')[1] ?? '', 'base64url').toString('utf8')) as Arrived;
      const one = { ...payload, sealed: body };
      arrived.push(one);
      const scripted = self.answer(one);
      for (const { count, resolve } of waiting) if (arrived.length >= count) resolve();
      if (scripted === null) return void request.socket.resetAndDestroy();
      const { status, headers = {}, body: answer = '' } = scripted;
      response.writeHead(status, headers).end(typeof answer === 'string' ? answer : JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const self: ScriptedServer = {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    arrived,
    answer: accepted,
    reached: (count) =>
      new Promise((resolve) => {
        if (arrived.length >= count) resolve();
        else waiting.push({ count, resolve });
      }),
    stop: () => new Promise((resolve) => server.close(() => resolve()).closeAllConnections()),
  };
  return self;
}
