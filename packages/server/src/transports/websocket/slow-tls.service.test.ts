/** Slow peers behind TLS: what waits in the encrypting socket counts as what waits in a plain one. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LIMITS } from '@tocsin/protocol/limits';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { start, type TlsPair } from './websocket-system.suite.ts';

let folder = '';
let pair: TlsPair;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-slow-tls-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key];
  const named = ['-out', cert, '-days', '2', '-subj', '/CN=slow', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', [...made, ...named], { stdio: 'ignore' });
  pair = { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('a slow reader behind TLS is closed with 4008 at the same bound, and resumes without loss', async () => {
  const system = await start({ maxConnectionsPerUser: 9 }, { tls: pair });
  const client = { ca: pair.cert };
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
