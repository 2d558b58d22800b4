import { createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call, createDevice, post, postJson, type Answer } from './device.ts';
import { registerFleet } from './fleet.ts';
import { startTestApp, type TestApp } from './test-app.ts';
import { connectViewer } from './viewer.ts';

describe('the first alarm, from sensors to viewers', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({
      WS_MAX_CONNECTIONS_PER_USER: '50',
      WS_RECONNECTS_PER_MINUTE: '1000',
      RATE_LIMIT_BURST: '10000',
    });
  });
  afterAll(() => app?.stop());

  const watch = (query = ''): ReturnType<typeof connectViewer> =>
    connectViewer(`${app.base.replace('http', 'ws')}/ws/alerts${query}`, { token: app.token });
  const get = (path: string, accept = 'application/json'): Promise<Answer> =>
    call(app.base + path, { headers: { authorization: `Bearer ${app.token}`, accept } });

  test('fifty sensors within ten seconds raise one alarm that every viewer sees, signed, and nobody sees twice', async () => {
    const [fleet = []] = await registerFleet(app.base, app.token, { name: 'quake', zones: 1, perZone: 50 });
    const viewers = await Promise.all([
      watch(),
      watch(),
      watch('?zone=quake-0'),
      watch('?zone=elsewhere'),
      watch('?minSeverity=extreme'),
    ]);
    const at = Date.now();
    const answers = await Promise.all(
      fleet.map((device, i) => post(app.base, app.apiKey, device.seal('e1', { readings: [{ at: at + i, value: 5 }] }))),
    );
    expect(answers.map((answer) => answer.status)).toEqual(Array(50).fill(202));
    expect(answers[0]?.body).toEqual({ id: 'e1', accepted: 1 });
    const seen = await Promise.all(
      viewers.slice(0, 3).map((viewer) => viewer.until((message) => message.type === 'alert')),
    );
    const alert = seen[0]?.data as Record<string, unknown>;
    expect(alert).toMatchObject({
      kind: 'seismic.swarm',
      severity: 'severe',
      status: 'actual',
      state: 'open',
      revision: 1,
      zoneId: 'quake-0',
    });
    expect(alert['onset']).toBe(at);
    expect((alert['evidence'] as { envelopes: unknown[] }).envelopes).toHaveLength(50);
    expect(seen.map((message) => message.data)).toEqual([alert, alert, alert]);

    const listed = await get('/v1/alerts?zone=quake-0');
    expect(listed.body?.['items']).toEqual([alert]);
    expect(await checkSignature(alert)).toBe(true);
    expect(await checkSignature({ ...alert, severity: 'minor' })).toBe(false);

    const acknowledged = await postJson(
      `${app.base}/v1/alerts/${String(alert['id'])}/acknowledge`,
      {},
      { token: app.token },
    );
    expect(acknowledged).toMatchObject({ status: 200, body: { state: 'acknowledged', revision: 2 } });
    const update = await viewers[0]?.until((message) => message.type === 'alert-update');
    expect(update?.data).toEqual(acknowledged.body);
    for (const viewer of viewers) {
      expect(viewer.faults).toEqual([]);
      expect(viewer.channel().filter((message) => message.type === 'alert').length).toBeLessThanOrEqual(1);
    }
    expect(viewers[3]?.channel()).toEqual([]);
    expect(viewers[4]?.channel()).toEqual([]);
    const cap = await call(`${app.base}/v1/alerts/${String(alert['id'])}`, {
      headers: { authorization: `Bearer ${app.token}`, accept: 'application/cap+xml' },
    });
    expect(cap.headers['content-type']).toContain('application/cap+xml');
    await Promise.all(viewers.map((viewer) => viewer.close()));
  });

  /** As anybody would check it: JWKS, RFC 8785 by sorting keys, ES256. */
  async function checkSignature({ signature, ...rest }: Record<string, unknown>): Promise<boolean> {
    const [header = '', , encoded = ''] = String(signature).split('.');
    const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { kid: string };
    const jwks = (await call(`${app.base}/.well-known/jwks.json`)).body?.['keys'] as { kid: string }[];
    const jwk = jwks.find((key) => key.kid === kid);
    if (jwk === undefined) return false;
    const sorted = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(sorted);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, member]) => [key, sorted(member)]),
      );
    };
    const input = `${header}.${Buffer.from(JSON.stringify(sorted(rest))).toString('base64url')}`;
    const key = createPublicKey({ key: jwk as never, format: 'jwk' });
    return verify('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(encoded, 'base64url'));
  }

  test('forty-nine sensors raise nothing', async () => {
    const [fleet = []] = await registerFleet(app.base, app.token, { name: 'quiet', zones: 1, perZone: 49 });
    const at = Date.now();
    await Promise.all(
      fleet.map((device) =>
        post(
          app.base,
          app.apiKey,
          device.seal('e1', {
            readings: [
              { at, value: 5 },
              { at: at - 5, value: 6 },
            ],
          }),
        ),
      ),
    );
    await counted('/v1/zones/quiet-0/statistics', 98);
    expect((await get('/v1/alerts?zone=quiet-0')).body?.['items']).toEqual([]);
  });

  /** Accepted readings show within a second; the test waits longer and says so if it must. */
  async function counted(path: string, count: number): Promise<Record<string, unknown>> {
    for (let tries = 0; tries < 200; tries += 1) {
      const { body } = await get(path);
      if (body?.['count'] === count) return body;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`${path} never counted ${count}: ${JSON.stringify((await get(path)).body)}`);
  }

  test('readings older than LIVE_READING_SECONDS are stored and raise nothing', async () => {
    const [fleet = []] = await registerFleet(app.base, app.token, { name: 'late', zones: 1, perZone: 50 });
    const at = Date.now() - 61_000;
    await Promise.all(
      fleet.map((device) => post(app.base, app.apiKey, device.seal('e1', { readings: [{ at, value: 5 }] }))),
    );
    await counted('/v1/zones/late-0/statistics', 50);
    expect((await get('/v1/alerts?zone=late-0')).body?.['items']).toEqual([]);
  });

  test('the same id again is a replay with equal readings and a conflict with others', async () => {
    const device = createDevice('replayer');
    await postJson(
      `${app.base}/v1/devices`,
      { id: device.id, profile: 'seismic', publicKey: device.publicKeyPem },
      { token: app.token },
    );
    const readings = [{ at: Date.now(), value: 1 }];
    expect((await post(app.base, app.apiKey, device.seal('x', { readings }))).status).toBe(202);
    const again = await post(app.base, app.apiKey, device.seal('x', { readings, at: Date.now() + 5 }));
    expect(again).toMatchObject({ status: 409, body: { code: 'replay', type: 'urn:tocsin:error:replay' } });
    const other = await post(app.base, app.apiKey, device.seal('x', { readings: [{ at: Date.now(), value: 2 }] }));
    expect(other).toMatchObject({ status: 409, body: { code: 'id-conflict' } });
    await counted('/v1/devices/replayer/statistics', 1);
  });

  test('a revoked device is not heard from the very next envelope on', async () => {
    const device = createDevice('leaver');
    await postJson(
      `${app.base}/v1/devices`,
      { id: device.id, profile: 'seismic', publicKey: device.publicKeyPem },
      { token: app.token },
    );
    const send = (id: string): Promise<Answer> =>
      post(app.base, app.apiKey, device.seal(id, { readings: [{ at: Date.now(), value: 1 }] }));
    expect((await send('a')).status).toBe(202);
    const gone = await call(`${app.base}/v1/devices/leaver`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${app.token}` },
    });
    expect(gone.status).toBe(204);
    expect(await send('b')).toMatchObject({ status: 403, body: { code: 'device-revoked' } });
  });

  test('the original client runs unmodified: zones, sensors, measurements, alarm, statistics, health', async () => {
    const { apiKey } = app;
    const zone = await postJson(`${app.base}/zones/`, { city: 'L’Aquila' }, { apiKey });
    expect(zone.status).toBe(201);
    expect(await postJson(`${app.base}/zones/`, { city: 'L’Aquila' }, { apiKey })).toMatchObject({ body: zone.body });
    const zoneId = Number(zone.body?.['id']);
    const sensors = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
        const body = {
          active: true,
          zone_id: zoneId,
          latitude: 42.35,
          longitude: 13.4 + i / 1000,
          public_key_hex: publicKey.export({ type: 'spki', format: 'der' }).toString('hex'),
        };
        const made = await postJson(`${app.base}/misurators/`, body, { apiKey });
        expect(made).toMatchObject({ status: 201, body: { active: true, zone_id: zoneId } });
        return { id: Number(made.body?.['id']), privateKey };
      }),
    );
    const viewer = await watch(`?zone=z${zoneId}`);
    const now = Math.floor(Date.now() / 1000);
    const measure = ({ id, privateKey }: (typeof sensors)[number], value: number): Promise<Answer> => {
      const signature = sign('sha256', Buffer.from(`${value}:${now}`), privateKey).toString('hex');
      return postJson(
        `${app.base}/misurations/`,
        { value, misurator_id: id, device_timestamp: now, signature_hex: signature },
        { apiKey },
      );
    };
    const answers = await Promise.all(sensors.map((sensor) => measure(sensor, 42)));
    expect(answers.map((answer) => [answer.status, answer.body?.['status']])).toEqual(
      Array.from({ length: 50 }, () => [202, 'accepted']),
    );
    await viewer.until((message) => message.type === 'alert');
    const [first] = sensors;
    if (first === undefined) throw new Error('no sensors');
    expect((await measure(first, 42)).status).toBe(409);
    const forged = { value: 9, misurator_id: first.id, device_timestamp: now, signature_hex: '3006020101020101' };
    expect((await postJson(`${app.base}/misurations/`, forged, { apiKey })).status).toBe(401);
    const alerts = await call(`${app.base}/zones/${zoneId}/alerts?limit=5`, { headers: { 'x-api-key': apiKey } });
    expect(alerts.body).toMatchObject([{ zone_id: zoneId, severity: 3 }]);
    const statistics = await call(`${app.base}/sensors/${first.id}/statistics`, { headers: { 'x-api-key': apiKey } });
    expect(statistics.body).toMatchObject({
      misurator_id: first.id,
      total_readings: 1,
      average_value: 42,
      max_recorded: 42,
      min_recorded: 42,
    });
    expect((await call(`${app.base}/health`)).body).toMatchObject({ status: 'healthy' });
    await viewer.close();
  });

  test('a viewer that was away gets what it missed, in order, once', async () => {
    const viewer = await watch();
    const resume = viewer.resumePoint();
    viewer.cut();
    for (const headline of ['one', 'two', 'three']) {
      const drill = await postJson(`${app.base}/v1/alerts`, { severity: 'minor', headline }, { token: app.token });
      expect(drill).toMatchObject({ status: 201, body: { status: 'exercise' } });
    }
    const back = await connectViewer(`${app.base.replace('http', 'ws')}/ws/alerts`, { token: app.token, resume });
    expect(back.welcome).toMatchObject({ recovered: true });
    await back.until((message) => (message.data as { headline?: string } | undefined)?.headline === 'three');
    expect(back.channel().map((message) => (message.data as { headline: string }).headline)).toEqual([
      'one',
      'two',
      'three',
    ]);
    expect(back.faults).toEqual([]);
    await back.close();
  });

  test('metrics have the names of the contract', async () => {
    const text = await fetch(`${app.base}/metrics`).then((response) => response.text());
    for (const name of [
      'tocsin_accepted_total',
      'tocsin_rejected_total',
      'tocsin_alerts_total',
      'tocsin_websocket_connections',
      'tocsin_log_backlog',
    ]) {
      expect(text).toContain(`\n${name}{`);
    }
    expect(text).toMatch(/tocsin_accepted_total\{transport="http",profile="seismic"\} \d+/);
    expect(text).toMatch(/tocsin_rejected_total\{transport="http",reason="replay"\} 1/);
  });

  test('the description of the interface is there to read', async () => {
    const document = await call(`${app.base}/openapi.json`);
    expect(Object.keys(document.body?.['paths'] as object)).toEqual(
      expect.arrayContaining(['/v1/readings', '/v1/alerts', '/v1/auth/login', '/zones/']),
    );
    expect((await fetch(`${app.base}/docs`)).status).toBe(200);
  });

  test('three apps live in one process', async () => {
    const others = await Promise.all([startTestApp(), startTestApp()]);
    expect(new Set([app.base, ...others.map((other) => other.base)]).size).toBe(3);
    await Promise.all(others.map((other) => other.stop()));
    expect((await call(`${app.base}/health/ready`)).status).toBe(200);
  });
});
