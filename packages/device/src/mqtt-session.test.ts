import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type MqttSession, openSession } from './mqtt-session.ts';
import { systemTime } from './time-source.ts';

const CONNACK = Buffer.from('20020000', 'hex');
const puback = (id: number): Buffer => Buffer.from([0x40, 2, id >> 8, id & 0xff]);

let server: Server | undefined;
const sockets: Socket[] = [];
const sessions: MqttSession[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) session.end();
  for (const socket of sockets.splice(0)) socket.destroy();
  await new Promise((resolve) => (server === undefined ? resolve(null) : server.close(resolve)));
  server = undefined;
});

/** A broker of the test's own: told of each chunk that it gets. */
async function broker(onData: (socket: Socket, chunk: Buffer, count: number) => void): Promise<URL> {
  const listening = createServer((socket) => {
    let count = 0;
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => onData(socket, chunk, (count += 1)));
  });
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  return new URL(`mqtt://127.0.0.1:${(listening.address() as AddressInfo).port}`);
}

function open(url: URL, more: { timeoutMs?: number; keepAliveSeconds?: number } = {}): MqttSession {
  const session = openSession({
    ...{ broker: url, tls: {}, timeoutMs: 10_000, keepAliveSeconds: 30, time: systemTime, clientId: 'c', ...more },
  });
  sessions.push(session);
  return session;
}

/** Says yes to CONNECT, then what `next` answers to each message. */
async function yes(next: (socket: Socket, chunk: Buffer) => void): Promise<URL> {
  return broker((socket, chunk, count) => (count === 1 ? socket.write(CONNACK) : next(socket, chunk)));
}

describe('a session with a broker', () => {
  it('opens, publishes in the order of calls, and takes each PUBACK for its own message', async () => {
    const ids: number[] = [];
    const url = await yes((socket, chunk) => {
      // Answers in the other order once both are there.
      for (let at = 0; at < chunk.length; at += 2 + (chunk[at + 1] ?? 0)) ids.push(chunk.readUInt16BE(at + 5));
      if (ids.length === 2) socket.write(Buffer.concat(ids.toReversed().map(puback)));
    });
    const session = open(url);
    expect(await session.opened).toBeNull();
    const settled: string[] = [];
    const both = ['one', 'two'].map(async (text) => {
      expect(await session.publish('t', text)).toBeNull();
      settled.push(text);
    });
    await Promise.all(both);
    expect(ids).toEqual([1, 2]);
    expect(settled).toEqual(['two', 'one']);
  });

  it.each([
    [3, 'connection-refused'],
    [4, 'broker-refused'],
    [5, 'broker-refused'],
    [200, 'broker-refused'],
  ])('that says %i to CONNECT is not open: %s', async (code, reason) => {
    const session = open(await broker((socket) => socket.write(Buffer.from([0x20, 2, 0, code]))));
    expect(await session.opened).toBe(reason);
    await session.ended;
    expect(await session.publish('t', 'x')).toBe('connection-lost');
  });

  it.each([
    ['something else', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
    ['PUBACK before CONNACK', puback(1)],
    ['the answer to a question that nobody asked', Buffer.from('d000', 'hex')],
  ])('that begins with %s ends', async (_, bytes) => {
    const session = open(await broker((socket) => socket.write(bytes)));
    expect(await session.opened).toBe('connection-lost');
    await session.ended;
  });

  it('that breaks the protocol later ends, and what waits is answered', async () => {
    const session = open(await yes((socket) => socket.write(CONNACK)));
    expect(await session.opened).toBeNull();
    expect(await Promise.all([session.publish('t', '1'), session.publish('t', '2')])).toEqual([
      'connection-lost',
      'connection-lost',
    ]);
    await session.ended;
  });

  it('is not moved by a PUBACK for nothing', async () => {
    const url = await yes((socket) => socket.write(Buffer.concat([puback(77), puback(1)])));
    const session = open(url);
    await session.opened;
    expect(await session.publish('t', 'x')).toBeNull();
  });

  it('that says nothing ends in time: at the beginning, for a message, for a question', async () => {
    const silent = open(await broker(() => undefined), { timeoutMs: 50 });
    expect(await silent.opened).toBe('timeout');
    await new Promise((resolve) => server?.close(resolve) ?? resolve(null));
    const deaf = open(await yes(() => undefined), { timeoutMs: 50 });
    await deaf.opened;
    expect(await deaf.publish('t', 'x')).toBe('timeout');
    await deaf.ended;
  });

  it('is asked whether it lives when half of the keep-alive is over, and kept while it answers', async () => {
    let pings = 0;
    const url = await yes((socket, chunk) => {
      expect(chunk.toString('hex')).toBe('c000');
      pings += 1;
      if (pings < 3) socket.write(Buffer.from('d000', 'hex'));
    });
    const session = open(url, { keepAliveSeconds: 0.02, timeoutMs: 500 });
    await session.opened;
    await session.ended;
    expect(pings).toBe(3);
  });

  it('takes its leave with DISCONNECT', async () => {
    const goodbye = new Promise<string>((resolve) => {
      void yes((_, chunk) => resolve(chunk.toString('hex'))).then(async (url) => {
        const session = open(url);
        await session.opened;
        session.end();
      });
    });
    expect(await goodbye).toBe('e000');
  });

  it('that nobody serves is refused, and one of an unknown name, too', async () => {
    const url = await broker(() => undefined);
    await new Promise((resolve) => server?.close(resolve) ?? resolve(null));
    server = undefined;
    expect(await open(url).opened).toBe('connection-refused');
  });
});
