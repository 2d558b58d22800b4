/** The contract's sections 2, 3 and 8 over HTTP, sentence by sentence, as an independent client would test them. */
import { createHmac, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, expectRefusal, openRaw, type Reply, type Sent } from './contract-client.ts';
import { type Contract, envelope, fresh, jws, openContract, trigger } from './contract-system.ts';
import { createDevice, type ScriptedDevice } from './device.ts';
import { startTestApp } from './test-app.ts';

let contract: Contract;
let app: Contract['app'];
let device: ScriptedDevice;
let { go, admin, send, register, sealed, sendJson, counted } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, admin, send, register, sealed, sendJson, counted } = contract);
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
    ['an envelope without key', 401, 'api-key-missing', '/v1/readings', { method: 'POST', body: 'x', headers: { 'content-type': 'application/jose' } }],
    ['an unknown key', 401, 'api-key-unknown', '/v1/readings', { method: 'POST', body: 'x', headers: { 'content-type': 'application/jose', 'x-api-key': 'k'.repeat(30) } }],
    ['two keys', 401, 'api-key-unknown', '/v1/readings', { method: 'POST', body: 'x', headers: { 'content-type': 'application/jose', 'x-api-key': ['a', 'b'] } }],
    ['statistics without credentials', 401, 'credentials-missing', '/statistics', {}],
    ['JSON that is none', 400, 'malformed-json', '/v1/auth/login', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } }],
    ['no JSON at all', 400, 'malformed-json', '/v1/auth/login', { method: 'POST' }],
    ['a form', 415, 'content-type', '/v1/auth/login', { method: 'POST', body: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
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
    ['two lengths that differ', 400, 'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    ['a length and chunks', 400, 'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a negative length', 400, 'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n'],
    ['a chunk without a size', 400, 'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
    ['headers over 16 KiB', 431, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(17_000)}\r\n\r\n`],
    ['an expectation that nobody can meet', 415, 'POST /v1/readings HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\nContent-Length: 1\r\n\r\nx'],
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
    for (const line of ['OPTIONS * HTTP/1.1', `GET ${app.base}/health/live HTTP/1.1`, 'CONNECT a:1 HTTP/1.1', 'GET /health/live HTTP/1.0']) {
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
      expectRefusal(await go('/v1/readings', { method: 'POST', body: 'x'.repeat(300_000), headers }), 415, 'content-type');
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
    expectRefusal(await go('/v1/readings', { method: 'POST', body: 'x'.repeat(262_145), headers }), 413, 'body-too-large');
    const chunks = Array.from({ length: 5 }, () => 'x'.repeat(60_000));
    expectRefusal(await go('/v1/readings', { method: 'POST', chunks, headers }), 413, 'body-too-large');
    expectRefusal(await go('/v1/auth/login', { method: 'POST', body: { email: 'x'.repeat(300_000) } }), 413, 'body-too-large');
    expectRefusal(await go('/misurations/', { method: 'POST', body: { value: 'x'.repeat(300_000) } }), 413, 'body-too-large');
  });
  test('a body of exactly 256 KiB is not too large', async () => {
    expectRefusal(await go('/v1/readings', { method: 'POST', body: 'x'.repeat(262_144), headers: { 'content-type': 'application/jose' } }), 401);
    expectRefusal(await send('x'.repeat(262_144)), 400, 'malformed-jws');
  });
  test('401 of the key wins over what the body is', async () => {
    expectRefusal(await send('garbage', { headers: { 'x-api-key': 'unknown-key-0000000' } }), 401, 'api-key-unknown');
    expectRefusal(await send(device.seal('x', { readings: [] }), { headers: { 'x-api-key': '' } }), 401);
  });
  test('a key without the scope is 403 whatever the body is', async () => {
    for (const scopes of [['read'], ['register', 'read']]) {
      expectRefusal(await send('garbage', { headers: { 'x-api-key': await contract.makeKey(scopes) } }), 403, 'scope-insufficient');
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
        ask(`${small.base}/v1/readings`, { method: 'POST', body: 'garbage', headers: { 'content-type': 'application/jose', 'x-api-key': key } });
      expectRefusal(await post(small.apiKey), 400, 'malformed-jws');
      expectRefusal(await post(small.apiKey), 400, 'malformed-jws');
      const limited = await post(small.apiKey);
      expectRefusal(limited, 429, 'rate-limited');
      expect(limited.headers['ratelimit-policy']).toMatch(/;q=2;w=4$/);
      expect(Number(limited.headers['retry-after'])).toBeLessThanOrEqual(2);
      expectRefusal(await post('unknown-key-0000000'), 401, 'api-key-unknown');
      expectRefusal(await ask(`${small.base}/misurations/`, { method: 'POST', body: {}, key: small.apiKey }), 429, 'rate-limited');
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
        ask(`${small.base}/v1/readings`, { method: 'POST', body: one.seal('x', { readings: [] }), headers: { 'content-type': 'application/jose', 'x-api-key': small.apiKey } });
      expectRefusal(await post(), 403, 'device-unknown');
      expectRefusal(await post(), 429, 'rate-limited');
    } finally {
      await small.stop();
    }
  });
});

describe('3. the envelope', () => {
  test('202 answers the id and how many were accepted', async () => {
    const reply = await sendJson(envelope({ id: 'A.b_c-9', readings: [trigger(), trigger(2), trigger(3)] }));
    expect(reply).toMatchObject({ status: 202, json: { id: 'A.b_c-9', accepted: 3 } });
    expect(Object.keys(reply.json)).toEqual(['id', 'accepted']);
    expect(reply.headers['content-type']).toMatch(/^application\/json/);
  });
  test('the header has exactly alg and kid, in any order', async () => {
    const payload = (): string => JSON.stringify(envelope());
    const key = device.privateKey;
    expect((await send(jws(key, '{"kid":"sensor","alg":"ES256"}', payload()))).status).toBe(202);
    expect((await send(jws(key, '{ "alg" : "ES256" , "kid" : "sensor" }', payload()))).status).toBe(202);
    for (const header of [
      { alg: 'ES256', kid: 'sensor', typ: 'JWT' },
      { alg: 'ES256' },
      { kid: 'sensor' },
      { alg: 'none', kid: 'sensor' },
      { alg: 'ES384', kid: 'sensor' },
      { alg: 'HS256', kid: 'sensor' },
      { alg: 'es256', kid: 'sensor' },
      { alg: 'ES256', kid: 5 },
      { alg: 'ES256', kid: 'a b' },
      { alg: 'ES256', kid: '' },
      { alg: 'ES256', kid: 'x'.repeat(65) },
      { alg: 'ES256', kid: 'sensor', crit: [] },
      { alg: 'ES256', kid: 'sensor', jwk: {} },
      '{"alg":"ES256","kid":"sensor","__proto__":{}}',
      '{"__proto__":{"alg":"ES256","kid":"sensor"}}',
      '\uFEFF{"alg":"ES256","kid":"sensor"}',
      '["ES256","sensor"]',
      'null',
      '"x"',
      '',
    ]) {
      expectRefusal(await send(jws(key, header, payload())), 400);
    }
  });
  test('the body is a compact JWS and nothing else', async () => {
    const good = sealed(JSON.stringify(envelope()));
    const [head = '', body = '', signature = ''] = good.split('.');
    const mac = createHmac('sha256', createPublicKey(device.privateKey).export({ type: 'spki', format: 'pem' })).update(`${head}.${body}`).digest('base64url');
    for (const text of ['', '.', '..', '...', `${head}.${body}`, `${head}.${body}.`, `${head}..${signature}`, ` ${good}`, `${good}\n`, `${good}.${signature}`, `${head}.${body}=.${signature}`, `${head}.${body}.${signature}==`, `${head}.${body.slice(0, -1)}+.${signature}`, `${head}.${body}.A`, `${head}.${body}.${'A'.repeat(200)}`, '{"payload":"","signatures":[]}', '\0']) {
      expectRefusal(await send(text), 400);
    }
    expectRefusal(await send(`${head}.${body}.${mac}`), 401, 'signature-invalid');
    expect((await send(good)).status).toBe(202);
  });
  test('a signature is r||s, else DER, and only by the registered key', async () => {
    const header = { alg: 'ES256', kid: device.id };
    expect((await send(jws(device.privateKey, header, JSON.stringify(envelope()), 'der'))).status).toBe(202);
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    expectRefusal(await send(jws(other, header, JSON.stringify(envelope()))), 401, 'signature-invalid');
    const [head = '', body = ''] = sealed(JSON.stringify(envelope())).split('.');
    for (const bytes of [Buffer.alloc(64), Buffer.alloc(64, 255), Buffer.alloc(63, 1), Buffer.alloc(72, 48), Buffer.from('3006020100020100', 'hex'), Buffer.from('3000', 'hex')]) {
      expectRefusal(await send(`${head}.${body}.${bytes.toString('base64url')}`), 401, 'signature-invalid');
    }
  });
  test('a payload that is not JSON is 400, one of another shape 422', async () => {
    for (const text of ['', '{', 'undefined', 'NaN', '\uFEFF{}', '{}{}', "{'a':1}", '{"a":1,}', '[1', '"\u0001"']) {
      expectRefusal(await sendJson(text), 400);
    }
    expectRefusal(await send(sealed(Buffer.from([0x22, 0xff, 0xfe, 0x22]))), 400);
    for (const value of ['null', '1', '"x"', '[]', '{}', 'true']) expectRefusal(await sendJson(value), 422, 'schema');
  });
  const broken: readonly (readonly [string, () => object])[] = [
    ['an unknown key', () => ({ more: 1 })],
    ['no id', () => ({ id: undefined })],
    ['an id that is a number', () => ({ id: 5 })],
    ['an empty id', () => ({ id: '' })],
    ['an id with a space', () => ({ id: 'a b' })],
    ['an id of 65 characters', () => ({ id: 'x'.repeat(65) })],
    ['an id with a line feed at its end', () => ({ id: 'x\n' })],
    ['no at', () => ({ at: undefined })],
    ['an at in text', () => ({ at: String(Date.now()) })],
    ['an at with a fraction', () => ({ at: Date.now() + 0.5 })],
    ['an at that is null', () => ({ at: null })],
    ['another profile', () => ({ profile: 'host' })],
    ['a profile that is none', () => ({ profile: 'constructor' })],
    ['no profile', () => ({ profile: undefined })],
    ['no readings', () => ({ readings: undefined })],
    ['an empty list of readings', () => ({ readings: [] })],
    ['501 readings', () => ({ readings: Array.from({ length: 501 }, () => trigger()) })],
    ['readings that are an object', () => ({ readings: { length: 1, 0: trigger() } })],
    ['a reading that is null', () => ({ readings: [null] })],
    ['a reading that is a list', () => ({ readings: [[1]] })],
    ['one bad reading among good ones', () => ({ readings: [trigger(), { at: Date.now() }, trigger()] })],
    ['an unknown key in a reading', () => ({ readings: [{ ...trigger(), z1: 1 }] })],
    ['a value in text', () => ({ readings: [{ at: Date.now(), value: '1' }] })],
    ['a value that is true', () => ({ readings: [{ at: Date.now(), value: true }] })],
    ['a value that is null', () => ({ readings: [{ at: Date.now(), value: null }] })],
    ['a reading 31 s ahead', () => ({ readings: [{ at: Date.now() + 33_000, value: 1 }] })],
    ['a reading over 7 days back', () => ({ readings: [{ at: Date.now() - 604_805_000, value: 1 }] })],
    ['a reading of 1970', () => ({ readings: [{ at: 0, value: 1 }] })],
    ['a reading without a time', () => ({ readings: [{ value: 1 }] })],
    ['a packet without rate', () => ({ readings: [{ at: Date.now(), x: [1], y: [1], z: [1] }] })],
    ['a packet without z', () => ({ readings: [{ at: Date.now(), rate: 100, x: [1], y: [1] }] })],
    ['a packet of unequal lengths', () => ({ readings: [{ at: Date.now(), rate: 100, x: [1], y: [1, 2], z: [1] }] })],
    ['a packet of 1001 samples', () => ({ readings: [{ at: Date.now(), rate: 100, x: Array(1001).fill(0), y: Array(1001).fill(0), z: Array(1001).fill(0) }] })],
    ['a packet without samples', () => ({ readings: [{ at: Date.now(), rate: 100, x: [], y: [], z: [] }] })],
    ['a packet with rate 0', () => ({ readings: [{ at: Date.now(), rate: 0, x: [1], y: [1], z: [1] }] })],
    ['a packet with a hole', () => ({ readings: [{ at: Date.now(), rate: 100, x: [1, null], y: [1, 2], z: [1, 2] }] })],
    ['a packet with a value', () => ({ readings: [{ at: Date.now(), value: 1, rate: 100, x: [1], y: [1], z: [1] }] })],
    ['a packet whose samples are text', () => ({ readings: [{ at: Date.now(), rate: 100, x: ['1'], y: [1], z: [1] }] })],
  ];
  test.each(broken)('422: %s', async (_name, more) => {
    const reply = await sendJson(envelope(more()));
    expectRefusal(reply, 422, 'schema');
    expect(reply.json.errors.length).toBeGreaterThan(0);
  });
  test('one bad reading refuses the whole envelope: nothing of it is stored and its id is free', async () => {
    const one = await register(fresh('whole'));
    expectRefusal(await sendJson({ ...envelope({ readings: [trigger(), { at: 1 }] }), id: 'again' }, one), 422, 'schema');
    expect((await sendJson({ ...envelope(), id: 'again' }, one)).status).toBe(202);
    await counted(`/v1/devices/${one.id}/statistics`, 1);
  });
  test('500 readings, 1000 samples and packets beside triggers are accepted', async () => {
    const one = await register(fresh('big'));
    const at = Date.now();
    expect(await sendJson(envelope({ readings: Array.from({ length: 500 }, (_, i) => ({ at: at - i, value: i })) }), one)).toMatchObject({ status: 202, json: { accepted: 500 } });
    const axis = Array.from({ length: 1000 }, (_, i) => i / 1000);
    const mixed = [{ at, rate: 100, x: axis, y: axis, z: axis.map((v) => -2 * v) }, { at, value: -3 }, { at, rate: 31.25, x: [1], y: [0], z: [0] }];
    expect(await sendJson(envelope({ readings: mixed }), one)).toMatchObject({ status: 202, json: { accepted: 3 } });
    const { json } = await counted(`/v1/devices/${one.id}/statistics`, 503);
    expect(json).toMatchObject({ min: -3, max: 499, lastAt: at, firstAt: at - 499 });
  });
  test('readings up to 30 s ahead and 7 days back are accepted', async () => {
    const now = Date.now();
    expect((await sendJson(envelope({ readings: [{ at: now + 29_000, value: 1 }, { at: now - 604_790_000, value: 1 }] }))).status).toBe(202);
  });
  test('the largest and smallest numbers do not break statistics', async () => {
    const one = await register(fresh('numbers'));
    const at = Date.now();
    const text = `{"id":"n","at":${at},"profile":"seismic","readings":[{"at":${at},"value":1.7e308},{"at":${at},"value":-1.7e308},{"at":${at},"value":5e-324},{"at":${at},"value":-0},{"at":${at},"value":1E3}]}`;
    expect((await sendJson(text, one)).status).toBe(202);
    await counted(`/v1/devices/${one.id}/statistics`, 5);
    expect((await go('/statistics', { token: app.token })).status).toBe(200);
    for (const value of ['1e309', '-1e400']) expectRefusal(await sendJson(text.replace('1.7e308', value), one), 422, 'schema');
    for (const value of ['01', '+1', '.5', '0x10', 'Infinity']) expectRefusal(await sendJson(text.replace('1.7e308', value), one), 400);
  });
  test('the same content is the same whatever the order of keys, the spelling of numbers and the time of signing', async () => {
    const one = await register(fresh('same'));
    const at = Date.now();
    const text = (signedAt: number, reading: string): string => `{"profile":"seismic","id":"s","at":${signedAt},"readings":[${reading}]}`;
    expect((await sendJson(text(at, `{"at":${at},"value":10}`), one)).status).toBe(202);
    for (const same of [`{"value":10,"at":${at}}`, `{"at":${at},"value":1e1}`, `{"at":${at},"value":10.0}`, `{"at":${at},"value":9,"value":10}`]) {
      expectRefusal(await sendJson(text(at + 1, same), one), 409, 'replay');
    }
    expectRefusal(await sendJson(text(at, `{"at":${at + 1},"value":10}`), one), 409, 'id-conflict');
    expectRefusal(await sendJson(text(at, `{"at":${at},"value":10},{"at":${at},"value":10}`), one), 409, 'id-conflict');
    await counted(`/v1/devices/${one.id}/statistics`, 1);
  });
  test('an id is unique for its device only', async () => {
    const [one, two] = [await register(fresh('own')), await register(fresh('own'))];
    const same = envelope({ id: 'shared' });
    expect((await sendJson(same, one)).status).toBe(202);
    expect((await sendJson(same, two)).status).toBe(202);
  });
  test('of twenty equal envelopes in flight at once one is accepted and the others are replays', async () => {
    const one = await register(fresh('flight'));
    const same = JSON.stringify(envelope());
    const replies = await Promise.all(Array.from({ length: 20 }, () => sendJson(same, one)));
    expect(replies.map(({ status }) => status).sort()).toEqual([202, ...Array(19).fill(409)]);
    await counted(`/v1/devices/${one.id}/statistics`, 1);
  });
  test('deep nesting and __proto__ are refused like any other schema', async () => {
    const deep = '['.repeat(90_000) + ']'.repeat(90_000);
    expectRefusal(await sendJson(deep), 422, 'schema');
    expectRefusal(await sendJson(`{"id":"d","at":1,"profile":"seismic","readings":${deep}}`), 422, 'schema');
    expectRefusal(await sendJson(`{"__proto__":{"id":"p"},${JSON.stringify(envelope()).slice(1)}`), 422, 'schema');
    expectRefusal(await sendJson(envelope({ readings: [JSON.parse(`{"__proto__":1,"at":${Date.now()},"value":1}`)] })), 422, 'schema');
  });
  test('chunked bodies and an answer to Expect: 100-continue', async () => {
    const body = sealed(JSON.stringify(envelope()));
    const headers = { 'content-type': 'application/jose', 'x-api-key': app.apiKey };
    expect((await go('/v1/readings', { method: 'POST', chunks: [...body].map(String), headers })).status).toBe(202);
    const socket = await openRaw(app.base);
    const next = sealed(JSON.stringify(envelope()));
    socket.write(`POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\nX-API-Key: ${app.apiKey}\r\nContent-Length: ${next.length}\r\nExpect: 100-continue\r\n\r\n`);
    socket.write(next);
    expect((await socket.answers(1))[0]?.status).toBe(202);
    expect(socket.received()).toMatch(/^HTTP\/1.1 100 /);
    socket.socket.destroy();
  });
  test('host and mobile devices send their own readings', async () => {
    const host = await register(fresh('host'), 'host');
    const at = Date.now();
    const frame = { at, cpu_percent: 12.5, mem_percent: 0, disk_percent: 100 };
    const sendHost = (reading: object): Promise<Reply> => sendJson(envelope({ profile: 'host', readings: [reading] }), host);
    expect((await sendHost(frame)).status).toBe(202);
    expect((await sendHost({ ...frame, gpu_percent: null, agent_cpu_percent: 1000, agent_mem_mb: 0 })).status).toBe(202);
    for (const bad of [{ cpu_percent: 101 }, { cpu_percent: -1 }, { cpu_percent: true }, { cpu_percent: '5' }, { mem_percent: null }, { gpu_percent: 101 }, { agent_cpu_percent: 1001 }, { agent_mem_mb: -1 }, { device_id: host.id }, { timestamp: 5 }, { at: undefined }]) {
      expectRefusal(await sendHost({ ...frame, ...bad }), 422, 'schema');
    }
    await counted(`/v1/devices/${host.id}/statistics`, 2);
    expect((await go(`/v1/devices/${host.id}/statistics?field=disk_percent`, { token: app.token })).json).toMatchObject({ count: 2, mean: 100 });
    expect((await go(`/v1/devices/${host.id}/statistics?field=gpu_percent`, { token: app.token })).json).toMatchObject({ count: 0, mean: null });

    const phone = await register(fresh('phone'), 'mobile');
    const beat = { accelerometer: [0, 0, 9.8], gyroscope: [0, 0, 0], overlay: 0, proximity: 5 };
    const sendPhone = (reading: object): Promise<Reply> => sendJson(envelope({ profile: 'mobile', readings: [reading] }), phone);
    expect((await sendPhone(beat)).status).toBe(202);
    expect((await sendPhone({ ...beat, at, touch_event: true, motion_delta: 0.1, device_admin_enabled: false, accessibility_enabled: true, platform: 'ios' })).status).toBe(202);
    for (const bad of [{ accelerometer: [0, 0] }, { gyroscope: [0, 0, 0, 0] }, { platform: 'windows' }, { touch_event: 1 }, { overlay: undefined }, { proximity: undefined }, { other: 1 }]) {
      expectRefusal(await sendPhone({ ...beat, ...bad }), 422, 'schema');
    }
  });
});
