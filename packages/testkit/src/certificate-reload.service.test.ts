/** A server process whose certificate is renewed while viewers are connected, others come and alerts flow. */
import { once } from 'node:events';
import { copyFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { globalAgent } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAuthority, LOCAL_NAMES, type TestAuthority, type TestCertificate } from './certificates.ts';
import { postJson } from './device.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { connectViewer, type ScriptedViewer } from './viewer.ts';

const VIEWERS = 100;
/** The server looks at its files every 5 s. */
const NOTICED_MS = 30_000;

describe('a server whose certificate is renewed', () => {
  let authority: TestAuthority;
  let folder: string;
  let server: ServerProcess;
  let token: string;
  let certificates: readonly TestCertificate[];
  const viewers: ScriptedViewer[] = [];
  const closed: number[] = [];

  beforeAll(async () => {
    authority = createAuthority();
    globalAgent.options.ca = authority.ca;
    certificates = ['one', 'two', 'three'].map((name) =>
      authority.issue({ subject: `/CN=${name}`, names: LOCAL_NAMES }),
    );
    folder = guardedFolder('tocsin-reload-');
    await use(0);
    const port = await freePort();
    server = startServer(folder, port, {
      TLS_CERT: join(folder, 'tls.crt'),
      TLS_KEY: join(folder, 'tls.key'),
      WS_MAX_CONNECTIONS_PER_USER: '1000',
      WS_MAX_CONNECTIONS_PER_IP: '1000',
      WS_RECONNECTS_PER_MINUTE: '10000',
    });
    guardChild(server.child);
    await server.ready();
    token = await signIn(server.base);
    await Promise.all(Array.from({ length: VIEWERS }, view));
  });
  afterAll(async () => {
    for (const viewer of viewers) viewer.cut();
    server?.child.kill('SIGKILL');
    await server?.exited;
    authority?.remove();
    delete globalAgent.options.ca;
    rmSync(folder, { recursive: true, force: true });
    folderRemoved(folder);
  });

  /** Puts a certificate where the server reads it, as certbot does: renamed over. */
  async function use(index: number): Promise<void> {
    const { certFile, keyFile } = certificates[index] ?? { certFile: '', keyFile: '' };
    for (const [from, name] of [
      [certFile, 'tls.crt'],
      [keyFile, 'tls.key'],
    ] as const) {
      copyFileSync(from, join(folder, `${name}.new`));
      renameSync(join(folder, `${name}.new`), join(folder, name));
    }
  }
  async function view(): Promise<void> {
    const viewer = await connectViewer(`${server.base.replace('https', 'wss')}/ws/alerts`, {
      token,
      client: { ca: authority.ca },
    });
    viewers.push(viewer);
    void viewer.closed.then(({ code }) => closed.push(code));
  }
  async function shown(): Promise<string> {
    const socket = connect({ port: Number(new URL(server.base).port), host: '127.0.0.1', ca: authority.ca });
    await once(socket, 'secureConnect');
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return String(subject.CN);
  }
  /** A drill that every viewer of now must get once. */
  async function alertAll(): Promise<void> {
    const all = [...viewers];
    const answer = await postJson(`${server.base}/v1/alerts`, { severity: 'minor', headline: 'a drill' }, { token });
    expect(answer.status).toBe(201);
    const id = answer.body?.['id'];
    const has = ({ data }: { data?: unknown }): boolean => (data as { id?: unknown } | undefined)?.id === id;
    for (const viewer of all) {
      await viewer.until(has);
      expect(viewer.channel().filter(has)).toHaveLength(1);
      expect(viewer.faults).toEqual([]);
    }
  }
  const lines = (message: string): number => server.output().split(message).length - 1;

  test('shows the new one after SIGHUP, and no socket of a hundred viewers is closed while others come', async () => {
    expect(await shown()).toBe('one');
    await use(1);
    server.child.kill('SIGHUP');
    await Promise.all([view(), view(), alertAll()]);
    await expect.poll(shown).toBe('two');
    await Promise.all([view(), alertAll()]);
    expect([closed, viewers.length, server.child.exitCode]).toEqual([[], VIEWERS + 3, null]);
  });

  test('keeps it with a bad pair, which is one line in the log, and takes the next good one by itself', async () => {
    writeFileSync(join(folder, 'tls.key'), 'half a ke');
    for (let count = 0; count < 3; count += 1) server.child.kill('SIGHUP');
    await expect.poll(() => lines('the certificate files cannot be used')).toBe(1);
    expect(await shown()).toBe('two');
    await alertAll();
    await use(2);
    await expect.poll(shown, { timeout: NOTICED_MS }).toBe('three');
    await alertAll();
    expect([
      lines('the certificate files cannot be used'),
      lines('the certificate of the listener was replaced'),
    ]).toEqual([1, 2]);
    expect([closed, viewers.length]).toEqual([[], VIEWERS + 3]);
    expect(server.output()).not.toMatch(/PRIVATE KEY|half a ke/);
  });

  test('still ends in order on SIGTERM', async () => {
    server.child.kill('SIGTERM');
    expect(await server.exited).toBe(0);
    expect(new Set(closed)).toEqual(new Set([1001]));
  });
});
