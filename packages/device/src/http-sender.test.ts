import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { createHttpSender, type HttpSenderOptions } from './http-sender.ts';
import type { Sender } from './sender.ts';

const KEY = 'tsk_a-secret-key';
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function serve(
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void,
): Promise<string> {
  const server: Server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => answer(request, response, body));
    request.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function open(server: string, more: Partial<HttpSenderOptions> = {}): Sender {
  const sender = createHttpSender({ server, apiKey: KEY, requestMs: 10_000, connections: 4, ...more });
  ends.push(() => sender.close());
  return sender;
}

describe('an envelope over HTTP', () => {
  it('is a POST with its content type and key, and 202 counts when it names the envelope', async () => {
    const seen: unknown[] = [];
    const base = await serve((request, response, body) => {
      const { 'content-type': type, 'x-api-key': key, 'content-length': length } = request.headers;
      seen.push([request.method, request.url, type, key, length, body]);
      response.writeHead(202).end('{"id":"e1","accepted":1}');
    });
    const sender = open(`${base}/behind/a/path/`);
    expect(await sender.send('a.b.c', 'e1')).toMatchObject({ kind: 'answered', status: 202, named: true, code: null });
    expect(seen).toEqual([['POST', '/behind/a/path/v1/readings', 'application/jose', KEY, '5', 'a.b.c']]);
    expect(await sender.send('a.b.c', 'e2')).toMatchObject({ named: false });
  });

  it('brings code, reasons, Retry-After and the time of a problem document', async () => {
    const errors = Array.from({ length: 30 }, () => ({ pointer: '/readings/0/value', detail: 'x'.repeat(900) }));
    const base = await serve((_request, response) => {
      response.writeHead(422, { 'retry-after': '3', date: 'Sat, 28 Nov 2026 12:00:00 GMT' });
      response.end(JSON.stringify({ code: 'schema', detail: 'it breaks', errors }));
    });
    const answer = await open(base).send('x', 'e1');
    expect(answer).toMatchObject({ status: 422, code: 'schema', detail: 'it breaks', retryAfterMs: 3000 });
    if (answer.kind !== 'answered') throw new Error('no answer');
    expect(answer.errors).toHaveLength(20);
    expect(answer.errors[0]?.detail).toHaveLength(500);
    expect(answer.sample?.date).toBe(Date.UTC(2026, 10, 28, 12));
  });

  it.each([
    ['not JSON', '<html>hello</html>'],
    ['null', 'null'],
    ['a list', '[1]'],
    ['other types', '{"code":5,"detail":{},"errors":{"a":1},"id":7}'],
  ])('takes a body that is %s for nothing', async (_, text) => {
    const base = await serve((_request, response) => response.writeHead(202).end(text));
    expect(await open(base).send('x', 'e1')).toMatchObject({ named: false, code: null, detail: '', errors: [] });
  });

  it('does not follow a redirect', async () => {
    let asked = 0;
    const base = await serve((_request, response) => {
      asked += 1;
      response.writeHead(307, { location: '/elsewhere' }).end();
    });
    expect(await open(base).send('x', 'e1')).toMatchObject({ status: 307 });
    expect(asked).toBe(1);
  });

  it('fails by name: nobody listens, cut in mid-answer, silence, endless answers', async () => {
    const base = await serve((request, response) => {
      if (request.url === '/cut/v1/readings')
        response.writeHead(202, { 'content-length': '50' }).write('{"id":', () => response.destroy());
      if (request.url === '/long/v1/readings') response.writeHead(202).end('x'.repeat(70_000));
    });
    expect(await open(`${base}/cut`).send('x', 'e1')).toEqual({ kind: 'failed', reason: 'connection-lost' });
    expect(await open(`${base}/long`).send('x', 'e1')).toEqual({ kind: 'failed', reason: 'answer-too-large' });
    expect(await open(base, { requestMs: 100 }).send('x', 'e1')).toEqual({ kind: 'failed', reason: 'timeout' });
    const dead = await serve(() => undefined);
    await ends.pop()?.();
    expect(await open(dead).send('x', 'e1')).toEqual({ kind: 'failed', reason: 'connection-refused' });
  });

  it('on a kept connection that the server has just closed is sent once more at once', async () => {
    const sockets = new Set<Socket>();
    let answered = 0;
    const base = await serve((request, response) => {
      const { socket } = request;
      if (sockets.has(socket)) return void socket.resetAndDestroy();
      sockets.add(socket);
      answered += 1;
      response.writeHead(202).end('{"id":"e1"}');
    });
    const sender = open(base);
    for (let each = 0; each < 3; each += 1) expect(await sender.send('x', 'e1')).toMatchObject({ status: 202 });
    expect(answered).toBe(3);
  });

  it('that is on its way when the sender is closed is lost, and so is a later one', async () => {
    let arrived: () => void = () => undefined;
    const there = new Promise<void>((resolve) => (arrived = resolve));
    const sender = open(await serve(() => arrived()));
    const answer = sender.send('x', 'e1');
    await there;
    await sender.close();
    expect(await answer).toEqual({ kind: 'failed', reason: 'connection-lost' });
    expect(await sender.send('x', 'e1')).toEqual({ kind: 'failed', reason: 'connection-lost' });
    expect(await sender.askTime()).toBeNull();
  });

  it('asks for the time without the key, and does not take it out of a cache', async () => {
    const keys: unknown[] = [];
    let age: Record<string, string> = {};
    const base = await serve((request, response) => {
      keys.push([request.url, request.headers['x-api-key']]);
      response.writeHead(200, { date: 'Sat, 28 Nov 2026 12:00:00 GMT', ...age }).end('{}');
    });
    const sender = open(base);
    expect((await sender.askTime())?.date).toBe(Date.UTC(2026, 10, 28, 12));
    age = { age: '5' };
    expect(await sender.askTime()).toBeNull();
    expect(keys).toEqual([
      ['/health/live', undefined],
      ['/health/live', undefined],
    ]);
  });
});

describe('the address of a server', () => {
  it.each(['ftp://x', 'x', '', 'https://', 'https://user@x', 'https://u:p@x', 'https://x/?a=1', 'https://x/#a'])(
    'is refused as %s',
    (server) => {
      expect(() => open(server)).toThrow(expect.objectContaining({ code: 'option-invalid' }));
    },
  );

  it('is https, this machine, or allowed', () => {
    for (const server of [
      'http://example.org',
      'http://127.0.0.1.example.org',
      'http://10.0.0.1',
      'http://localhost.x',
    ]) {
      expect(() => open(server)).toThrow(expect.objectContaining({ code: 'server-insecure' }));
      expect(() => open(server, { allowInsecure: true })).not.toThrow();
    }
    for (const server of ['https://example.org', 'http://localhost:1', 'http://127.0.0.1:1', 'http://[::1]:1']) {
      expect(() => open(server)).not.toThrow();
    }
  });

  it('never stands in an error, and neither does the key', () => {
    const secret = 'hunter2-hunter2';
    const causes = [
      () => open(`https://user:${secret}@x`),
      () => open(`https://x/?token=${secret}`),
      () => open('https://x', { apiKey: `${secret}\n` }),
      () => open('https://x', { apiKey: `${secret} x` }),
    ];
    for (const cause of causes) {
      try {
        cause();
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: 'option-invalid' });
        expect(inspect(error)).not.toContain(secret);
      }
    }
  });
});
