/** The contract's sections 5 to 7 where they need settings of their own, real time, or a process of its own. */
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { handshakeText, newPerson, sendRaw, shake, signInAs } from './contract-viewer.ts';
import { type Answer, call, postJson } from './device.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { startTestApp, type TestApp } from './test-app.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer } from './viewer.ts';

const socketUrl = (base: string, query = ''): string => `${base.replace('http', 'ws')}/ws/alerts${query}`;
const refusal = async (attempt: Promise<ScriptedViewer>): Promise<HandshakeRefused> => {
  const error: unknown = await attempt.then(
    (viewer) => viewer.cut(),
    (reason: unknown) => reason,
  );
  if (error instanceof HandshakeRefused) return error;
  throw new Error('the handshake was not refused');
};
const refresh = (base: string, token: string): Promise<Answer> =>
  postJson(`${base}/v1/auth/refresh`, { refresh_token: token, fingerprint: 'f' });

describe('public displays', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({
      PUBLIC_URL: 'http://own.example',
      WS_PUBLIC_ALERTS: 'true',
      WS_ALLOW_QUERY_TOKEN: 'true',
      WS_ALLOWED_ORIGINS: 'http://a.example,https://b.example:8443',
      WS_MAX_CONNECTIONS_PER_IP: '3',
      WS_REAUTHENTICATE_SECONDS: '2',
      TRUSTED_PROXIES: '127.0.0.1',
    });
  });
  afterAll(() => app?.stop());

  test('need no credential, but a wrong one is still wrong; a token on the URL counts where it is allowed', async () => {
    const anybody = await connectViewer(socketUrl(app.base));
    expect(anybody.welcome).toMatchObject({ recovered: true });
    await anybody.close();
    expect((await refusal(connectViewer(socketUrl(app.base), { token: 'x' }))).status).toBe(401);
    expect((await refusal(connectViewer(socketUrl(app.base, '?token=x')))).status).toBe(401);
    const named = await connectViewer(socketUrl(app.base, `?token=${app.token}`));
    await named.close();
  });

  test('keep to the list of origins, by exact origin', async () => {
    const statuses = [
      'http://a.example',
      'https://b.example:8443',
      'https://b.example',
      'http://own.example',
      'http://a.example.evil',
    ];
    const answers = await statuses.reduce<Promise<number[]>>(
      async (before, Origin) => [...(await before), (await shake(app.base, '/ws/alerts', { Origin })).status],
      Promise.resolve([]),
    );
    expect(answers).toEqual([101, 101, 403, 403, 403]);
  });

  test('keep to the limit of an address, IPv6 by /64, and a place that is left is free at once', async () => {
    const from = (address: string): Promise<ScriptedViewer> =>
      connectViewer(socketUrl(app.base), { headers: { 'x-forwarded-for': address } });
    const held = [await from('2001:db8:1:2::1'), await from('2001:db8:1:2::2'), await from('2001:db8:1:2:ffff::3')];
    const fourth = await refusal(from('2001:db8:1:2::4'));
    expect(fourth.status).toBe(429);
    expect(Number(fourth.headers['retry-after'])).toBeGreaterThan(0);
    held.push(await from('2001:db8:1:3::1'));
    await held[0]?.close();
    held.push(await from('2001:db8:1:2::5'));
    await Promise.all(held.slice(1).map((viewer) => viewer.close()));
  });

  test('of people end with 4002 when re-authentication is missed, and live on with it', async () => {
    const token = (await newPerson(app.base, app.token)).token;
    const viewer = await connectViewer(socketUrl(app.base), { token });
    const first = Number(viewer.welcome['reauthenticateBy']);
    await pause(Math.max(0, first - 700 - Date.now()));
    viewer.send({ type: 'authenticate', token });
    const answer = await viewer.until(({ type }) => type === 'authenticated');
    expect(Number(answer['reauthenticateBy'])).toBeGreaterThan(first);
    expect((await viewer.closed).code).toBe(4002);
    expect(Date.now()).toBeGreaterThanOrEqual(Number(answer['reauthenticateBy']));
  });
});

