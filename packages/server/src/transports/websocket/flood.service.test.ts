import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { Conduct, FRAMES_MOST, RATE_WINDOW_MS } from './conduct.ts';
import { HANDSHAKE, raw, start, type System } from './websocket-system.suite.ts';

const KINDS = { ping: 0x89, pong: 0x8a, text: 0x81 } as const;
const frames = (kind: keyof typeof KINDS, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => Buffer.from([KINDS[kind], 0x80, 0, 0, 0, 0])));

/** A connection that reads what it gets and answers nothing. */
async function open(system: System): ReturnType<typeof raw> {
  const one = await raw(system.port, `${HANDSHAKE}Authorization: Bearer ann\r\n\r\n`);
  await expect.poll(() => one.answer()).toContain('welcome');
  return one;
}

describe('a flood of frames', () => {
  for (const kind of ['ping', 'pong'] as const) {
    it(`of the kind ${kind} is closed with 4029, and cut when it goes on`, async () => {
      const system = await start();
      const other = await system.viewer({ token: 'bob' });
      const { socket, ended } = await open(system);
      socket.write(frames(kind, FRAMES_MOST + 1));
      socket.write(frames(kind, FRAMES_MOST + 1));
      await ended;
      await expect.poll(() => system.lines).toMatchObject([{ code: 4029, by: 'server', reason: 'rate' }]);
      expect(system.transport.connections()).toBe(1);
      const offset = await system.commit();
      await other.until((message) => message.offset === offset);
    });
  }

  it('of text is cut, too, when it goes on after the close', async () => {
    const system = await start();
    const { socket, ended } = await open(system);
    socket.write(frames('text', 3 * FRAMES_MOST));
    await ended;
    await expect.poll(() => system.lines).toMatchObject([{ code: 1008, by: 'server' }]);
  });

  it('is none while pings come at any pace that a client has a use for: each is answered', async () => {
    const system = await start();
    const { socket, answer } = await open(system);
    socket.setEncoding('latin1');
    socket.write(frames('ping', 200));
    await expect.poll(() => answer().split('\x8a').length - 1).toBe(200);
    expect(system.transport.connections()).toBe(1);
  });

  it('is counted anew in each window', () => {
    const conduct = new Conduct(5);
    for (const from of [0, RATE_WINDOW_MS]) {
      for (let n = 0; n < FRAMES_MOST; n += 1) expect(conduct.flood(from)).toBe(false);
    }
    expect(conduct.flood(RATE_WINDOW_MS)).toBe(true);
  });
});

describe('a handshake that breaks its decision', () => {
  it('ends its socket and takes no place of those that are being decided', async () => {
    const system = await start();
    const headers = {
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    };
    const request = { url: '/ws/alerts', method: 'GET', headers, rawHeaders: ['Host', 'x'], httpVersionMinor: 1 };
    const socket = new PassThrough();
    // It has no socket of its own, so the reading of its address throws.
    system.server.emit('upgrade', request, socket, Buffer.alloc(0));
    await expect.poll(() => socket.destroyed).toBe(true);
    expect(system.transport.handshakes()).toBe(0);
    expect(system.lines).toHaveLength(1);
  });
});
