/** The contract's sections 5 (alerts), 6 (people) and 7, sentence by sentence, as an independent client sees them. */
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Person, handshakeText, newPerson, sendRaw, shake, signatureChecks, signInAs } from './contract-viewer.ts';
import { type Answer, call, postJson } from './device.ts';
import { registerFleet } from './fleet.ts';
import { startTestApp, type TestApp } from './test-app.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer, type ViewerOptions } from './viewer.ts';

const WELCOME = [
  'type',
  'connection',
  'channel',
  'epoch',
  'offset',
  'recovered',
  'heartbeatSeconds',
  'watermarkSeconds',
  'reauthenticateBy',
];
const ALERT = [
  ...[
    'id',
    'kind',
    'severity',
    'status',
    'state',
    'revision',
    'offset',
    'headline',
    'description',
    'zoneId',
    'deviceId',
  ],
  ...['latitude', 'longitude', 'onset', 'sentAt', 'updatedAt', 'fingerprint', 'evidence', 'signature'],
];

const PUBLIC_URL = 'https://contract.example';

/** What a person may do with one app. */
function clientOf(app: () => TestApp) {
  const url = (query: string): string => `${app().base.replace('http', 'ws')}/ws/alerts${query}`;
  return {
    person: (role?: string): Promise<Person> => newPerson(app().base, app().token, role),
    watch: (token: string, query = '', more: ViewerOptions = {}): Promise<ScriptedViewer> =>
      connectViewer(url(query), { token, ...more }),
    open: (query: string, more: ViewerOptions = {}): Promise<ScriptedViewer> => connectViewer(url(query), more),
    refused: async (token: string | null, query = '', more: ViewerOptions = {}): Promise<HandshakeRefused> => {
      try {
        const viewer = await connectViewer(url(query), { ...(token === null ? {} : { token }), ...more });
        viewer.cut();
      } catch (error) {
        if (error instanceof HandshakeRefused) return error;
        throw error;
      }
      throw new Error('the handshake was not refused');
    },
    drill: async (headline: string, more: object = {}): Promise<Record<string, unknown>> => {
      const answer = await postJson(
        `${app().base}/v1/alerts`,
        { severity: 'minor', headline, ...more },
        { token: app().token },
      );
      expect(answer.status).toBe(201);
      return answer.body ?? {};
    },
    get: (path: string, token: string, headers: Record<string, string> = {}): Promise<Answer> =>
      call(app().base + path, { headers: { authorization: `Bearer ${token}`, ...headers } }),
    logout: (token: string): Promise<Answer> =>
      call(`${app().base}/v1/auth/logout`, { method: 'POST', headers: { authorization: `Bearer ${token}` } }),
  };
}

/** Commits messages as another process would whose bus is dead: nobody is told of them. */
async function commitSilently(db: Database, count: number, bodyBytes: number): Promise<void> {
  await db.execute(
    `WITH head AS (UPDATE channels SET head = head + $1 WHERE channel = 'alerts' RETURNING head - $1 AS before)
     INSERT INTO channel_messages (channel, "offset", type, zone_id, severity, created_at, body)
     SELECT 'alerts', before + n, 'alert', NULL, 1, $3, '{"silent":"' || repeat('x', $2::int) || '"}'
     FROM head, generate_series(1, $1::bigint) AS n`,
    [count, bodyBytes, Date.now()],
  );
}

const headlines = (viewer: ScriptedViewer): unknown[] =>
  viewer.channel().map((message) => (message.data as { headline?: unknown }).headline);
const isAlert = (message: { readonly type: string }): boolean => message.type === 'alert';