describe('people', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({ ACCESS_TOKEN_MINUTES: '0.1', JWT_CLOCK_SKEW_SECONDS: '0' });
  });
  afterAll(() => app?.stop());
  const person = async () => newPerson(app.base, await signIn(app.base));
  const alive = async (token: string): Promise<number> =>
    (await call(`${app.base}/v1/auth/session`, { headers: { authorization: `Bearer ${token}` } })).status;

  test('sign in to exactly a pair, whose token has the claims and a key of the JWKS at both paths', async () => {
    const answer = await postJson(`${app.base}/v1/auth/login`, {
      email: CREDENTIALS.email,
      password: CREDENTIALS.password,
    });
    expect(answer.body).toEqual({
      access_token: expect.any(String),
      refresh_token: expect.any(String),
      token_type: 'Bearer',
      expires_in: 6,
    });
    const [header = '', payload = ''] = String(answer.body?.['access_token']).split('.');
    const decode = (part: string): Record<string, unknown> =>
      JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
    expect(decode(header)).toEqual({ alg: 'ES256', kid: expect.any(String), typ: 'at+jwt' });
    expect(decode(payload)).toMatchObject({ aud: 'tocsin', sub: expect.any(String), scope: expect.any(String) });
    const [one, two] = [
      await call(`${app.base}/.well-known/jwks.json`),
      await call(`${app.base}/internal/.well-known/jwks.json`),
    ];
    expect(two.body).toEqual(one.body);
    const keys = one.body?.['keys'] as Record<string, unknown>[];
    expect(new Set(keys.map((key) => key['kid'])).size).toBe(3);
    expect(keys.find((key) => key['kid'] === decode(header)['kid'])).toMatchObject({
      use: 'sig',
      alg: 'ES256',
      kty: 'EC',
    });
    expect(keys.every((key) => !('d' in key))).toBe(true);
    const wrong = await postJson(`${app.base}/v1/auth/login`, { email: CREDENTIALS.email, password: 'wrong' });
    expect(wrong.status).toBe(401);
  });

  test.concurrent('whose token ends are closed with 4002, and come back with a refreshed one', async () => {
    const { token, refreshToken } = await person();
    const viewer = await connectViewer(socketUrl(app.base), { token });
    expect(Number(viewer.welcome['reauthenticateBy']) - Date.now()).toBeLessThanOrEqual(6000);
    expect((await viewer.closed).code).toBe(4002);
    expect((await refusal(connectViewer(socketUrl(app.base), { token }))).status).toBe(401);
    const next = await refresh(app.base, refreshToken);
    const back = await connectViewer(socketUrl(app.base), { token: String(next.body?.['access_token']) });
    await back.close();
  });

  test.concurrent('may ask for a lost successor again; a use after that ends the family, its tokens and its viewers', async () => {
    const { refreshToken: r1 } = await person();
    const [once, again] = [await refresh(app.base, r1), await refresh(app.base, r1)];
    expect([once.status, again.status]).toEqual([200, 200]);
    expect(again.body?.['refresh_token']).toBe(once.body?.['refresh_token']);
    const third = await refresh(app.base, String(again.body?.['refresh_token']));
    const token = String(third.body?.['access_token']);
    const viewer = await connectViewer(socketUrl(app.base), { token });
    expect((await refresh(app.base, r1)).status).toBe(401);
    expect((await viewer.closed).code).toBe(4004);
    expect(await alive(token)).toBe(401);
    expect((await refresh(app.base, String(third.body?.['refresh_token']))).status).toBe(401);
  });

  test.concurrent('who ask for it later than ten seconds are out', async () => {
    const { refreshToken: r1 } = await person();
    const once = await refresh(app.base, r1);
    await pause(10_050);
    expect((await refresh(app.base, r1)).status).toBe(401);
    expect((await refresh(app.base, String(once.body?.['refresh_token']))).status).toBe(401);
  });

  test.concurrent('end their session by logout, with what belongs to it', async () => {
    const me = await person();
    const other = await signInAs(app.base, me);
    const answer = await call(`${app.base}/v1/auth/logout`, {
      method: 'POST',
      headers: { authorization: `Bearer ${me.token}` },
    });
    expect(answer.status).toBe(204);
    expect((await refresh(app.base, me.refreshToken)).status).toBe(401);
    expect([await alive(me.token), await alive(other.token)]).toEqual([401, 200]);
  });
});

