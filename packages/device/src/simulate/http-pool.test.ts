import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createHttpPool, type HttpOutcome, type HttpPool } from './http-pool.ts';

const REQUEST = 'GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n';
const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

let server: Server | null = null;
let pool: HttpPool | null = null;
const sockets = new Set<Socket>();
afterEach(() => {
  pool?.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  server?.close();
});

/** A server that does `answer` for each request; resolves with its port. */
function listen(answer: (socket: Socket, n: number) => void, port = 0): Promise<number> {
  let n = 0;
  const made = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', () => {
      n += 1;
      answer(socket, n);
    });
  });
  server = made;
  return new Promise((resolve) => {
    made.listen(port, '127.0.0.1', () => resolve((made.address() as AddressInfo).port));
  });
}

function open(port: number, connections = 1, timeoutMs = 5000): HttpPool {
  pool = createHttpPool({ origin: `http://127.0.0.1:${port}`, connections, timeoutMs });
  return pool;
}

function ask(of: HttpPool): Promise<HttpOutcome> {
  return new Promise((resolve) => of.send(() => REQUEST, resolve));
}

describe('pool of connections', () => {
  it('answers in the order of asking on one connection, and uses it again', async () => {
    const port = await listen((socket, n) => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n${n}`));
    const one = open(port);
    const outcomes = await Promise.all(Array.from({ length: 5 }, () => ask(one)));
    expect(outcomes.map((outcome) => outcome.kind === 'answer' && outcome.response.body)).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
    ]);
    expect(sockets.size).toBe(1);
    expect(one.outstanding()).toBe(0);
  });

  it('has at most so many connections', async () => {
    const waiting: Socket[] = [];
    const port = await listen((socket) => {
      waiting.push(socket);
      if (waiting.length === 3) for (const held of waiting.splice(0)) held.write(ANSWER);
    });
    const three = open(port, 3);
    await Promise.all(Array.from({ length: 9 }, () => ask(three)));
    expect(sockets.size).toBe(3);
  });

  it('makes a new connection after one that the server closes with its answer', async () => {
    const port = await listen((socket) =>
      socket.end('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok'),
    );
    const one = open(port);
    const outcomes = [await ask(one), await ask(one)];
    expect(outcomes.map(({ kind }) => kind)).toEqual(['answer', 'answer']);
    expect(sockets.size).toBe(2);
  });

  it('names a connection that broke within an answer, an answer that is none, and one that does not come', async () => {
    const port = await listen((socket, n) => {
      if (n === 1) {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf');
        socket.end();
      } else if (n === 2) socket.write('what?\r\n\r\n');
    });
    const one = open(port, 1, 300);
    expect([await ask(one), await ask(one), await ask(one)]).toEqual([
      { kind: 'unanswered', why: 'connection' },
      { kind: 'unanswered', why: 'connection' },
      { kind: 'unanswered', why: 'timeout' },
    ]);
  });

  it('says that nobody listens, waits, and goes on once somebody does', async () => {
    const port = await listen(() => undefined);
    await new Promise((resolve) => server?.close(resolve));
    const one = open(port);
    const asked = ask(one);
    while (one.downSince() === null) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(one.lastError()).toContain('ECONNREFUSED');
    await listen((socket) => socket.write(ANSWER), port);
    expect(await asked).toMatchObject({ kind: 'answer' });
    expect(one.downSince()).toBeNull();
  });

  it('ends what waits when it is closed, and refuses what comes later', async () => {
    const port = await listen(() => undefined);
    const one = open(port);
    const asked = [ask(one), ask(one)];
    one.close();
    expect((await Promise.all([...asked, ask(one)])).map(({ kind }) => kind)).toEqual(Array(3).fill('unsent'));
    expect(one.outstanding()).toBe(0);
  });
});
