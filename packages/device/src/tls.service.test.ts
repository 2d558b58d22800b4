import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { describeWith } from '@tocsin/testkit/needs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHttpSender } from './http-sender.ts';
import { createMqttSender } from './mqtt-sender.ts';

let folder = '';
const file = (name: string): string => join(folder, name);
const pem = (name: string): string => readFileSync(file(name), 'utf8');

function makeCertificate(name: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file(`${name}.key`)];
  const args = ['req', '-x509', ...key, '-out', file(`${name}.pem`), '-days', '2', '-subj', `/CN=${name}`];
  execFileSync('openssl', [...args, '-addext', 'subjectAltName=IP:127.0.0.1'], { stdio: 'ignore' });
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-sdk-tls-'));
  chmodSync(folder, 0o755);
  for (const name of ['server', 'client', 'other']) makeCertificate(name);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('https', () => {
  let server: Server;
  beforeAll(async () => {
    const options = { cert: pem('server.pem'), key: pem('server.key'), ca: pem('client.pem'), requestCert: true };
    server = createServer(options, (request, response) => {
      request.resume();
      response.writeHead(202).end('{"id":"e1"}');
    });
    server.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(
    () =>
      new Promise((resolve) => {
        server.close(resolve).closeAllConnections();
      }),
  );

  it.each([
    ['takes the certificate of its own authority and shows ours', { ca: 'server', own: 'client' }, { status: 202 }],
    ['does not send to a server of another authority', { ca: 'other', own: 'client' }, { reason: 'tls-failed' }],
    ['does not send to a server that nobody vouches for', { ca: null, own: 'client' }, { reason: 'tls-failed' }],
  ])('%s', async (_, { ca, own }, expected) => {
    const tls = { ...(ca === null ? {} : { ca: pem(`${ca}.pem`) }), cert: pem(`${own}.pem`), key: pem(`${own}.key`) };
    const base = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const sender = createHttpSender({ server: base, apiKey: 'tsk_12345678', requestMs: 5000, connections: 1, tls });
    expect(await sender.send('x', 'e1')).toMatchObject(expected);
    await sender.close();
  });
});

describeWith(['mosquitto'], 'mqtts', () => {
  it('takes the certificate of its own authority and shows ours; a stranger is refused by name', async () => {
    const broker = await startMosquitto((where) => {
      // The broker may run as another user, who must read its key.
      for (const name of ['server.pem', 'server.key', 'client.pem']) {
        writeFileSync(join(where, name), pem(name));
        chmodSync(join(where, name), 0o644);
      }
      const files = [`certfile ${where}/server.pem`, `keyfile ${where}/server.key`, `cafile ${where}/client.pem`];
      return ['allow_anonymous true', 'require_certificate true', ...files];
    });
    try {
      const send = async (ca: string): Promise<unknown> => {
        const tls = { ca: pem(`${ca}.pem`), cert: pem('client.pem'), key: pem('client.key') };
        const sender = createMqttSender({ broker: `mqtts://127.0.0.1:${broker.port}`, id: 'm1', tls, timeoutMs: 5000 });
        const answer = await sender.send('x', 'e1');
        await sender.close();
        return answer;
      };
      expect(await send('server')).toEqual({ kind: 'acknowledged' });
      expect(await send('other')).toEqual({ kind: 'failed', reason: 'tls-failed' });
    } finally {
      await broker.stop();
    }
  });
});
