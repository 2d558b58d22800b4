/** The embedded broker in a whole server: from a client's PUBLISH to the store. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { globalAgent } from 'node:https';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createMqttSender } from '@tocsin/device/mqtt-sender';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createAuthority, LOCAL_NAMES, type TestAuthority } from './certificates.ts';
import { call, createDevice, postJson } from './device.ts';
import { startAgent } from './agent-process.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { describeWith } from './needs.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { startTestApp, type TestApp } from './test-app.ts';

const frame = (deviceId: string, timestamp: number): string =>
  JSON.stringify({ device_id: deviceId, timestamp, cpu_percent: 12.5, mem_percent: 40, disk_percent: 70 });

async function countOf(base: string, token: string, deviceId: string, field = 'cpu_percent'): Promise<unknown> {
  const answer = await call(`${base}/v1/devices/${deviceId}/statistics?field=${field}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return answer.body?.['count'] ?? answer.status;
}

const stored = (base: string, token: string, deviceId: string, count: number, field?: string): Promise<void> =>
  vi.waitFor(async () => expect(await countOf(base, token, deviceId, field)).toBe(count), {
    timeout: 15_000,
    interval: 50,
  });

const open = (address: string | null, more: IClientOptions = {}): Promise<MqttClient> =>
  connectAsync(address ?? '', {
    username: 'anybody',
    password: CREDENTIALS.apiKey,
    reconnectPeriod: 0,
    protocolVersion: 4,
    ...more,
  });

function closing(client: MqttClient): Promise<void> {
  return new Promise((resolve) => {
    client.once('close', () => resolve());
  });
}

describe('a server with the embedded broker', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({ MQTT_EMBEDDED_PORT: '0' });
  });
  afterAll(() => app?.stop());

  test('stores the frames of a host that nobody registered, and says so in its metrics', async () => {
    const client = await open(app.app.mqttAddress);
    for (let second = 1; second <= 20; second++)
      await client.publishAsync('devices/host-1/metrics', frame('host-1', second), { qos: 1 });
    await client.publishAsync('devices/host-1/metrics', frame('host-2', 99), { qos: 1 });
    await client.publishAsync('devices/host-1/metrics', frame('host-1', 20), { qos: 2 });
    await stored(app.base, app.token, 'host-1', 20);
    await client.endAsync();
    const text = await (await fetch(`${app.base}/metrics`)).text();
    expect(text).toContain('tocsin_accepted_total{transport="mqtt",profile="host"} 20');
    expect(text).toMatch(/tocsin_mqtt_connections \d/);
  });

  test('takes the envelopes of the device SDK', async () => {
    const device = createDevice('station-1');
    const answer = await postJson(
      `${app.base}/v1/devices`,
      { id: 'station-1', profile: 'seismic', publicKey: device.publicKeyPem },
      { token: app.token },
    );
    expect(answer.status).toBe(201);
    const sender = createMqttSender({
      broker: app.app.mqttAddress ?? '',
      id: 'station-1',
      username: 'any',
      password: CREDENTIALS.apiKey,
    });
    for (let index = 0; index < 5; index++) {
      const jws = device.seal(`e${index}`, { profile: 'seismic', readings: [{ at: Date.now(), value: index }] });
      expect(await sender.send(jws, `e${index}`)).toEqual({ kind: 'acknowledged' });
    }
    await sender.close();
    await stored(app.base, app.token, 'station-1', 5, 'value');
    const refused = createMqttSender({
      broker: app.app.mqttAddress ?? '',
      id: 'x',
      username: 'x',
      password: 'wrong-password',
    });
    expect(await refused.send('a.b.c', 'e0')).toEqual({ kind: 'failed', reason: 'broker-refused' });
    await refused.close();
  });

  test('takes the frames of the agent', async () => {
    const folder = guardedFolder('tocsin-broker-agent-');
    try {
      const password = join(folder, 'password');
      await writeFile(password, CREDENTIALS.apiKey, { mode: 0o600 });
      const where = ['--server', app.app.mqttAddress ?? '', '--user', 'any', '--password-file', password];
      const agent = startAgent([
        '--id',
        'agent-1',
        '--folder',
        join(folder, 'state'),
        '--disk',
        folder,
        '--once',
        ...where,
      ]);
      expect(await agent.exited).toBe(0);
      await stored(app.base, app.token, 'agent-1', 1);
    } finally {
      await rm(folder, { recursive: true, force: true });
      folderRemoved(folder);
    }
  });

  test('lets go of a client whose API key is revoked, within seconds', async () => {
    const made = await app.app.credentials.apiKeys.create('for-a-while', ['ingest']);
    const client = await open(app.app.mqttAddress, { password: made.key });
    const closed = closing(client);
    await app.app.credentials.apiKeys.revoke(made.id);
    await closed;
    await expect(open(app.app.mqttAddress, { password: made.key })).rejects.toMatchObject({ code: 4 });
  });

  describeWith(['mosquitto'], 'and mosquitto_pub', () => {
    test('stores a line for each frame', async () => {
      const { port } = new URL(app.app.mqttAddress ?? '');
      const common = ['-h', '127.0.0.1', '-p', port, '-u', 'x', '-P', CREDENTIALS.apiKey, '-V', 'mqttv311'];
      for (let second = 0; second < 3; second++) {
        const message = ['-q', String(second), '-t', 'devices/host-m/metrics', '-m', frame('host-m', second)];
        await promisify(execFile)('mosquitto_pub', [...common, ...message]);
      }
      await stored(app.base, app.token, 'host-m', 3);
    });
  });
});

describe('the port of the embedded broker', () => {
  let holder: Server;
  let app: TestApp | undefined;
  afterEach(async () => {
    await app?.stop();
    app = undefined;
    await new Promise((resolve) => holder.close(resolve));
  });

  test('that was given and is taken stops the start, and the error names the setting; so does PORT', async () => {
    holder = createServer();
    const port = await freePort();
    await new Promise<void>((resolve) => holder.listen(port, '127.0.0.1', resolve));
    await expect(startTestApp({ MQTT_EMBEDDED_PORT: String(port) })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      message: `MQTT_EMBEDDED_PORT: port ${port} of 127.0.0.1 is in use by another program`,
    });
    await expect(startTestApp({ PORT: String(port) })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      message: `PORT: port ${port} of 127.0.0.1 is in use by another program`,
    });
  });

  test('that was not given and is taken leaves the server running, degraded', async () => {
    holder = createServer();
    // Another program may have it already; then that is who holds it.
    await new Promise<void>((resolve) => {
      holder.once('error', () => resolve());
      holder.listen(1883, '127.0.0.1', resolve);
    });
    app = await startTestApp({ MQTT_EMBEDDED_PORT: '' });
    expect(app.app.mqttAddress).toBeNull();
    const { status, body } = await call(`${app.base}/health/ready`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ status: 'degraded', checks: { mqtt: 'failed' } });
    if (!holder.listening) holder = createServer().listen(0);
  });
});

describe('a server process with the embedded broker and TLS', () => {
  let folder: string;
  let authority: TestAuthority;
  let server: ServerProcess;
  afterAll(async () => {
    server?.child.kill('SIGKILL');
    await server?.exited;
    authority?.remove();
    delete globalAgent.options.ca;
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  test('that is killed in mid-stream has stored what it acknowledged', async () => {
    folder = await mkdtemp(join(tmpdir(), 'tocsin-broker-'));
    await chmod(folder, 0o755);
    authority = createAuthority();
    const { certFile, keyFile } = authority.issue({ subject: '/CN=broker', names: LOCAL_NAMES });
    const mqttPort = await freePort();
    const port = await freePort();
    globalAgent.options.ca = authority.ca;
    const start = async (): Promise<string> => {
      server = startServer(folder, port, {
        MQTT_EMBEDDED_PORT: String(mqttPort),
        TLS_CERT: certFile,
        TLS_KEY: keyFile,
      });
      guardChild(server.child);
      await server.ready();
      return signIn(server.base);
    };
    await start();
    const acknowledged = new Set<string>();
    const clients = await Promise.all(
      Array.from({ length: 8 }, () => open(`mqtts://localhost:${mqttPort}`, { ca: authority.ca })),
    );
    let killed = false;
    const streams = clients.map(async (client, index) => {
      client.on('error', () => undefined);
      const lost = new Promise<false>((resolve) => client.once('close', () => resolve(false)));
      for (let second = 0; !killed; second++) {
        const sent = client.publishAsync(`devices/k${index}/metrics`, frame(`k${index}`, second), { qos: 1 }).then(
          () => true,
          () => false,
        );
        if (!(await Promise.race([sent, lost]))) return;
        acknowledged.add(`k${index}:${second}`);
        if (acknowledged.size === 400) {
          killed = true;
          server.child.kill('SIGKILL');
        }
      }
    });
    await Promise.all(streams);
    await server.exited;
    for (const client of clients) client.end(true);
    const token = await start();
    for (let index = 0; index < 8; index++) {
      const mine = [...acknowledged].filter((name) => name.startsWith(`k${index}:`)).length;
      await vi.waitFor(
        async () => expect(await countOf(server.base, token, `k${index}`)).toBeGreaterThanOrEqual(mine),
        {
          timeout: 15_000,
          interval: 50,
        },
      );
    }
    // Who looks for frames on a topic that nobody listens to finds the settings in the log.
    const client = await open(`mqtts://localhost:${mqttPort}`, { ca: authority.ca });
    client.on('error', () => undefined);
    await client.publishAsync('hosts/k0', frame('k0', 0), { qos: 1 });
    await vi.waitFor(() => expect(server.output()).toContain('fits neither MQTT_TOPIC (devices/+/metrics) nor'));
    expect(server.output()).not.toContain('hosts/k0');
    // In an orderly end, devices are let go and the code is 0.
    const closed = closing(client);
    server.child.kill('SIGTERM');
    await closed;
    expect(await server.exited).toBe(0);
    expect(server.output()).not.toContain(CREDENTIALS.apiKey);
  });
});
