/** A whole server behind an outside broker with client certificates: each frame is stored once, whatever ends meanwhile. */
import { mkdtemp, chmod, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterEach, expect, test, vi } from 'vitest';
import { createAuthority, LOCAL_NAMES } from './certificates.ts';
import { openTestDatabase } from './database.ts';
import { call } from './device.ts';
import { guardChild } from './guard.ts';
import { startMosquitto, tlsLines } from './mosquitto-server.ts';
import { describeWith } from './needs.ts';
import { freePort, type ServerProcess, signIn, startServer } from './server-process.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const HOSTS = 10;
const frame = (host: string, timestamp: number): string =>
  JSON.stringify({ device_id: host, timestamp, cpu_percent: 12.5, mem_percent: 40, disk_percent: 70 });

async function counts(base: string, token: string): Promise<unknown[]> {
  const ask = async (n: number): Promise<unknown> => {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await call(`${base}/v1/devices/host-${n}/statistics?field=cpu_percent`, { headers });
    return answer.body?.['count'] ?? answer.status;
  };
  return Promise.all(Array.from({ length: HOSTS }, (_, n) => ask(n)));
}

describeWith(['mosquitto'], 'a server behind an outside broker', () => {
  test('stores each frame that the broker acknowledged exactly once, though it is killed and the broker restarted in mid-stream', async () => {
    const authority = createAuthority();
    ends.push(() => authority.remove());
    const own = authority.issue({ subject: '/CN=tocsin' });
    const broker = await startMosquitto(
      (folder) => [...tlsLines(folder, authority.issue({ names: LOCAL_NAMES }), authority.ca), 'max_queued_messages 0'],
      { persistence: true },
    );
    ends.push(() => broker.stop());
    const database = await openTestDatabase();
    ends.push(() => database.close());
    const folder = await mkdtemp(join(tmpdir(), 'tocsin-outside-'));
    await chmod(folder, 0o755);
    ends.push(() => rm(folder, { recursive: true, force: true }));
    const port = await freePort();
    const start = (): ServerProcess => {
      const server = startServer(folder, port, {
        DATABASE_URL: database.url,
        CLUSTER_SECRET: 'c'.repeat(48),
        MQTT_BROKER: 'localhost',
        MQTT_PORT: String(broker.port),
        CA_CERT: authority.caFile,
        CLIENT_CERT: own.certFile,
        CLIENT_KEY: own.keyFile,
        MQTT_BACKOFF_MIN: '1',
        MQTT_BACKOFF_MAX: '2',
        CPU_ALERT_TH: '100',
      });
      guardChild(server.child);
      ends.push(() => server.child.kill('SIGKILL'));
      return server;
    };
    const first = start();
    await first.ready();
    await vi.waitFor(() => expect(first.output()).toContain('mqtt: connected'), { timeout: 30_000 });
    const devices = await connectAsync({
      ...{ protocol: 'mqtts', host: '127.0.0.1', port: broker.port, reconnectPeriod: 50 },
      ...{ ca: authority.ca, cert: own.cert, key: own.key },
    });
    devices.on('error', () => undefined);
    ends.push(() => devices.end(true));
    let going = true;
    const sent = await (async () => {
      const published: number[] = [];
      const host = async (n: number): Promise<void> => {
        for (let second = 1; going; second++) {
          await devices.publishAsync(`devices/host-${n}/metrics`, frame(`host-${n}`, second), { qos: 1 });
          published[n] = second;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      const all = Promise.all(Array.from({ length: HOSTS }, (_, n) => host(n)));
      const some = (count: number): Promise<void> =>
        vi.waitFor(() => expect(Math.min(...published)).toBeGreaterThan(count), { timeout: 30_000 });
      await some(50);
      first.child.kill('SIGKILL');
      await first.exited;
      await some(100);
      const second = start();
      await second.ready();
      await some(150);
      await broker.end();
      await broker.restart();
      await some(200);
      going = false;
      await all;
      return published;
    })();
    const base = `http://127.0.0.1:${port}`;
    const token = await signIn(base);
    await vi.waitFor(async () => expect(await counts(base, token)).toEqual(sent), { timeout: 60_000, interval: 200 });
  }, 180_000);
});
