import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createHttpServer } from './server.ts';

let folder: string;
const file = (name: string): string => join(folder, name);
const pem = (name: string): Buffer => readFileSync(file(name));

function makeCertificate(name: string, subject: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file(`${name}.key`)];
  const args = ['req', '-x509', ...key, '-out', file(`${name}.pem`), '-days', '2', '-subj', `/CN=${subject}`];
  execFileSync('openssl', [...args, '-addext', 'subjectAltName=IP:127.0.0.1'], { stdio: 'ignore' });
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-tls-'));
  makeCertificate('server', 'localhost');
  makeCertificate('client', 'viewer');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('https takes a client certificate without asking for one, tells good from bad, and sends HSTS', async () => {
  const app = await createHttpServer({
    log: { error: () => {}, debug: () => {} },
    authenticators: { apiKey: () => Promise.reject(new Error()), bearer: () => Promise.reject(new Error()) },
    trace: () => 'trace',
    tls: { cert: pem('server.pem'), key: pem('server.key'), clientCa: pem('client.pem') },
  });
  app.get('/who', { config: { access: { kind: 'public' } } }, ({ raw }) => {
    const socket = raw.socket as TLSSocket;
    return { authorized: socket.authorized, name: socket.getPeerCertificate().subject?.CN ?? null };
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const ask = async (certificate: object): Promise<{ body: unknown; hsts: string | undefined }> => {
    const call = request({
      port,
      host: '127.0.0.1',
      path: '/who',
      ca: pem('server.pem'),
      agent: false,
      ...certificate,
    }).end();
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    const chunks = (await response.toArray()) as Buffer[];
    return { body: JSON.parse(Buffer.concat(chunks).toString()), hsts: response.headers['strict-transport-security'] };
  };
  try {
    expect(await ask({})).toEqual({
      body: { authorized: false, name: null },
      hsts: expect.stringMatching(/^max-age=/) as unknown,
    });
    expect((await ask({ cert: pem('client.pem'), key: pem('client.key') })).body).toEqual({
      authorized: true,
      name: 'viewer',
    });
    expect((await ask({ cert: pem('server.pem'), key: pem('server.key') })).body).toMatchObject({ authorized: false });
  } finally {
    await app.close();
  }
});