describe('viewers of alerts', () => {
  let app: TestApp;
  let db: Database;
  const { person, watch, refused, drill, get, open, logout } = clientOf(() => app);
  beforeAll(async () => {
    app = await startTestApp({ PUBLIC_URL, WS_WATERMARK_SECONDS: '1', WS_HEARTBEAT_SECONDS: '1', SWARM_SENSORS: '3' });
    db = openDatabase(app.databaseUrl);
  });
  afterAll(async () => {
    await db?.close();
    await app?.stop();
  });

  test('are welcomed with exactly the members of the contract, at the head', async () => {
    const { offset } = await drill('before');
    const viewer = await watch((await person()).token);
    expect(Object.keys(viewer.welcome).sort()).toEqual([...WELCOME].sort());
    expect(viewer.welcome).toMatchObject({
      type: 'welcome',
      channel: 'alerts',
      recovered: true,
      heartbeatSeconds: 1,
      watermarkSeconds: 1,
    });
    expect(viewer.welcome.offset).toBeGreaterThanOrEqual(Number(offset));
    expect(Number(viewer.welcome['reauthenticateBy'])).toBeGreaterThan(Date.now());
    await viewer.close();
  });

  test('get an alarm with exactly its members, signed anew with every revision; lists and CAP say the same', async () => {
    const [fleet = []] = await registerFleet(app.base, app.token, { name: 'c', zones: 1, perZone: 3 });
    const viewer = await watch((await person()).token);
    const at = Date.now();
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    for (const device of fleet) {
      const headers = {
        'content-type': 'application/jose',
        'x-api-key': app.apiKey,
        traceparent: `00-${trace}-00f067aa0ba902b7-01`,
      };
      const body = device.seal('e', { readings: [{ at, value: 5 }] });
      const answer = await call(`${app.base}/v1/readings`, { method: 'POST', headers, body });
      expect(answer.status).toBe(202);
    }
    const message = await viewer.until(isAlert);
    expect(Object.keys(message).sort()).toEqual(['data', 'offset', 'type']);
    const alert = message.data as Record<string, unknown>;
    expect(Object.keys(alert).sort()).toEqual([...ALERT].sort());
    expect(alert['offset']).toBe(message.offset);
    expect(alert['id']).toMatch(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
    expect(alert['onset']).toBe(at);
    expect(JSON.stringify(alert['evidence'])).toContain(trace);
    expect(await signatureChecks(app.base, alert)).toBe(true);
    expect(await signatureChecks(app.base, { ...alert, severity: 'minor' })).toBe(false);
    await postJson(`${app.base}/v1/alerts/${String(alert['id'])}/acknowledge`, {}, { token: app.token });
    const update = await viewer.until(({ type }) => type === 'alert-update');
    expect(update.data).toMatchObject({ id: alert['id'], state: 'acknowledged', revision: 2, offset: update.offset });
    expect(await signatureChecks(app.base, update.data as Record<string, unknown>)).toBe(true);
    expect((await get(`/v1/alerts/${String(alert['id'])}`, app.token)).body).toEqual(update.data);
    const cap = await fetch(`${app.base}/v1/alerts/${String(alert['id'])}`, {
      headers: { authorization: `Bearer ${app.token}`, accept: 'application/cap+xml' },
    });
    const xml = await cap.text();
    expect(xml).toContain('<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">');
    const order = [
      'identifier',
      'sender',
      'sent',
      'status',
      'msgType',
      'scope',
      'references',
      'info',
      'category',
      'event',
      'urgency',
      'severity',
      'certainty',
      'area',
      'areaDesc',
    ];
    const places = order.map((name) => xml.indexOf(`<${name}>`));
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(Math.min(...places)).toBeGreaterThan(0);
    expect(viewer.faults).toEqual([]);
    await viewer.close();
  });

  test('with a filter see offsets skip while the watermark goes on to the head', async () => {
    const viewer = await watch((await person()).token, '?zone=elsewhere&minSeverity=extreme');
    const { offset } = await drill('not for you');
    const mark = await viewer.until(
      (message) => message.type === 'watermark' && Number(message.offset) >= Number(offset),
    );
    expect(Object.keys(mark).sort()).toEqual(['at', 'offset', 'type']);
    expect(viewer.channel()).toEqual([]);
    await viewer.close();
  });

  test('resume over everything missed, in order, once; whatever cannot be resumed says so and starts at the head', async () => {
    const { token } = await person();
    const first = await watch(token);
    const resume = first.resumePoint();
    first.cut();
    for (const headline of ['r1', 'r2', 'r3']) await drill(headline);
    const back = await watch(token, '', { resume });
    expect(back.welcome).toMatchObject({ recovered: true, epoch: resume.epoch });
    await back.until((message) => (message.data as { headline?: string } | undefined)?.headline === 'r3');
    expect(headlines(back)).toEqual(['r1', 'r2', 'r3']);
    const head = back.offset();
    back.cut();
    const { token: other } = await person();
    for (const [epoch, offset] of [
      ['another', head],
      [resume.epoch, head + 1],
      [resume.epoch, '9223372036854775807'],
    ] as const) {
      const viewer = await watch(other, `?epoch=${epoch}&offset=${offset}`);
      expect(viewer.welcome).toMatchObject({ recovered: false, offset: head, epoch: resume.epoch });
      expect(viewer.channel()).toEqual([]);
      viewer.cut();
    }
    for (const bad of [
      '?offset=1',
      '?epoch=x',
      '?epoch=x&offset=-1',
      '?epoch=x&offset=a',
      '?zone=%20',
      '?minSeverity=bad',
    ]) {
      expect((await refused(token, bad)).status).toBe(400);
    }
  });

  test('hear within a second or so of what the bus has lost, and resume over 10,000 messages, not one more', async () => {
    const viewer = await watch((await person()).token);
    const before = viewer.offset();
    await commitSilently(db, 1, 10);
    await viewer.until((message) => message.offset === before + 1 && isAlert(message), 3000);
    await commitSilently(db, 10_000, 10);
    await viewer.until((message) => message.offset === before + 10_001, 20_000);
    expect(viewer.channel()).toHaveLength(10_001);
    const { token } = await person();
    const epoch = String(viewer.welcome['epoch']);
    const most = await watch(token, '', { resume: { epoch, offset: before + 1 } });
    expect(most.welcome['recovered']).toBe(true);
    await most.until((message) => message.offset === before + 10_001 && isAlert(message), 20_000);
    expect(most.channel().map((message) => message.offset)).toEqual(
      Array.from({ length: 10_000 }, (_, i) => before + 2 + i),
    );
    const over = await watch(token, '', { resume: { epoch, offset: before } });
    expect(over.welcome).toMatchObject({ recovered: false, offset: before + 10_001 });
    expect([...viewer.faults, ...most.faults, ...over.faults]).toEqual([]);
    for (const each of [viewer, over]) each.cut();
  });

  test('who do not drain are closed with 4008, and lose nothing by it', async () => {
    const { token } = await person();
    const viewer = await watch(token);
    const start = viewer.offset();
    viewer.socket.pause();
    await commitSilently(db, 6000, 4000);
    const head = start + 6000;
    const other = await watch((await person()).token, `?epoch=${String(viewer.welcome['epoch'])}&offset=${head - 1}`);
    await other.until((message) => message.offset === head && isAlert(message), 30_000);
    viewer.socket.resume();
    expect((await viewer.closed).code).toBe(4008);
    const seen = [...viewer.channel()];
    let last = viewer;
    // Whoever is slow may be cut more than once; none of these connects counts.
    while (last.offset() < head) {
      last = await watch(token, '', { resume: last.resumePoint() });
      expect(last.welcome['recovered']).toBe(true);
      await Promise.race([last.until((message) => message.offset === head && isAlert(message), 30_000), last.closed]);
      seen.push(...last.channel());
    }
    expect(seen.map((message) => message.offset)).toEqual(Array.from({ length: 6000 }, (_, i) => start + 1 + i));
    for (const each of [last, other]) each.cut();
  });

  test('come in by each carrier, and the first one present decides', async () => {
    const { token, email, password } = await person();
    const [a, b] = [await person(), await person()];
    const own = await shake(app.base, '/ws/alerts', { 'Sec-WebSocket-Protocol': `tocsin.v1, bearer.${token}` });
    expect([own.status, own.headers['sec-websocket-protocol']]).toEqual([101, 'tocsin.v1']);
    const old = await shake(app.base, '/ws/alerts', { 'Sec-WebSocket-Protocol': `bearer, ${token}` });
    expect([old.status, old.headers['sec-websocket-protocol']]).toEqual([101, 'bearer']);
    const wrong = { 'Sec-WebSocket-Protocol': 'tocsin.v1, bearer.wrong', Authorization: `Bearer ${token}` };
    expect((await shake(app.base, '/ws/alerts', wrong)).status).toBe(401);
    expect((await shake(app.base, '/ws/alerts', { Authorization: `Bearer ${a.token}` })).status).toBe(101);
    expect((await shake(app.base, '/ws/alerts')).status).toBe(401);
    expect((await shake(app.base, `/ws/alerts?token=${token}`)).status).toBe(401);

    const cookie = (await signInAs(app.base, { email, password }, { session: 'cookie' })).cookie;
    expect(cookie).toMatch(/^tocsin_session=[^;]+;.*HttpOnly.*SameSite=Strict.*Secure/);
    const Cookie = cookie.split(';')[0];
    expect([401, 403]).toContain((await shake(app.base, '/ws/alerts', { Cookie })).status);
    expect((await shake(app.base, '/ws/alerts', { Cookie, Origin: 'https://evil.example' })).status).toBe(403);
    expect((await shake(app.base, '/ws/alerts', { Cookie, Origin: PUBLIC_URL })).status).toBe(101);
    expect(
      (await shake(app.base, '/ws/alerts', { Authorization: `Bearer ${a.token}`, Origin: PUBLIC_URL })).status,
    ).toBe(101);

    const { body } = await postJson(`${app.base}/v1/auth/ticket`, {}, { token: b.token });
    expect(body).toEqual({ ticket: expect.stringMatching(/^[\w-]{20,}$/), expires_in: 30 });
    const ticket = String(body?.['ticket']);
    const first = await open(`?ticket=${ticket}`);
    expect((await refused(null, `?ticket=${ticket}`)).status).toBe(401);
    const replacing = await watch(b.token);
    expect((await first.closed).code).toBe(4001);
    await replacing.close();
  });

  test('are refused before the upgrade with a problem document, never with an open socket', async () => {
    const { token } = await person();
    const Authorization = `Bearer ${token}`;
    const cases: [number, string, Record<string, string | undefined>][] = [
      [404, '/ws/other', { Authorization }],
      [401, '/ws/alerts', { Authorization: 'Bearer x.y.z' }],
      [403, '/ws/alerts', { Authorization, Origin: 'https://evil.example' }],
      [403, '/ws/alerts', { Authorization, Origin: 'null' }],
      [426, '/ws/alerts', { Authorization, 'Sec-WebSocket-Version': '8' }],
      [400, '/ws/alerts', { Authorization, 'Sec-WebSocket-Key': 'short' }],
      [426, '/ws/alerts', { Authorization, Upgrade: undefined, Connection: undefined }],
    ];
    for (const [status, target, headers] of cases) {
      const answer = await shake(app.base, target, headers);
      expect([target, headers, answer.status]).toEqual([target, headers, status]);
      expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(JSON.parse(answer.body)).toMatchObject({ type: expect.stringMatching(/^urn:tocsin:error:/), status });
    }
  });

  test('may connect five times in a minute; the sixth is 429 with Retry-After', async () => {
    const { token } = await person();
    for (let i = 0; i < 5; i += 1) await (await watch(token)).close();
    const sixth = await refused(token);
    expect([sixth.status, JSON.parse(sixth.body)]).toMatchObject([429, { code: 'rate-limited' }]);
    expect(Number(sixth.headers['retry-after'])).toBeGreaterThan(0);
    expect(sixth.headers['ratelimit-policy']).toContain('q=5;w=60');
  });

  test('are replaced by their newest connection, with 4001, and only for the same user', async () => {
    const [one, two] = [await person(), await person()];
    const other = await watch(two.token);
    const older = await watch(one.token);
    const newer = await watch(one.token);
    expect((await older.closed).code).toBe(4001);
    other.send({ type: 'ping' });
    newer.send({ type: 'ping' });
    await Promise.all([other.until(({ type }) => type === 'pong'), newer.until(({ type }) => type === 'pong')]);
    await Promise.all([other.close(), newer.close()]);
  });

  test('send five messages in ten seconds; the next gets an error, the one after it 4029; the rest is not counted', async () => {
    const { token } = await person();
    const viewer = await watch(token);
    for (let i = 0; i < 40; i += 1) viewer.send({ type: 'received', offset: viewer.offset() });
    for (let i = 0; i < 8; i += 1) viewer.send({ type: 'authenticate', token });
    for (let i = 0; i < 5; i += 1) viewer.send({ type: 'ping' });
    const count = (type: string): number => viewer.messages.filter((message) => message.type === type).length;
    await viewer.until(() => count('pong') === 5 && count('authenticated') === 8);
    const answer = viewer.messages.find(({ type }) => type === 'authenticated');
    expect(Object.keys(answer ?? {}).sort()).toEqual(['reauthenticateBy', 'type']);
    viewer.send({ type: 'ping' });
    const error = await viewer.until(({ type }) => type === 'error');
    expect(error).toEqual({ type: 'error', code: 'rate-limited', detail: expect.any(String) });
    viewer.send({ type: 'ping' });
    expect((await viewer.closed).code).toBe(4029);
  });

  test('get an error for a message that is none, and 1008 for the second; 1009 for one that is too long', async () => {
    for (const message of [
      '{',
      '[]',
      '{"type":"x"}',
      '{"type":"ping","more":1}',
      '{"type":"authenticate"}',
      '{"type":"received","offset":-1}',
    ]) {
      const viewer = await watch((await person()).token);
      viewer.send(message);
      expect(await viewer.until(({ type }) => type === 'error')).toEqual({
        type: 'error',
        code: expect.any(String),
        detail: expect.any(String),
      });
      viewer.send(message);
      expect((await viewer.closed).code).toBe(1008);
    }
    const viewer = await watch((await person()).token);
    const ping = '{"type":"ping"}';
    viewer.send(ping.padEnd(10_240));
    await viewer.until(({ type }) => type === 'pong');
    viewer.send(ping.padEnd(10_241));
    expect((await viewer.closed).code).toBe(1009);
  });

  test('who authenticate as somebody else end with 1008, who log out with 4004', async () => {
    const [one, two] = [await person(), await person()];
    const thief = await watch(one.token);
    thief.send({ type: 'authenticate', token: two.token });
    expect((await thief.closed).code).toBe(1008);
    const leaver = await watch(two.token);
    expect((await logout(two.token)).status).toBe(204);
    expect((await leaver.closed).code).toBe(4004);
    expect((await refused(two.token)).status).toBe(401);
    expect((await get('/v1/auth/session', two.token)).status).toBe(401);
  });

  test.concurrent('who never answer a ping are pinged on, and cut ten seconds after the first', async () => {
    const silent = await watch((await person()).token, '', { client: { autoPong: false } });
    let pings = 0;
    silent.socket.on('ping', () => (pings += 1));
    const lively = await watch((await person()).token);
    await silent.closed;
    expect(pings).toBeGreaterThan(5);
    lively.send({ type: 'ping' });
    await lively.until(({ type }) => type === 'pong');
    await lively.close();
  });

  test('get a pong for each ping, with its bytes, even for one that came with the handshake', async () => {
    const { token } = await person();
    const viewer = await watch(token);
    const pong = new Promise<string>((resolve) => viewer.socket.once('pong', (data) => resolve(data.toString())));
    viewer.socket.ping('are you there');
    expect(await pong).toBe('are you there');
    // FIN and opcode 9, masked with zeros: two bytes of payload.
    const early = `\u0089\u0082\0\0\0\0hi`;
    const text = handshakeText('/ws/alerts', { Authorization: `Bearer ${token}` });
    const { socket, status } = await sendRaw(app.base, Buffer.from(text + early, 'latin1'));
    expect(status).toBe(101);
    for await (const chunk of socket) if ((chunk as Buffer).includes(Buffer.from('\u008a\u0002hi', 'latin1'))) break;
  });

  test.concurrent('whose handshake does not arrive are cut', async () => {
    const half = handshakeText('/ws/alerts').slice(0, 60);
    const answer = await sendRaw(app.base, half);
    expect(answer.status).toBe(408);
  });
});
