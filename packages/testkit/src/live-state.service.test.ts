/** The live state of hosts: from envelopes over HTTP to `/ws/devices` and the raw form of `WS_PORT`. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { pathToFileURL } from 'node:url';
import type { App } from '@tocsin/server/app/app';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { openTestDatabase, type TestDatabase } from './database.ts';
import { call, postJson } from './device.ts';
import { createHosts, type Hosts } from './hosts.ts';
import { checkoutPath } from './machine.ts';
import { CREDENTIALS, signIn } from './server-process.ts';
import { startAppOn } from './test-app.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer, type ViewerOptions } from './viewer.ts';

const SECRET = 'secret-of-the-bridge';

describe('the live state of hosts', () => {
  let database: TestDatabase;
  let app: App;
  let token: string;
  let hosts: Hosts;
  const viewers: ScriptedViewer[] = [];
  const environment = {
    ...{ CLUSTER_SECRET: randomBytes(32).toString('base64url'), PUBLIC_URL: 'http://tocsin.example' },
    ...{ WS_PORT: '0', WS_AUTH_TOKEN: SECRET, WS_MAX_CONNECTIONS_PER_USER: '50', WS_RECONNECTS_PER_MINUTE: '1000' },
    ...{ WS_PUBLIC_ALERTS: 'true', WS_WATERMARK_SECONDS: '0.2', PRUNE_SECONDS: '3600', RATE_LIMIT_PER_DEVICE: '1000' },
  };
  beforeAll(async () => {
    database = await openTestDatabase();
    app = await startAppOn(database.url, environment);
    await app.ready;
    token = await signIn(app.address);
    hosts = createHosts(() => app.address, CREDENTIALS.apiKey, token);
  });
  afterEach(() => {
    for (const viewer of viewers.splice(0)) viewer.cut();
  });
  afterAll(async () => {
    await app?.stop();
    await database?.close();
  });
  const watch = async (options: ViewerOptions = { token }, path = ''): Promise<ScriptedViewer> => {
    const viewer = await connectViewer(`${app.address.replace('http', 'ws')}/ws/devices${path}`, options);
    viewers.push(viewer);
    return viewer;
  };
  const refused = async (attempt: Promise<unknown>): Promise<number> => {
    const error: unknown = await attempt.catch((reason: unknown) => reason);
    if (!(error instanceof HandshakeRefused)) throw error;
    return error.status;
  };

  test('has no snapshot while no host is active, then tells each frame of its own, absent optionals as null', async () => {
    const viewer = await watch();
    expect(viewer.welcome).toMatchObject({ channel: 'devices', epoch: 'live', offset: 0, recovered: true });
    expect(Object.keys(viewer.welcome).toSorted()).toEqual(
      [
        ...['channel', 'connection', 'epoch', 'heartbeatSeconds', 'offset', 'reauthenticateBy', 'recovered', 'type'],
        'watermarkSeconds',
      ].toSorted(),
    );
    const mark = await viewer.until(({ type }) => type === 'watermark');
    expect(mark).toEqual({ type: 'watermark', offset: 0, at: expect.any(Number) });
    const at = Date.now();
    await hosts.send('web-1', { at, cpu_percent: 12.5, agent_mem_mb: 40 });
    const frame = {
      ...{ device_id: 'web-1', timestamp: Math.floor(at / 1000), cpu_percent: 12.5, mem_percent: 41.5 },
      ...{ disk_percent: 12, gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: 40 },
    };
    expect(await viewer.until(({ type }) => type === 'metrics')).toEqual({ type: 'metrics', data: { 'web-1': frame } });
    const later = await watch();
    expect(await later.until(({ type }) => type !== 'welcome')).toEqual({ type: 'snapshot', data: { 'web-1': frame } });
    expect(later.messages[1]?.type).toBe('snapshot');
    expect([...viewer.faults, ...later.faults]).toEqual([]);
  });

  test('is there at once after a restart, read from the store', async () => {
    await hosts.send('web-2', { at: Date.now(), cpu_percent: 33 });
    await hosts.stored(database);
    await app.stop();
    app = await startAppOn(database.url, environment);
    await app.ready;
    const viewer = await watch();
    const { data } = await viewer.until(({ type }) => type === 'snapshot');
    expect(data).toMatchObject({ 'web-2': { cpu_percent: 33, gpu_percent: null } });
  });

  test('is for people and for the token of the setting, by query or bearer; not for devices, strangers or public alerts', async () => {
    await connectViewer(`${app.address.replace('http', 'ws')}/ws/alerts`).then((viewer) => viewers.push(viewer));
    expect(await refused(watch({}))).toBe(401);
    expect(await refused(watch({ token: 'wrong' }))).toBe(401);
    expect(await refused(watch({}, '?token=wrong'))).toBe(401);
    // Its own carriers only: a person's token in the URL does not count.
    expect(await refused(watch({}, `?token=${token}`))).toBe(401);
    expect(await refused(watch({ token }, '?zone=z1'))).toBe(400);
    for (const viewer of [
      await watch({}, `?token=${SECRET}`),
      await watch({ token: SECRET }),
      await watch({ protocols: ['tocsin.v1', `bearer.${SECRET}`] }),
    ]) {
      expect(viewer.welcome['channel']).toBe('devices');
      expect(viewer.socket.protocol).not.toContain(SECRET);
    }
    const asked = await watch({ token, resume: { epoch: 'live', offset: 0 } });
    expect(asked.welcome).toMatchObject({ recovered: false, offset: 0 });
    expect((await asked.until(({ type }) => type === 'snapshot')).type).toBe('snapshot');
    expect((await call(`${app.address}/ws/devices`)).status).toBe(426);
  });

  test('speaks the form of the original bridge on WS_PORT: frames alone, all of them first', async () => {
    await hosts.send('web-3', { at: Date.now(), cpu_percent: 1 });
    const base = app.webSocketAddress ?? '';
    const socket = new WebSocket(`${base}/?token=${SECRET}`);
    const messages: Record<string, { cpu_percent: number }>[] = [];
    socket.on('message', (text) => messages.push(JSON.parse(String(text as Buffer)) as (typeof messages)[number]));
    await once(socket, 'open');
    await expect.poll(() => messages.length).toBe(1);
    expect(Object.keys(messages[0] ?? {})).toContain('web-3');
    await hosts.send('web-3', { at: Date.now(), cpu_percent: 2 });
    await hosts.send('web-4', { at: Date.now(), cpu_percent: 3 });
    await expect
      .poll(() => messages.slice(1).map((one) => Object.entries(one).map(([id, f]) => [id, f.cpu_percent])))
      .toEqual([[['web-3', 2]], [['web-4', 3]]]);
    // What it says counts for the limit only: five in ten seconds, the sixth is let pass, the seventh ends it.
    const closed = once(socket, 'close');
    for (let n = 0; n < 7; n++) socket.send(n % 2 === 0 ? 'anything' : '{"type":"ping"}');
    expect((await closed)[0]).toBe(4029);
    expect(messages).toHaveLength(3);
  });

  test('on WS_PORT needs the token before the upgrade, has the other paths too, and speaks nothing else', async () => {
    const base = app.webSocketAddress ?? '';
    expect(await refused(connectViewer(`${base}/`))).toBe(401);
    expect(await refused(connectViewer(`${base}/?token=wrong`))).toBe(401);
    expect(await refused(connectViewer(`${base}/`, { token }))).toBe(401);
    expect(await refused(connectViewer(`${base}/other?token=${SECRET}`))).toBe(404);
    expect(await refused(connectViewer(`${base}/`, { headers: { origin: 'http://evil.example' } }))).toBe(403);
    for (const path of ['/ws/devices', '/ws/alerts']) {
      const viewer = await connectViewer(`${base}${path}`, { token });
      viewers.push(viewer);
      expect(viewer.welcome['channel']).toBe(path.slice('/ws/'.length));
    }
    const plain = base.replace('ws', 'http');
    const answers = await Promise.all(['/', '/ws/devices', '/nothing'].map((path) => call(`${plain}${path}`)));
    expect(answers.map(({ status, body }) => [status, body?.['code']])).toEqual([
      [426, 'upgrade-required'],
      [426, 'upgrade-required'],
      [404, 'not-found'],
    ]);
    expect((await postJson(`${plain}/`, {}, { token })).status).toBe(426);
  });

  test('is read by the example of the documents over a plain WebSocket', async () => {
    const module = pathToFileURL(checkoutPath('docs/examples/live-devices', 'live-devices.js')).href;
    const { watchDevices } = (await import(module)) as { watchDevices: (options: object) => { stop(): void } };
    let shown: Record<string, unknown> = {};
    let fresh = false;
    const live = watchDevices({
      url: `${app.address.replace('http', 'ws')}/ws/devices`,
      token: () => token,
      WebSocket,
      show(frames: ReadonlyMap<string, { cpu_percent: number }>, isFresh: boolean) {
        shown = Object.fromEntries([...frames].map(([id, frame]) => [id, frame.cpu_percent]));
        fresh = isFresh;
      },
    });
    try {
      await expect.poll(() => [fresh, shown['web-4']]).toEqual([true, 3]);
      await hosts.send('web-4', { at: Date.now(), cpu_percent: 44 });
      await expect.poll(() => shown['web-4']).toBe(44);
    } finally {
      live.stop();
    }
  });

  test('shows itself in the metrics by its path', async () => {
    const viewer = await watch();
    await viewer.until(({ type }) => type === 'snapshot');
    const text = await fetch(`${app.address}/metrics`).then((response) => response.text());
    expect(text).toMatch(/^tocsin_live_devices 4$/m);
    expect(text).toMatch(/^tocsin_websocket_connections\{path="\/ws\/devices"\} 1$/m);
    expect(text).toMatch(/^tocsin_websocket_closed_total\{path="\/",code="4029"\} 1$/m);
  });
});
