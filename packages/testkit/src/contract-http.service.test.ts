/** The contract's section 2 over HTTP, sentence by sentence: refusals, which of them wins, rate limits. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, expectRefusal, openRaw, type Reply, type Sent } from './contract-client.suite.ts';
import { type Contract, envelope, fresh, jws, openContract, trigger } from './contract-system.suite.ts';
import { createDevice, type ScriptedDevice } from './device.ts';
import { startTestApp } from './test-app.ts';

let contract: Contract;
let app: Contract['app'];
let device: ScriptedDevice;
let { go, admin, send, register, sendJson } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, admin, send, register, sendJson } = contract);
  device = contract.device;
});
afterAll(() => app?.stop());

describe('2. every refusal is a problem of the table', () => {
  const everywhere: readonly (readonly [string, number, string, string, Sent])[] = [
    ['a path that is not there', 404, 'not-found', '/nothing', {}],
    ['a path under /v1 that is not there', 404, 'not-found', '/v1/nothing', {}],
    ['a method that the path does not know', 405, 'method-not-allowed', '/v1/readings', {}],
    ['a method that nobody knows', 405, 'method-not-allowed', '/v1/zones', { method: 'PROPFIND' }],
    ['no credentials', 401, 'credentials-missing', '/v1/zones', {}],
    ['a token that is none', 401, 'token-invalid', '/v1/zones', { token: 'x.y.z' }],
    ['another scheme', 401, 'token-invalid', '/v1/zones', { headers: { authorization: 'Basic YTpi' } }],
    ['an API key where a person must come', 401, 'credentials-missing', '/v1/zones', { key: 'x'.repeat(20) }],
    ['a path that cannot be decoded', 400, 'malformed-parameter', '/v1/zones/%ff', {}],
    [
      'an envelope without key',
      401,
      'api-key-missing',
      '/v1/readings',
      { method: 'POST', body: 'x', headers: { 'content-type': 'application/jose' } },
    ],
    [
      'an unknown key',
      401,
      'api-key-unknown',
      '/v1/readings',
      { method: 'POST', body: 'x', headers: { 'content-type': 'application/jose', 'x-api-key': 'k'.repeat(30) } },
    ],
    [
      'two keys',
      401,
      'api-key-unknown',
      '/v1/readings',
      { method: 'POST', body: 'x', headers: { 'content-type': 'application/jose', 'x-api-key': ['a', 'b'] } },
    ],
    ['statistics without credentials', 401, 'credentials-missing', '/statistics', {}],
    [
      'JSON that is none',
      400,
      'malformed-json',
      '/v1/auth/login',
      { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } },
    ],
    ['no JSON at all', 400, 'malformed-json', '/v1/auth/login', { method: 'POST' }],
    [
      'a form',
      415,
      'content-type',
      '/v1/auth/login',
      { method: 'POST', body: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    ],
  ];
  test.each(everywhere)('%s: %d %s', async (_name, status, code, path, sent) => {
    expectRefusal(await go(path, sent), status, code);
  });

  test('a 405 names the methods that there are', async () => {
    const reply = await go('/v1/zones', { method: 'PUT', token: app.token });
    expect(String(reply.headers['allow']).split(', ')).toEqual(expect.arrayContaining(['GET', 'POST']));
  });

  const raw: readonly (readonly [string, number, string])[] = [
    ['no HTTP at all', 400, 'hello\r\n\r\n'],
    ['HTTP/1.1 without Host', 400, 'GET /health/live HTTP/1.1\r\n\r\n'],
    [
      'two lengths that differ',
      400,
      'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    ],
    [
      'a length and chunks',
      400,
      'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a negative length', 400, 'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n'],
    [
      'a chunk without a size',
      400,
      'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    ],
    ['headers over 16 KiB', 431, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(17_000)}\r\n\r\n`],
    [
      'an expectation that nobody can meet',
      415,
      'POST /v1/readings HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\nContent-Length: 1\r\n\r\nx',
    ],
  ];
  test.each(raw)('raw: %s: %d', async (_name, status, text) => {
    const socket = await openRaw(app.base);
    socket.write(text);
    const [reply] = await socket.answers(1);
    expect(reply?.status).toBe(status);
    if (reply !== undefined) expectRefusal(reply, status);
    socket.socket.destroy();
  });

  test('an asterisk, a proxy’s form of the path and CONNECT do no harm', async () => {
    for (const line of [
      'OPTIONS * HTTP/1.1',
      `GET ${app.base}/health/live HTTP/1.1`,
      'CONNECT a:1 HTTP/1.1',
      'GET /health/live HTTP/1.0',
    ]) {
      const socket = await openRaw(app.base);
      socket.write(`${line}\r\nHost: a\r\nConnection: close\r\n\r\n`);
      await socket.closed;
      expect(socket.received()).not.toMatch(/^HTTP\/1.1 5/);
    }
    expect((await go('/health/live')).status).toBe(200);
  });

  test('at most 20 errors, however many there are', async () => {
    const readings = Array.from({ length: 400 }, () => ({ at: 'x', value: 'y', other: 1 }));
    const reply = await sendJson(envelope({ readings }));
    expectRefusal(reply, 422, 'schema');
    expect(reply.json.errors).toHaveLength(20);
    expect(reply.json.errors[0].pointer).toMatch(/^\/readings\/0\//);
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`k${i}`, i]));
    expectRefusal(await sendJson({ ...envelope(), ...many }), 422, 'schema');
    expectRefusal(await admin('POST', '/v1/zones', { id: 'many', name: 'x', ...many }), 422, 'schema');
  });
});

describe('2. which refusal wins for an envelope', () => {
  test('415 wins over a body that is too large, a missing key and everything else', async () => {
    for (const type of ['text/plain', 'application/json', 'application/jose+json', 'application/joses', '']) {
      const headers: Record<string, string> = type === '' ? {} : { 'content-type': type };
      expectRefusal(
        await go('/v1/readings', { method: 'POST', body: 'x'.repeat(300_000), headers }),
        415,
        'content-type',
      );
      expectRefusal(await go('/v1/readings', { method: 'POST', body: 'x', headers }), 415, 'content-type');
    }
    expectRefusal(await go('/v1/readings', { method: 'POST' }), 415, 'content-type');
  });
  test('a content type may have parameters and capitals', async () => {
    const body = device.seal(fresh('type'), { readings: [trigger()] });
    expect((await send(body, { headers: { 'content-type': 'Application/JOSE; charset=utf-8' } })).status).toBe(202);
  });
  test('413 wins over a missing key, with a length and without', async () => {
    const headers = { 'content-type': 'application/jose' };
    expectRefusal(
      await go('/v1/readings', { method: 'POST', body: 'x'.repeat(262_145), headers }),
      413,
      'body-too-large',
    );
    const chunks = Array.from({ length: 5 }, () => 'x'.repeat(60_000));
    expectRefusal(await go('/v1/readings', { method: 'POST', chunks, headers }), 413, 'body-too-large');
    expectRefusal(
      await go('/v1/auth/login', { method: 'POST', body: { email: 'x'.repeat(300_000) } }),
      413,
      'body-too-large',
    );
    expectRefusal(
      await go('/misurations/', { method: 'POST', body: { value: 'x'.repeat(300_000) } }),
      413,
      'body-too-large',
    );
  });
  test('a body of exactly 256 KiB is not too large', async () => {
    expectRefusal(
      await go('/v1/readings', {
        method: 'POST',
        body: 'x'.repeat(262_144),
        headers: { 'content-type': 'application/jose' },
      }),
      401,
    );
    expectRefusal(await send('x'.repeat(262_144)), 400, 'malformed-jws');
  });
  test('401 of the key wins over what the body is', async () => {
    expectRefusal(await send('garbage', { headers: { 'x-api-key': 'unknown-key-0000000' } }), 401, 'api-key-unknown');
    expectRefusal(await send(device.seal('x', { readings: [] }), { headers: { 'x-api-key': '' } }), 401);
  });
  test('a key without the scope is 403 whatever the body is', async () => {
    for (const scopes of [['read'], ['register', 'read']]) {
      expectRefusal(
        await send('garbage', { headers: { 'x-api-key': await contract.makeKey(scopes) } }),
        403,
        'scope-insufficient',
      );
    }
  });
  test('400 wins over an unknown device, 403 of the device over its signature, 401 of the signature over the schema', async () => {
    const stranger = createDevice('stranger');
    expectRefusal(await send(`${stranger.seal('x', { readings: [] })}.more`), 400, 'malformed-jws');
    expectRefusal(await send(stranger.seal('x', { readings: [] })), 403, 'device-unknown');
    const forger = jws(stranger.privateKey, { alg: 'ES256', kid: device.id }, '{"what":1}');
    expectRefusal(await send(forger), 401, 'signature-invalid');
  });
  test('422 wins over a stale time, 403 of the time over a replay', async () => {
    const at = Date.now() - 31_000;
    expectRefusal(await sendJson(envelope({ at, readings: [] })), 422, 'schema');
    const first = envelope();
    expect((await sendJson(first)).status).toBe(202);
    expectRefusal(await sendJson({ ...first, at }), 403, 'envelope-stale');
    expectRefusal(await sendJson({ ...first, at: Date.now() + 35_000 }), 403, 'envelope-future');
    expectRefusal(await sendJson(first), 409, 'replay');
    expectRefusal(await sendJson({ ...first, readings: [trigger(2)] }), 409, 'id-conflict');
  });
  test('device standings: inactive, quarantined and revoked are 403, blocked is 423, all before the signature', async () => {
    const one = await register(fresh('standing'));
    const forged = jws(device.privateKey, { alg: 'ES256', kid: one.id }, '{}');
    for (const [standing, status, code] of [
      ['inactive', 403, 'device-inactive'],
      ['quarantined', 403, 'device-quarantined'],
      ['blocked', 423, 'device-blocked'],
    ] as const) {
      expect((await admin('PATCH', `/v1/devices/${one.id}`, { standing })).json).toMatchObject({ standing });
      expectRefusal(await send(forged), status, code);
    }
    expect((await admin('PATCH', `/v1/devices/${one.id}`, { standing: 'active' })).status).toBe(200);
    expect((await send(one.seal('a', { readings: [trigger()] }))).status).toBe(202);
    expect((await admin('DELETE', `/v1/devices/${one.id}`)).status).toBe(204);
    expectRefusal(await send(forged), 403, 'device-revoked');
  });
});

describe('2. rate limits', () => {
  test('429 comes before the form of the JWS and after the key, and says when to come back', async () => {
    const small = await startTestApp({ RATE_LIMIT_PER_KEY: '0.5', RATE_LIMIT_BURST: '2' });
    try {
      const post = (key: string): Promise<Reply> =>
        ask(`${small.base}/v1/readings`, {
          method: 'POST',
          body: 'garbage',
          headers: { 'content-type': 'application/jose', 'x-api-key': key },
        });
      expectRefusal(await post(small.apiKey), 400, 'malformed-jws');
      expectRefusal(await post(small.apiKey), 400, 'malformed-jws');
      const limited = await post(small.apiKey);
      expectRefusal(limited, 429, 'rate-limited');
      expect(limited.headers['ratelimit-policy']).toMatch(/;q=2;w=4$/);
      expect(Number(limited.headers['retry-after'])).toBeLessThanOrEqual(2);
      expectRefusal(await post('unknown-key-0000000'), 401, 'api-key-unknown');
      expectRefusal(
        await ask(`${small.base}/misurations/`, { method: 'POST', body: {}, key: small.apiKey }),
        429,
        'rate-limited',
      );
      expect((await ask(`${small.base}/statistics`, { key: small.apiKey })).status).toBe(200);
    } finally {
      await small.stop();
    }
  });
  test('a device has its own bucket, whoever sends', async () => {
    const small = await startTestApp({ RATE_LIMIT_PER_DEVICE: '0.5' });
    try {
      const one = createDevice('one');
      const post = (): Promise<Reply> =>
        ask(`${small.base}/v1/readings`, {
          method: 'POST',
          body: one.seal('x', { readings: [] }),
          headers: { 'content-type': 'application/jose', 'x-api-key': small.apiKey },
        });
      expectRefusal(await post(), 403, 'device-unknown');
      expectRefusal(await post(), 429, 'rate-limited');
    } finally {
      await small.stop();
    }
  });
});
