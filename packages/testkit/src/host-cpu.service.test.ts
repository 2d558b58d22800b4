/** The alert `host.cpu`, from a signed reading over HTTP to the list and the channel. */
import type { App } from '@tocsin/server/app/app';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openTestDatabase, type TestDatabase } from './database.ts';
import { call, createDevice, post, postJson, type ScriptedDevice } from './device.ts';
import { CREDENTIALS, signIn } from './server-process.ts';
import { settled } from './settled.ts';
import { startAppOn } from './test-app.ts';
import { connectViewer } from './viewer.ts';

describe('a host whose processor is busy', () => {
  let database: TestDatabase;
  let app: App;
  let token: string;
  let serial = 0;
  beforeAll(async () => {
    database = await openTestDatabase();
    app = await startAppOn(database.url, {
      RATE_LIMIT_PER_DEVICE: '1000',
      ALERT_COOLDOWN: '3600',
      GPU_ALERT_TH: '97.5',
    });
    await app.ready;
    token = await signIn(app.address);
  });
  afterAll(async () => {
    await app?.stop();
    await database?.close();
  });

  async function register(id: string, more: object = {}): Promise<ScriptedDevice> {
    const device = createDevice(id);
    const body = { id, profile: 'host', publicKey: device.publicKeyPem, ...more };
    expect((await postJson(`${app.address}/v1/devices`, body, { token })).status).toBe(201);
    return device;
  }
  async function send(
    device: ScriptedDevice,
    readings: readonly (readonly [at: number, cpu: number, more?: object])[],
  ): Promise<string> {
    const frames = readings.map(([at, cpu, more]) => ({
      ...{ at, cpu_percent: cpu, mem_percent: 41.5, disk_percent: 12 },
      ...more,
    }));
    serial += 1;
    const id = `e${serial}`;
    const answer = await post(app.address, CREDENTIALS.apiKey, device.seal(id, { profile: 'host', readings: frames }));
    expect(answer.status).toBe(202);
    await settled(database.db);
    return id;
  }
  async function alertsOf(device: ScriptedDevice): Promise<Record<string, unknown>[]> {
    const headers = { authorization: `Bearer ${token}` };
    const { body } = await call(`${app.address}/v1/alerts?device=${device.id}`, { headers });
    return body?.['items'] as Record<string, unknown>[];
  }
  const statesOf = (device: ScriptedDevice): Promise<unknown[]> =>
    database.db.query('SELECT detector FROM detector_states WHERE key = $1 ORDER BY detector', [device.id]);

  test('is one alert on the list and the channel, and none again within the cool-down', async () => {
    await postJson(`${app.address}/v1/zones`, { id: 'rack', name: 'Rack' }, { token });
    const host = await register('web-1', { zoneId: 'rack', latitude: 45, longitude: 9 });
    const viewer = await connectViewer(`${app.address.replace('http', 'ws')}/ws/alerts?zone=rack`, { token });
    const at = Date.now() - 2000;
    const envelopeId = await send(host, [
      [at + 1, 99],
      [at, 95],
      [at - 1, 89.9],
    ]);
    const [alert = {}, ...others] = await alertsOf(host);
    expect(others).toEqual([]);
    expect(alert).toMatchObject({
      ...{ kind: 'host.cpu', severity: 'moderate', status: 'actual', state: 'open', revision: 1, onset: at },
      ...{ zoneId: 'rack', deviceId: 'web-1', latitude: 45, longitude: 9 },
      headline: 'CPU alert at web-1: CPU 95.0 %, RAM 41.5 %',
      evidence: {
        ...{ cpu_percent: 95, mem_percent: 41.5, disk_percent: 12, gpu_percent: null, threshold: 90 },
        envelopes: [{ deviceId: 'web-1', envelopeId }],
      },
    });
    const message = await viewer.until(({ type }) => type === 'alert');
    expect(message.data).toEqual(alert);
    await send(host, [[Date.now(), 100]]);
    await send(host, [[Date.now(), 86]]);
    expect(await alertsOf(host)).toEqual([alert]);
    const fallen = Date.now();
    await send(host, [[fallen, 20]]);
    await send(host, [[Date.now(), 100]]);
    const ended = await viewer.until(({ type }) => type === 'alert-update');
    expect(ended.data).toMatchObject({
      ...{ id: alert['id'], state: 'resolved', revision: 2, severity: 'moderate', headline: alert['headline'] },
      description: `${String(alert['description'])} Over: 20.0 %.`,
      evidence: { cpu_percent: 95, ended: { at: fallen, reason: 'below', percent: 20 } },
    });
    expect(await alertsOf(host)).toEqual([ended.data]);
    expect(viewer.channel()).toHaveLength(2);
    await viewer.close();
    const metrics = await fetch(`${app.address}/metrics`).then((response) => response.text());
    expect(metrics).toMatch(/^tocsin_alerts_total\{kind="host.cpu",severity="moderate"\} 1$/m);
  });

  test('is none below the threshold or with readings that are old, and leaves no state but the note that it was heard', async () => {
    const host = await register('web-2');
    await send(host, [[Date.now(), 89.99]]);
    await send(host, [[Date.now() - 61_000, 100]]);
    expect(await alertsOf(host)).toEqual([]);
    expect(await statesOf(host)).toEqual([{ detector: 'silence' }]);
    await send(host, [[Date.now(), 90]]);
    expect((await alertsOf(host)).map(({ zoneId, latitude }) => [zoneId, latitude])).toEqual([[null, null]]);
    expect(await statesOf(host)).toEqual([{ detector: 'cpu' }, { detector: 'silence' }]);
  });

  test('memory, disk and graphics have rules of their own, each with its own cool-down and end', async () => {
    const host = await register('web-3');
    const now = Date.now() - 10;
    await send(host, [[now, 10, { mem_percent: 95, disk_percent: 99.5, gpu_percent: 100 }]]);
    await send(host, [[now + 1, 10, { mem_percent: 90, disk_percent: 80, gpu_percent: null }]]);
    const alerts = await alertsOf(host);
    expect(
      new Set(alerts.map(({ kind, state, severity }) => `${String(kind)} ${String(severity)} ${String(state)}`)),
    ).toEqual(new Set(['host.disk severe resolved', 'host.gpu minor open', 'host.memory moderate open']));
    expect(alerts).toHaveLength(3);
  });

  test('is an exercise when the host is a simulated one', async () => {
    const host = await register('sim-1', { exercise: true });
    await send(host, [[Date.now(), 95]]);
    expect(await alertsOf(host)).toMatchObject([{ kind: 'host.cpu', status: 'exercise', deviceId: 'sim-1' }]);
  });
});
