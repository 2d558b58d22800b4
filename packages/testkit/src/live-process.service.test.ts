/** A server process with `WS_PORT`: what it writes, its certificates, its settings and its end. */
import { once } from 'node:events';
import { copyFileSync, renameSync, rmSync } from 'node:fs';
import { globalAgent } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createAuthority, LOCAL_NAMES, type TestAuthority, type TestCertificate } from './certificates.ts';
import { call } from './device.ts';
import { createHosts } from './hosts.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { connectViewer, HandshakeRefused } from './viewer.ts';

const SECRET = 'token-of-the-bridge-0123456789';
const WRONG = 'token-of-nobody-0123456789';

describe('a server with WS_PORT', () => {
  let authority: TestAuthority;
  let certificates: readonly TestCertificate[];
  let folder: string;
  let server: ServerProcess;
  let port: number;
  const messages: string[] = [];
  let dashboard: WebSocket;
  beforeAll(async () => {
    authority = createAuthority();
    globalAgent.options.ca = authority.ca;
    certificates = ['one', 'two'].map((name) => authority.issue({ subject: `/CN=${name}`, names: LOCAL_NAMES }));
    folder = guardedFolder('tocsin-live-');
    use(0);
    port = await freePort();
    server = startServer(folder, await freePort(), {
      ...{ TLS_CERT: join(folder, 'tls.crt'), TLS_KEY: join(folder, 'tls.key') },
      ...{ WS_PORT: String(port), WS_AUTH_TOKEN: SECRET, LOG_LEVEL: 'trace', DRAIN_SECONDS: '5' },
    });
    guardChild(server.child);
    await server.ready();
  });
  afterAll(async () => {
    dashboard?.terminate();
    server?.child.kill('SIGKILL');
    await server?.exited;
    authority?.remove();
    delete globalAgent.options.ca;
    rmSync(folder, { recursive: true, force: true });
    folderRemoved(folder);
  });
  /** Puts a certificate where the server reads it. */
  function use(index: number): void {
    const { certFile, keyFile } = certificates[index] ?? { certFile: '', keyFile: '' };
    for (const [from, name] of [
      [certFile, 'tls.crt'],
      [keyFile, 'tls.key'],
    ] as const) {
      copyFileSync(from, join(folder, `${name}.new`));
      renameSync(join(folder, `${name}.new`), join(folder, name));
    }
  }
  const raw = (token: string): string => `wss://127.0.0.1:${port}/?token=${token}`;

  test('speaks TLS there, by the certificate in use, and takes another with the main listener', async () => {
    const shown = async (): Promise<string> => {
      const socket = connect({ port, host: '127.0.0.1', ca: authority.ca });
      await once(socket, 'secureConnect');
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return String(subject.CN);
    };
    expect(await shown()).toBe('one');
    dashboard = new WebSocket(raw(SECRET), { ca: authority.ca });
    dashboard.on('message', (data: Buffer) => messages.push(data.toString()));
    await once(dashboard, 'open');
    use(1);
    server.child.kill('SIGHUP');
    await expect.poll(shown).toBe('two');
    const token = await signIn(server.base);
    await createHosts(() => server.base, CREDENTIALS.apiKey, token).send('web-1', { at: Date.now(), cpu_percent: 5 });
    await expect.poll(() => messages.map((text) => Object.keys(JSON.parse(text) as object))).toEqual([['web-1']]);
  });

  test('writes no token of a URL to its log, good or wrong, on either listener', async () => {
    const client = { ca: authority.ca };
    const devices = `${server.base.replace('https', 'wss')}/ws/devices`;
    await (await connectViewer(`${devices}?token=${SECRET}`, { client })).close();
    for (const url of [raw(WRONG), `${devices}?token=${WRONG}`]) {
      await expect(connectViewer(url, { client })).rejects.toBeInstanceOf(HandshakeRefused);
    }
    expect((await call(`https://127.0.0.1:${port}/?token=${SECRET}`)).status).toBe(426);
    const gone = new WebSocket(raw(SECRET), client);
    await once(gone, 'open');
    gone.terminate();
    await expect.poll(() => server.output()).toContain('"path":"/"');
    expect(server.output()).toContain(`"webSocketAddress":"wss://127.0.0.1:${port}"`);
    for (const secret of [SECRET, WRONG]) expect(server.output()).not.toContain(secret);
  });

  test('ends in order on SIGTERM: 1001 without a word before it, exit 0', async () => {
    const before = messages.length;
    const closed = once(dashboard, 'close');
    server.child.kill('SIGTERM');
    expect((await closed)[0]).toBe(1001);
    expect(await server.exited).toBe(0);
    expect(messages).toHaveLength(before);
  });

  test('does not start where others would reach it without a token: 78 and a line that says so', async () => {
    const open = startServer(folder, 0, { HOST: '0.0.0.0', WS_PORT: '0' });
    guardChild(open.child);
    expect(await open.exited).toBe(78);
    expect(open.output()).toContain('WS_AUTH_TOKEN must be given with WS_PORT, or HOST be a loopback address');
  });
});
