import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createHttpServer } from './server.ts';
import { dateHeader, rawProblem } from './server-socket.ts';

const NOON = Date.UTC(2026, 10, 18, 12);
const AT_NOON = 'Wed, 18 Nov 2026 12:00:00 GMT';
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** All that a server with the clock `now` answers to `bytes`. */
async function answerTo(bytes: string, now: () => number, https = false, viewers = false): Promise<string> {
  const app = await createHttpServer({
    log: { error: () => undefined, debug: () => undefined },
    authenticators: {
      apiKey: () => Promise.reject(new Error('none')),
      bearer: () => Promise.reject(new Error('none')),
    },
    trace: () => '',
    now,
    https,
  });
  closing.push(() => app.close());
  app.get('/thing', { config: { access: { kind: 'public' } } }, () => ({ ok: true }));
  app.get('/bare', { config: { access: { kind: 'public' }, headers: 'bare' } }, () => ({ ok: true }));
  app.post('/thing', { config: { access: { kind: 'public' } } }, ({ body }) => ({ body }));
  if (viewers) app.server.on('upgrade', (_request, taken) => taken.end('HTTP/1.1 400 a handshake\r\n\r\n'));
  await app.listen({ host: '127.0.0.1', port: 0 });
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString();
}

const dates = (answer: string): string[] => [...answer.matchAll(/^date: (.*)\r$/gim)].map(([, date = '']) => date);

describe('the Date of an answer', () => {
  test("is Node's own while the clocks differ by less than half a second", () => {
    for (const off of [0, 1, -1, 499, -499]) expect(dateHeader(NOON + off, NOON)).toBeNull();
  });

  test('is the time that freshness is judged by from half a second on, in whole seconds', () => {
    expect(dateHeader(NOON, NOON - 500)).toBe(AT_NOON);
    expect(dateHeader(NOON + 999, NOON + 1499)).toBe(AT_NOON);
    expect(dateHeader(NOON, 0)).toBe(AT_NOON);
  });

  test.each([
    ['a route', 200, 'GET /thing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'],
    ['a path that is none', 404, 'GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'],
    ['a request without Host', 400, 'GET /thing HTTP/1.1\r\n\r\n'],
    ['what is no HTTP', 400, 'no http\r\n\r\n'],
  ])('is there once, and ours, for %s', async (_, status, bytes) => {
    const answer = await answerTo(bytes, () => NOON);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(dates(answer)).toEqual([AT_NOON]);
  });

  test.each([
    ['a route', 'GET /thing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'],
    ['a route of the fewest headers', 'GET /bare HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'],
    ['a path that is none', 'GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'],
    ['a request without Host', 'GET /thing HTTP/1.1\r\n\r\n'],
    ['what is no HTTP', 'no http\r\n\r\n'],
  ])('comes with HSTS once where the outside comes by https, and never elsewhere, for %s', async (_, bytes) => {
    const sent = (answer: string): string[] => answer.match(/^strict-transport-security: .*$/gim) ?? [];
    const [line, ...more] = sent(await answerTo(bytes, Date.now, true));
    expect(line?.toLowerCase()).toBe('strict-transport-security: max-age=31536000');
    expect([more, sent(await answerTo(bytes, Date.now))]).toEqual([[], []]);
  });

  test("is there once for a server on the machine's clock, too", async () => {
    const answer = await answerTo('GET /thing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', Date.now);
    expect(dates(answer)).toHaveLength(1);
  });

  test('stands in a raw problem', () => {
    expect(dates(rawProblem('malformed-request', 'broken', { https: false, now: () => NOON }))).toEqual([AT_NOON]);
  });
});

describe('a wish for another protocol', () => {
  const ask = (protocol: string): string =>
    `POST /thing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: ${protocol}\r\n` +
    'HTTP2-Settings: AAMAAABk\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}';

  test('other than WebSocket is ignored, and the request reaches its route with its body', async () => {
    for (const protocol of ['h2c', 'TLS/1.2', 'xwebsocket']) {
      const answer = await answerTo(ask(protocol), () => NOON, false, true);
      expect(answer).toMatch(/^HTTP\/1\.1 200 /);
      expect(answer).toContain('{"body":{"a":1}}');
    }
  });

  test('for WebSocket, be it among others, is a handshake', async () => {
    for (const protocol of ['websocket', 'WebSocket', 'websocket, h2c', 'h2c,websocket']) {
      expect(await answerTo(ask(protocol), () => NOON, false, true)).toMatch(/^HTTP\/1\.1 400 a handshake/);
    }
  });
});