describe('a server process', () => {
  let folder: string;
  let server: ServerProcess;
  let token: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tocsin-contract-'));
    await chmod(folder, 0o755);
    const settings = { DRAIN_SECONDS: '6', WS_MAX_CONNECTIONS_PER_USER: '50', WS_RECONNECTS_PER_MINUTE: '1000' };
    server = startServer(folder, await freePort(), {
      ...settings,
      WS_WATERMARK_SECONDS: '1',
      WS_ALLOW_QUERY_TOKEN: 'true',
    });
    await server.ready();
    token = await signIn(server.base);
  });
  afterAll(async () => {
    server?.child.kill('SIGKILL');
    await server?.exited;
    await rm(folder, { recursive: true, force: true });
  });
  const watch = (): Promise<ScriptedViewer> => connectViewer(socketUrl(server.base), { token });
  const drill = (headline: string): Promise<Answer> =>
    postJson(`${server.base}/v1/alerts`, { severity: 'minor', headline }, { token });

  test('says that it lives and is ready, and has the metrics of the contract with their labels', async () => {
    expect((await call(`${server.base}/health/live`)).status).toBe(200);
    const ready = await call(`${server.base}/health/ready`);
    expect(ready).toMatchObject({ status: 200, body: { status: 'ok', checks: expect.any(Object) } });
    const viewer = await watch();
    viewer.send({ type: 'ping' });
    await viewer.until(({ type }) => type === 'pong');
    await drill('for the metrics');
    await viewer.until(({ type }) => type === 'alert');
    await viewer.close();
    await shake(server.base, '/ws/alerts', { Authorization: 'Bearer wrong' });
    const response = await fetch(`${server.base}/metrics`);
    const text = await response.text();
    expect(response.headers.get('content-type')).toContain('text/plain');
    for (const line of [
      /^tocsin_alerts_total\{kind="operator.drill",severity="minor"\} 1$/m,
      /^tocsin_rejected_total\{transport="websocket",reason="token-invalid"\} 1$/m,
      /^tocsin_websocket_connections\{path="\/ws\/alerts"\} 0$/m,
      /^tocsin_websocket_closed_total\{path="\/ws\/alerts",code="1000"\} 1$/m,
      /^tocsin_websocket_ends_total\{path="\/ws\/alerts",reason="left"\} 1$/m,
      /^tocsin_websocket_joined_total\{path="\/ws\/alerts",plan="fresh"\} 1$/m,
      /^tocsin_websocket_handshakes 0$/m,
      /^tocsin_websocket_waiting_viewers\{path="\/ws\/alerts"\} 0$/m,
      /^tocsin_websocket_queued_bytes\{path="\/ws\/alerts"\} 0$/m,
      /^tocsin_watermark_age_seconds\{path="\/ws\/alerts"\} [\d.e-]+$/m,
      /^tocsin_draining 0$/m,
      /^tocsin_websocket_connection_duration_seconds_count\{path="\/ws\/alerts"\} 1$/m,
      /^tocsin_websocket_messages_total\{direction="in"\} 1$/m,
      /^tocsin_websocket_messages_total\{direction="out"\} \d+$/m,
      /^tocsin_handshake_seconds_count\{.*\} 1$/m,
      /^tocsin_fanout_seconds_count\{.*\} \d+$/m,
      /^tocsin_bus_lag_seconds [\d.e-]+$/m,
      /^tocsin_log_backlog\{.*\} 0$/m,
      /^# TYPE tocsin_accepted_total counter$/m,
      /^# TYPE tocsin_scoring_seconds histogram$/m,
      /^# TYPE tocsin_redis_seconds histogram$/m,
      /^# TYPE tocsin_refresh_total counter$/m,
    ]) {
      expect(text).toMatch(line);
    }
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    const traced = await call(`${server.base}/health/live`, {
      headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` },
    });
    expect(traced.headers['traceparent']).toMatch(new RegExp(`^00-${trace}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`));
  });

  test('writes no token and no ticket to its log', async () => {
    const { body } = await postJson(`${server.base}/v1/auth/ticket`, {}, { token });
    const ticket = String(body?.['ticket']);
    for (const query of [`?ticket=${ticket}`, `?token=${token}`])
      await (await connectViewer(socketUrl(server.base, query))).close();
    for (const secret of [ticket, token, CREDENTIALS.password, CREDENTIALS.apiKey])
      expect(server.output()).not.toContain(secret);
  });

  test('sends no watermark while PostgreSQL is frozen, and afterwards goes on with nothing lost', async () => {
    const viewer = await watch();
    await viewer.until(({ type }) => type === 'watermark');
    const postmaster = Number((await readFile(`${folder}/data/postgres/postmaster.pid`, 'utf8')).split('\n')[0]);
    // The postmaster first: it would start new, lively backends.
    process.kill(postmaster, 'SIGSTOP');
    const frozen = [postmaster, ...(await childrenOf(postmaster))];
    expect(frozen.length).toBeGreaterThan(4);
    for (const pid of frozen) process.kill(pid, 'SIGSTOP');
    const frozenAt = Date.now();
    const posts = Promise.all(['f1', 'f2', 'f3'].map((headline) => drill(headline)));
    try {
      await pause(3000);
      const since = viewer.messages.filter(
        (message) => message.type === 'watermark' && Number(message['at']) > frozenAt,
      );
      expect(since).toEqual([]);
      expect((await call(`${server.base}/health/ready`)).body).toMatchObject({
        status: 503,
        code: 'store-unavailable',
      });
      expect((await call(`${server.base}/health/live`)).status).toBe(200);
    } finally {
      for (const pid of frozen) process.kill(pid, 'SIGCONT');
    }
    const accepted = (await posts).filter(({ status }) => status === 201);
    const offsets = accepted.map(({ body }) => Number(body?.['offset'])).sort((a, b) => a - b);
    await viewer.until(
      ({ type, offset }) =>
        type === 'watermark' && Number(offset) >= (offsets.at(-1) ?? 0) && viewer.messages.length > 2,
    );
    expect(viewer.channel().map(({ offset }) => offset)).toEqual(expect.arrayContaining(offsets));
    expect(viewer.faults).toEqual([]);
    await viewer.close();
    await server.ready();
  });

  test('on SIGTERM says so, sends viewers away spread, ends what was begun and exits 0 in time, whatever it is sent again', async () => {
    const viewers = await Promise.all(Array.from({ length: 20 }, watch));
    const deaf = await sendRaw(server.base, handshakeText('/ws/alerts', { Authorization: `Bearer ${token}` }));
    deaf.socket.on('data', () => undefined).on('error', () => undefined);
    const body = JSON.stringify({ severity: 'minor', headline: 'in flight' });
    const head = `POST /v1/alerts HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`;
    // Answered 100: the request has begun. Its body follows after the signal.
    const begun = await sendRaw(server.base, head);
    expect(begun.status).toBe(100);
    const begin = performance.now();
    server.child.kill('SIGTERM');
    await viewers[0]?.until(({ type }) => type === 'moving');
    const ready = await call(`${server.base}/health/ready`);
    expect(ready).toMatchObject({ status: 503, body: { code: 'draining' } });
    expect(ready.headers['retry-after']).toBeDefined();
    expect((await shake(server.base, '/ws/alerts', { Authorization: `Bearer ${token}` })).status).toBe(503);
    server.child.kill('SIGTERM');
    const answer = new Promise<string>((resolve) =>
      begun.socket.once('data', (chunk: Buffer) => resolve(chunk.toString())),
    );
    begun.socket.write(body);
    expect(await answer).toMatch(/^HTTP\/1.1 201 /);
    const ends = await Promise.all(viewers.map((viewer) => viewer.closed));
    expect(new Set(ends.map(({ code }) => code))).toEqual(new Set([1001]));
    const moving = viewers.map((viewer) => viewer.messages.find(({ type }) => type === 'moving'));
    for (const message of moving) expect(message).toEqual({ type: 'moving', retryAfterMs: expect.any(Number) });
    expect(new Set(moving.map((message) => message?.['retryAfterMs'])).size).toBeGreaterThan(5);
    expect(await server.exited).toBe(0);
    expect(performance.now() - begin).toBeLessThan(6000);
  });

  test('with bad settings exits 78 with a line for each mistake', async () => {
    const bad = { PORT: 'x', ADMIN_PASSWORD: 'aaaaaaaaaaaaaaaa', WS_HEARTBEAT_SECONDS: 'often', CPU_ALERT_TH: '101' };
    const process = startServer(folder, 1, bad);
    expect(await process.exited).toBe(78);
    const lines = process.output().trim().split('\n');
    expect(lines).toHaveLength(4);
    for (const name of Object.keys(bad)) expect(lines.filter((line) => line.includes(name))).toHaveLength(1);
  });
});

async function childrenOf(parent: number): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent ? [Number(pid)] : [];
    }),
  );
  return found.flat();
}
