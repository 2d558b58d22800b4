/** Handshakes that are slow, half, doubled, forged or huge, against a server process: an HTTP problem, never a socket. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type AbuseSystem, answers, ATTACKER, startAbuseSystem } from './abuse-system.suite.ts';
import { expectRefusal, openRaw } from './contract-client.suite.ts';
import { handshakeText } from './contract-viewer.ts';
import { frameOf, openRawWebSocket, type RawWebSocket } from './raw-websocket.ts';

let system: AbuseSystem;
beforeAll(async () => {
  system = await startAbuseSystem();
});
afterEach(() => system.unharmed());
afterAll(() => system?.stop());

const PING = frameOf('{"type":"ping"}');

/** The lines of a handshake that would be let in. */
const lines = (): string[] => [
  'GET /ws/alerts HTTP/1.1',
  'Host: contract.test',
  'Upgrade: websocket',
  'Connection: Upgrade',
  'Sec-WebSocket-Version: 13',
  `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
  `Authorization: Bearer ${system.token}`,
  `X-Forwarded-For: ${ATTACKER}`,
];
const text = (...all: readonly string[]): string => `${all.join('\r\n')}\r\n\r\n`;
/** A handshake with lines exchanged (by their first word) and added. */
function changed(change: Readonly<Record<string, string>>, ...added: readonly string[]): string {
  return text(...lines().map((line) => change[line.split(/[ :]/)[0] ?? ''] ?? line), ...added);
}

/** Expects a problem document with this status, then the end of the connection. */
async function expectProblem(request: string | Buffer, status: number): Promise<RawWebSocket> {
  const peer = await openRawWebSocket(system.base, { request });
  expect([String(request).slice(0, 300), peer.status, peer.body.slice(0, 200)]).toEqual([
    String(request).slice(0, 300),
    status,
    expect.any(String),
  ]);
  expectRefusal({ status: peer.status, headers: peer.headers, json: JSON.parse(peer.body) as object }, status);
  await peer.ended;
  return peer;
}

async function expectOpen(request: string): Promise<RawWebSocket> {
  const peer = await openRawWebSocket(system.base, { request });
  expect([request.slice(0, 300), peer.status]).toEqual([request.slice(0, 300), 101]);
  await peer.until(() => peer.messages().length > 0);
  return peer;
}

describe('a handshake that takes its time', () => {
  test('byte by byte is ended with 408 after 5 s, and takes no place meanwhile', { timeout: 40_000 }, async () => {
    const slow = await Promise.all(Array.from({ length: 50 }, () => openRaw(system.base)));
    const request = handshakeText('/ws/alerts', {
      Authorization: `Bearer ${system.token}`,
      'X-Forwarded-For': ATTACKER,
    });
    let at = 0;
    const drip = setInterval(() => {
      for (const raw of slow) raw.write(request[at] ?? '');
      at += 1;
    }, 100);
    const meanwhile = await system.attack();
    expect(meanwhile.status).toBe(101);
    meanwhile.socket.destroy();
    await Promise.all(slow.map(({ closed }) => closed));
    clearInterval(drip);
    expect(at).toBeLessThan(request.length);
    for (const raw of slow) expect(raw.received()).toMatch(/^HTTP\/1\.1 408 [^]*urn:tocsin:error:request-timeout/);
  });

  test('a thousand that never end keep nobody out and are gone in time', { timeout: 40_000 }, async () => {
    const before = system.memory();
    const half = await Promise.all(Array.from({ length: 1000 }, () => openRaw(system.base)));
    for (const [i, raw] of half.entries()) raw.write(text(...lines()).slice(0, 20 + (i % 300)));
    const others = await Promise.all(Array.from({ length: 10 }, () => system.attack()));
    expect(others.map(({ status }) => status)).toEqual(others.map(() => 101));
    await system.alert();
    for (const { socket } of others) socket.destroy();
    expect(system.memory() - before).toBeLessThan(150);
    await Promise.all(half.map(({ closed }) => closed));
  });
});

describe('bytes behind a handshake', () => {
  test('are frames when it is let in, in their order', async () => {
    const peer = await system.attack({ behind: Buffer.concat([PING, frameOf('x', { opcode: 9 }), PING]) });
    await peer.until(() => peer.messages().filter(({ type }) => type === 'pong').length === 2);
    expect(peer.messages()[0]).toMatchObject({ type: 'welcome' });
    expect(peer.frames.some(({ opcode, payload }) => opcode === 10 && payload.toString() === 'x')).toBe(true);
    peer.socket.destroy();
  });

  test('that are a request are no request: 1002 when it is let in, nothing when it is refused', async () => {
    const smuggled = Buffer.from('GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
    const peer = await system.attack({ behind: smuggled });
    expect(await peer.closeCode()).toBe(1002);
    peer.socket.destroy();
    const refused = await openRawWebSocket(system.base, {
      request: changed({ Authorization: 'Authorization: Bearer x' }),
      behind: smuggled,
    });
    expect(refused.status).toBe(401);
    await refused.ended;
    expect(refused.body).not.toContain('HTTP/1.1');
  });

  test('of a megabyte cost what one message may, and end the connection', async () => {
    const before = system.memory();
    const peer = await system.attack({ behind: frameOf('x'.repeat(1_000_000)) });
    expect(await peer.closeCode()).toBe(1009);
    expect(system.memory() - before).toBeLessThan(60);
    peer.socket.destroy();
  });
});

describe('a handshake of another form', () => {
  test('of HTTP/1.0, or without Host, or with two, is a malformed request', async () => {
    await expectProblem(changed({ GET: 'GET /ws/alerts HTTP/1.0' }), 400);
    await expectProblem(text(...lines().filter((line) => !line.startsWith('Host'))), 400);
    await expectProblem(changed({}, 'Host: evil.example'), 400);
  });

  test('whose target is absolute, of another host or with two slashes finds nothing', async () => {
    for (const target of [
      'http://contract.test/ws/alerts',
      'ws://evil.example/ws/alerts',
      '//ws/alerts',
      '/ws/%61lerts',
      '/WS/alerts',
      '/ws/alerts/',
    ])
      await expectProblem(changed({ GET: `GET ${target} HTTP/1.1` }), 404);
    await expectProblem(changed({ GET: 'GET * HTTP/1.1' }), 404);
    const connect = await openRawWebSocket(system.base, {
      request: changed({ GET: 'CONNECT contract.test:80 HTTP/1.1' }),
    });
    expect(connect.status).not.toBe(101);
    await connect.ended;
  });

  test('with another method is none', async () => {
    for (const method of ['POST', 'HEAD', 'OPTIONS', 'DELETE'])
      await expectProblem(changed({ GET: `${method} /ws/alerts HTTP/1.1` }), 405);
  });

  test('with a header twice: what must be single is refused, a second credential or address does not count', async () => {
    await expectProblem(changed({}, `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`), 400);
    await expectProblem(changed({}, 'Sec-WebSocket-Version: 13'), 426);
    await expectProblem(changed({}, 'Upgrade: h2c'), 426);
    await expectProblem(changed({}, `Origin: ${system.base}`, 'Origin: https://evil.example'), 403);
    await expectProblem(
      changed({ Authorization: 'Authorization: Bearer x' }, `Authorization: Bearer ${system.token}`),
      401,
    );
    (await expectOpen(changed({}, 'Authorization: Bearer x'))).socket.destroy();
    const twice = await expectOpen(
      changed({ Authorization: 'Sec-WebSocket-Protocol: tocsin.v1' }, `Sec-WebSocket-Protocol: bearer.${system.token}`),
    );
    expect(twice.headers['sec-websocket-protocol']).toBe('tocsin.v1');
    twice.socket.destroy();
  });

  test('with a body: neither counts as frames nor as a request', async () => {
    for (const body of ['Content-Length: 5', 'Transfer-Encoding: chunked']) {
      const peer = await openRawWebSocket(system.base, { request: changed({}, body), behind: Buffer.from('hello') });
      expect([400, 101]).toContain(peer.status);
      if (peer.status === 101) expect(await peer.closeCode()).toBe(1002);
      peer.socket.destroy();
    }
  });
});

describe('headers that carry more than they should', () => {
  test('lines in an origin or a subprotocol reach no answer', async () => {
    for (const name of ['Origin', 'Sec-WebSocket-Protocol']) {
      for (const value of [
        'x\rX-Injected: 1',
        'x\nX-Injected: 1',
        'x\r\n X-Injected: 1',
        'x\0X-Injected: 1',
        'x\u000bX-Injected: 1',
        '<script>alert(1)</script>',
      ]) {
        const peer = await openRawWebSocket(system.base, { request: changed({}, `${name}: ${value}`) });
        expect([name, value, peer.status]).not.toEqual([name, value, 101]);
        expect(peer.headers['content-type']).toMatch(/^application\/problem\+json/);
        expect([JSON.stringify(peer.headers), peer.body].join('').toLowerCase()).not.toMatch(/injected|script/);
        await peer.ended;
      }
    }
  });

  test('a subprotocol that is no token, or twice, is malformed; the answer never repeats one that is not ours', async () => {
    for (const value of [
      'tocsin.v1, tocsin.v1',
      'tocsin.v1,,bearer',
      'a b',
      'tocsin.v1;q=1',
      '"tocsin.v1"',
      ',',
      'tocsin.v1,',
    ])
      await expectProblem(changed({}, `Sec-WebSocket-Protocol: ${value}`), 400);
    const peer = await openRawWebSocket(system.base, {
      request: changed({}, 'Sec-WebSocket-Protocol: graphql-ws, mqtt'),
    });
    expect(peer.headers['sec-websocket-protocol']).toBeUndefined();
    peer.socket.destroy();
  });

  test('thousands of subprotocols are read or are too large, quickly', async () => {
    const list = (count: number): string => Array.from({ length: count }, (_, i) => `p${i}`).join(',');
    const peer = await expectOpen(changed({}, `Sec-WebSocket-Protocol: ${list(2000)},tocsin.v1`));
    expect(peer.headers['sec-websocket-protocol']).toBe('tocsin.v1');
    peer.socket.destroy();
    await expectProblem(changed({}, `Sec-WebSocket-Protocol: ${list(5000)}`), 431);
    expect(await answers(system.base)).toBe(200);
  });

  test('an offered compression is not taken', async () => {
    for (const offer of [
      'permessage-deflate; client_max_window_bits',
      'permessage-deflate; server_max_window_bits=99',
      'x-webkit-deflate-frame',
      ';;,"',
    ]) {
      const peer = await expectOpen(changed({}, `Sec-WebSocket-Extensions: ${offer}`));
      expect(peer.headers['sec-websocket-extensions']).toBeUndefined();
      peer.write(PING);
      await peer.until(() => peer.messages().some(({ type }) => type === 'pong'));
      expect(peer.broken()).toBe(false);
      peer.socket.destroy();
    }
  });

  test('parameters that are forged, doubled or huge are refused or mean one thing', async () => {
    const target = (query: string): string => changed({ GET: `GET /ws/alerts?${query} HTTP/1.1` });
    for (const query of [
      'zone=%00',
      'zone=%0d%0aX',
      `zone=${'z'.repeat(65)}`,
      'minSeverity=__proto__',
      'minSeverity=constructor',
      'epoch=x&offset=1e3',
      'epoch=x&offset=0x1',
      'epoch=x&offset=%201',
      'epoch=x&offset=NaN',
    ])
      await expectProblem(target(query), 400);
    await expectProblem(target(`zone=${'z'.repeat(17_000)}`), 431);
    for (const query of [
      `epoch=${'e'.repeat(5000)}&offset=${'9'.repeat(60)}`,
      'epoch=%ff%fe&offset=0',
      '__proto__=1&constructor=2',
      '%',
      'zone=a&zone=b',
    ]) {
      const peer = await openRawWebSocket(system.base, { request: target(query) });
      expect([query.slice(0, 40), [101, 400]]).toEqual([query.slice(0, 40), expect.arrayContaining([peer.status])]);
      peer.socket.destroy();
    }
  });
});

test('a thousand handshakes that are let go at once, before or after their answer, leave nothing', async () => {
  for (let round = 0; round < 10; round += 1) {
    const raws = await Promise.all(Array.from({ length: 100 }, () => openRaw(system.base)));
    for (const [i, raw] of raws.entries()) {
      raw.write(text(...lines()));
      if (i % 3 === 0) raw.socket.resetAndDestroy();
      else if (i % 3 === 1) setImmediate(() => raw.socket.destroy());
      else void raw.answers(1).then(() => raw.socket.destroy());
    }
    await Promise.all(raws.map(({ closed }) => closed));
    await pause(0);
  }
});
