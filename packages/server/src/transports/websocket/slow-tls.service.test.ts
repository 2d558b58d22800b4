/** Slow peers behind TLS: what waits in the encrypting socket counts as what waits in a plain one. */
import { LIMITS } from '@tocsin/protocol/limits';
import { createAuthority } from '@tocsin/testkit/certificates';
import { afterAll, expect, it } from 'vitest';
import { start } from './websocket-system.suite.ts';

const authority = createAuthority();
const pair = authority.issue({ names: ['IP:127.0.0.1'] });
afterAll(() => authority.remove());

it('a slow reader behind TLS is closed with 4008 at the same bound, and resumes without loss', async () => {
  const system = await start({ maxConnectionsPerUser: 9 }, undefined, pair);
  const client = { ca: authority.ca };
  const sockets: { readonly writableLength: number }[] = [];
  system.server.on('secureConnection', (socket) => sockets.push(socket));
  const slow = await system.viewer({ token: 'ann', client });
  const quick = await system.viewer({ token: 'bob', client });
  slow.socket.pause();
  const body = JSON.stringify({ pad: 'x'.repeat(30_000) });
  let head = 0;
  let most = 0;
  while (system.hub.viewers() === 2 && head < 2000) {
    head = await system.commit(body);
    most = Math.max(most, sockets[0]?.writableLength ?? 0);
    if (head % 10 === 0) await quick.until(() => quick.offset() >= head);
  }
  expect(system.hub.viewers()).toBe(1);
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(LIMITS.socketBufferBytes.value);
  slow.socket.resume();
  expect(await slow.closed).toMatchObject({ code: 4008 });
  const again = await system.viewer({ token: 'ann', client, resume: { epoch: 'e1', offset: slow.offset() } });
  await again.until(() => again.offset() === head);
  const all = [...slow.channel(), ...again.channel()].map((message) => message.offset);
  expect(all).toEqual(Array.from({ length: head }, (_, n) => n + 1));
  expect([...slow.faults, ...again.faults, ...quick.faults]).toEqual([]);
});
