/** A whole server that takes its messages from an outside broker, by `MQTT_BROKER`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rm } from 'node:fs/promises';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createAuthority, LOCAL_NAMES, type TestAuthority } from './certificates.ts';
import { call } from './device.ts';
import { folderRemoved, guardedFolder } from './guard.ts';
import { type MosquittoServer, passwordLines, startMosquitto, tlsLines } from './mosquitto-server.ts';
import { describeWith } from './needs.ts';
import { startTestApp, type TestApp } from './test-app.ts';

describeWith(['mosquitto'], 'a server with an outside broker', () => {
  let authority: TestAuthority;
  let broker: MosquittoServer;
  let folder: string;
  let app: TestApp | undefined;

  const checks = async (): Promise<unknown> => (await call(`${app?.base ?? ''}/health/ready`)).body;
  const hasCount = (count: number): Promise<void> =>
    vi.waitFor(
      async () => {
        const headers = { authorization: `Bearer ${app?.token ?? ''}` };
        const url = `${app?.base ?? ''}/v1/devices/h1/statistics?field=cpu_percent`;
        expect((await call(url, { headers })).body?.['count']).toBe(count);
      },
      { timeout: 20_000, interval: 50 },
    );

  beforeAll(async () => {
    authority = createAuthority();
    folder = guardedFolder('tocsin-link-app-');
    writeFileSync(join(folder, 'ca.pem'), authority.ca);
    const certificate = authority.issue({ subject: '/CN=broker', names: LOCAL_NAMES });
    broker = await startMosquitto((at) => [...passwordLines(at, 'tocsin', 'right'), ...tlsLines(at, certificate)]);
    app = await startTestApp({
      MQTT_BROKER: '127.0.0.1',
      MQTT_PORT: String(broker.port),
      CA_CERT: join(folder, 'ca.pem'),
      MQTT_USERNAME: 'tocsin',
      MQTT_PASSWORD: 'right',
      MQTT_BACKOFF_MIN: '0.1',
      MQTT_BACKOFF_MAX: '0.5',
    });
  });
  afterAll(async () => {
    await app?.stop();
    await broker?.stop();
    authority?.remove();
    await rm(folder, { recursive: true, force: true });
    folderRemoved(folder);
  });

  test('has no broker of its own, stores what comes, and is degraded while the broker is away', async () => {
    expect(app?.app.mqttAddress).toBeNull();
    await vi.waitFor(async () => expect(await checks()).toMatchObject({ status: 'ok', checks: { mqtt: 'ok' } }), {
      timeout: 20_000,
      interval: 50,
    });
    const login = { username: 'tocsin', password: 'right' };
    const client = await connectAsync(`mqtts://localhost:${broker.port}`, {
      ...login,
      ca: authority.ca,
      reconnectPeriod: 0,
    });
    for (let timestamp = 1; timestamp <= 10; timestamp++) {
      const frame = { device_id: 'h1', timestamp, cpu_percent: 1, mem_percent: 2, disk_percent: 3 };
      await client.publishAsync('devices/h1/metrics', JSON.stringify(frame), { qos: 1 });
    }
    await hasCount(10);
    client.end(true);
    await broker.kill();
    await vi.waitFor(
      async () => expect(await checks()).toMatchObject({ status: 'degraded', checks: { mqtt: 'failed' } }),
      {
        timeout: 20_000,
        interval: 50,
      },
    );
    await broker.restart();
    await vi.waitFor(async () => expect(await checks()).toMatchObject({ status: 'ok' }), {
      timeout: 20_000,
      interval: 50,
    });
  });
});
