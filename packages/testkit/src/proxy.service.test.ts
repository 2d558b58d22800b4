import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Proxy, startProxy } from './proxy.ts';

/** A client that keeps what it hears, and how it ended. */
interface Client {
  readonly socket: Socket;
  heard(): Buffer;
  ended(): string | null;
}

function open(port: number): Client {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  let end: string | null = null;
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? 'error';
  });
  socket.on('close', () => {
    end ??= 'closed';
  });
  return { socket, heard: () => Buffer.concat(chunks), ended: () => end };
}

describe('a proxy that breaks', () => {
  let echo: Server;
  let proxy: Proxy;
  const upstreams = new Set<Socket>();
  beforeEach(async () => {
    echo = createServer((socket) => {
      upstreams.add(socket);
      socket.on('error', () => undefined).on('close', () => upstreams.delete(socket));
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    proxy = await startProxy({ port: (echo.address() as { port: number }).port });
  });
  afterEach(async () => {
    await proxy.stop();
    await new Promise((resolve) => echo.close(resolve));
  });

  test('passes megabytes unchanged in both directions, and the end with them', async () => {
    const client = open(proxy.port);
    const bytes = Buffer.from(Array.from({ length: 5_000_000 }, (_, i) => (i * 7919) % 251));
    client.socket.end(bytes);
    await expect.poll(client.ended, { timeout: 10_000 }).toBe('closed');
    expect(client.heard().equals(bytes)).toBe(true);
    await expect.poll(proxy.connections).toBe(0);
  });

  test('puts itself into a URL and leaves the rest of it', () => {
    expect(proxy.urlFor('postgres://user:pa%20ss@localhost/db?x=1')).toBe(
      `postgres://user:pa%20ss@127.0.0.1:${proxy.port}/db?x=1`,
    );
  });

  test('cut: both ends are reset, new ones too, until it is healed', async () => {
    const client = open(proxy.port);
    client.socket.write('a');
    await expect.poll(() => client.heard().toString()).toBe('a');
    proxy.cut();
    await expect.poll(client.ended).toBe('ECONNRESET');
    await expect.poll(() => upstreams.size).toBe(0);
    const next = open(proxy.port);
    await expect.poll(next.ended).toBe('ECONNRESET');
    proxy.heal();
    const last = open(proxy.port);
    last.socket.write('b');
    await expect.poll(() => last.heard().toString()).toBe('b');
  });

  test('half-open: nobody hears anything or learns of an end; what lost bytes is reset when it is healed', async () => {
    const idle = open(proxy.port);
    const busy = open(proxy.port);
    busy.socket.write('a');
    await expect.poll(() => busy.heard().toString()).toBe('a');
    proxy.halfOpen();
    busy.socket.write('b');
    const late = open(proxy.port);
    late.socket.write('c');
    await expect.poll(proxy.connections).toBe(3);
    busy.socket.destroy();
    await expect.poll(proxy.connections).toBe(2);
    expect(upstreams.size).toBe(2);
    expect([late.ended(), idle.ended(), late.heard().length]).toEqual([null, null, 0]);
    proxy.heal();
    await expect.poll(late.ended).toBe('ECONNRESET');
    await expect.poll(() => upstreams.size).toBe(1);
    idle.socket.write('d');
    await expect.poll(() => idle.heard().toString()).toBe('d');
  });

  test('slow: everything waits, in order, and what comes after it is healed does not overtake', async () => {
    proxy.slow(100);
    const client = open(proxy.port);
    const began = performance.now();
    client.socket.write('a');
    await expect.poll(() => client.heard().toString()).toBe('a');
    expect(performance.now() - began).toBeGreaterThanOrEqual(195);
    proxy.slow(0, 20_000);
    client.socket.write(Buffer.alloc(4_000, 'b'));
    await expect.poll(() => client.heard().length).toBeGreaterThan(1);
    proxy.heal();
    client.socket.end('c');
    await expect.poll(client.ended).toBe('closed');
    expect(client.heard().toString()).toBe(`a${'b'.repeat(4_000)}c`);
  });

  test('a target that is not there looks like a reset', async () => {
    const { port } = echo.address() as { port: number };
    const lonely = await startProxy({ port });
    await new Promise((resolve) => echo.close(resolve));
    const client = open(lonely.port);
    await expect.poll(client.ended).toBe('ECONNRESET');
    await lonely.stop();
  });
});
