/** The contract's section 3 over HTTP: the envelope, its form, its content and what happens to it. */
import { createHmac, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal, openRaw, type Reply } from './contract-client.suite.ts';
import { type Contract, envelope, fresh, jws, openContract, trigger } from './contract-system.suite.ts';
import type { ScriptedDevice } from './device.ts';

let contract: Contract;
let app: Contract['app'];
let device: ScriptedDevice;
let { go, send, register, sealed, sendJson, counted } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, send, register, sealed, sendJson, counted } = contract);
  device = contract.device;
});
afterAll(() => app?.stop());

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
    const mac = createHmac('sha256', createPublicKey(device.privateKey).export({ type: 'spki', format: 'pem' }))
      .update(`${head}.${body}`)
      .digest('base64url');
    for (const text of [
      '',
      '.',
      '..',
      '...',
      `${head}.${body}`,
      `${head}.${body}.`,
      `${head}..${signature}`,
      ` ${good}`,
      `${good}\n`,
      `${good}.${signature}`,
      `${head}.${body}=.${signature}`,
      `${head}.${body}.${signature}==`,
      `${head}.${body.slice(0, -1)}+.${signature}`,
      `${head}.${body}.A`,
      `${head}.${body}.${'A'.repeat(200)}`,
      '{"payload":"","signatures":[]}',
      '\0',
    ]) {
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
    for (const bytes of [
      Buffer.alloc(64),
      Buffer.alloc(64, 255),
      Buffer.alloc(63, 1),
      Buffer.alloc(72, 48),
      Buffer.from('3006020100020100', 'hex'),
      Buffer.from('3000', 'hex'),
    ]) {
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
    [
      'a packet of 1001 samples',
      () => ({
        readings: [
          { at: Date.now(), rate: 100, x: Array(1001).fill(0), y: Array(1001).fill(0), z: Array(1001).fill(0) },
        ],
      }),
    ],
    ['a packet without samples', () => ({ readings: [{ at: Date.now(), rate: 100, x: [], y: [], z: [] }] })],
    ['a packet with rate 0', () => ({ readings: [{ at: Date.now(), rate: 0, x: [1], y: [1], z: [1] }] })],
    ['a packet with a hole', () => ({ readings: [{ at: Date.now(), rate: 100, x: [1, null], y: [1, 2], z: [1, 2] }] })],
    ['a packet with a value', () => ({ readings: [{ at: Date.now(), value: 1, rate: 100, x: [1], y: [1], z: [1] }] })],
    [
      'a packet whose samples are text',
      () => ({ readings: [{ at: Date.now(), rate: 100, x: ['1'], y: [1], z: [1] }] }),
    ],
  ];
  test.each(broken)('422: %s', async (_name, more) => {
    const reply = await sendJson(envelope(more()));
    expectRefusal(reply, 422, 'schema');
    expect(reply.json.errors.length).toBeGreaterThan(0);
  });
  test('one bad reading refuses the whole envelope: nothing of it is stored and its id is free', async () => {
    const one = await register(fresh('whole'));
    expectRefusal(
      await sendJson({ ...envelope({ readings: [trigger(), { at: 1 }] }), id: 'again' }, one),
      422,
      'schema',
    );
    expect((await sendJson({ ...envelope(), id: 'again' }, one)).status).toBe(202);
    await counted(`/v1/devices/${one.id}/statistics`, 1);
  });
  test('500 readings, 1000 samples and packets beside triggers are accepted', async () => {
    const one = await register(fresh('big'));
    const at = Date.now();
    expect(
      await sendJson(envelope({ readings: Array.from({ length: 500 }, (_, i) => ({ at: at - i, value: i })) }), one),
    ).toMatchObject({ status: 202, json: { accepted: 500 } });
    const axis = Array.from({ length: 1000 }, (_, i) => i / 1000);
    const mixed = [
      { at, rate: 100, x: axis, y: axis, z: axis.map((v) => -2 * v) },
      { at, value: -3 },
      { at, rate: 31.25, x: [1], y: [0], z: [0] },
    ];
    expect(await sendJson(envelope({ readings: mixed }), one)).toMatchObject({ status: 202, json: { accepted: 3 } });
    const { json } = await counted(`/v1/devices/${one.id}/statistics`, 503);
    expect(json).toMatchObject({ min: -3, max: 499, lastAt: at, firstAt: at - 499 });
  });
  test('readings up to 30 s ahead and 7 days back are accepted', async () => {
    const now = Date.now();
    expect(
      (
        await sendJson(
          envelope({
            readings: [
              { at: now + 29_000, value: 1 },
              { at: now - 604_790_000, value: 1 },
            ],
          }),
        )
      ).status,
    ).toBe(202);
  });
  test('the largest and smallest numbers do not break statistics', async () => {
    const one = await register(fresh('numbers'));
    const at = Date.now();
    const text = `{"id":"n","at":${at},"profile":"seismic","readings":[{"at":${at},"value":1.7e308},{"at":${at},"value":-1.7e308},{"at":${at},"value":5e-324},{"at":${at},"value":-0},{"at":${at},"value":1E3}]}`;
    expect((await sendJson(text, one)).status).toBe(202);
    await counted(`/v1/devices/${one.id}/statistics`, 5);
    expect((await go('/statistics', { token: app.token })).status).toBe(200);
    for (const value of ['1e309', '-1e400'])
      expectRefusal(await sendJson(text.replace('1.7e308', value), one), 422, 'schema');
    for (const value of ['01', '+1', '.5', '0x10', 'Infinity'])
      expectRefusal(await sendJson(text.replace('1.7e308', value), one), 400);
  });
  test('the same content is the same whatever the order of keys, the spelling of numbers and the time of signing', async () => {
    const one = await register(fresh('same'));
    const at = Date.now();
    const text = (signedAt: number, reading: string): string =>
      `{"profile":"seismic","id":"s","at":${signedAt},"readings":[${reading}]}`;
    expect((await sendJson(text(at, `{"at":${at},"value":10}`), one)).status).toBe(202);
    for (const same of [
      `{"value":10,"at":${at}}`,
      `{"at":${at},"value":1e1}`,
      `{"at":${at},"value":10.0}`,
      `{"at":${at},"value":9,"value":10}`,
    ]) {
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
    expect(replies.map(({ status }) => status).sort((a, b) => a - b)).toEqual([202, ...Array(19).fill(409)]);
    await counted(`/v1/devices/${one.id}/statistics`, 1);
  });
  test('deep nesting and __proto__ are refused like any other schema', async () => {
    const deep = '['.repeat(90_000) + ']'.repeat(90_000);
    expectRefusal(await sendJson(deep), 422, 'schema');
    expectRefusal(await sendJson(`{"id":"d","at":1,"profile":"seismic","readings":${deep}}`), 422, 'schema');
    expectRefusal(await sendJson(`{"__proto__":{"id":"p"},${JSON.stringify(envelope()).slice(1)}`), 422, 'schema');
    expectRefusal(
      await sendJson(envelope({ readings: [JSON.parse(`{"__proto__":1,"at":${Date.now()},"value":1}`)] })),
      422,
      'schema',
    );
  });
  test('chunked bodies and an answer to Expect: 100-continue', async () => {
    const body = sealed(JSON.stringify(envelope()));
    const headers = { 'content-type': 'application/jose', 'x-api-key': app.apiKey };
    expect((await go('/v1/readings', { method: 'POST', chunks: body.match(/.{1,7}/g) ?? [], headers })).status).toBe(
      202,
    );
    const socket = await openRaw(app.base);
    const next = sealed(JSON.stringify(envelope()));
    socket.write(
      `POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\nX-API-Key: ${app.apiKey}\r\nContent-Length: ${next.length}\r\nExpect: 100-continue\r\n\r\n`,
    );
    socket.write(next);
    expect((await socket.answers(1))[0]?.status).toBe(202);
    expect(socket.received()).toMatch(/^HTTP\/1.1 100 /);
    socket.socket.destroy();
  });
  test('host and mobile devices send their own readings', async () => {
    const host = await register(fresh('host'), 'host');
    const at = Date.now();
    const frame = { at, cpu_percent: 12.5, mem_percent: 0, disk_percent: 100 };
    const sendHost = (reading: object): Promise<Reply> =>
      sendJson(envelope({ profile: 'host', readings: [reading] }), host);
    expect((await sendHost(frame)).status).toBe(202);
    expect((await sendHost({ ...frame, gpu_percent: null, agent_cpu_percent: 1000, agent_mem_mb: 0 })).status).toBe(
      202,
    );
    for (const bad of [
      { cpu_percent: 101 },
      { cpu_percent: -1 },
      { cpu_percent: true },
      { cpu_percent: '5' },
      { mem_percent: null },
      { gpu_percent: 101 },
      { agent_cpu_percent: 1001 },
      { agent_mem_mb: -1 },
      { device_id: host.id },
      { timestamp: 5 },
      { at: undefined },
    ]) {
      expectRefusal(await sendHost({ ...frame, ...bad }), 422, 'schema');
    }
    await counted(`/v1/devices/${host.id}/statistics`, 2);
    expect((await go(`/v1/devices/${host.id}/statistics?field=disk_percent`, { token: app.token })).json).toMatchObject(
      { count: 2, mean: 100 },
    );
    expect((await go(`/v1/devices/${host.id}/statistics?field=gpu_percent`, { token: app.token })).json).toMatchObject({
      count: 0,
      mean: null,
    });

    const phone = await register(fresh('phone'), 'mobile');
    const beat = { accelerometer: [0, 0, 9.8], gyroscope: [0, 0, 0], overlay: 0, proximity: 5 };
    const sendPhone = (reading: object): Promise<Reply> =>
      sendJson(envelope({ profile: 'mobile', readings: [reading] }), phone);
    expect((await sendPhone(beat)).status).toBe(202);
    expect(
      (
        await sendPhone({
          ...beat,
          at,
          touch_event: true,
          motion_delta: 0.1,
          device_admin_enabled: false,
          accessibility_enabled: true,
          platform: 'ios',
        })
      ).status,
    ).toBe(202);
    for (const bad of [
      { accelerometer: [0, 0] },
      { gyroscope: [0, 0, 0, 0] },
      { platform: 'windows' },
      { touch_event: 1 },
      { overlay: undefined },
      { proximity: undefined },
      { other: 1 },
    ]) {
      expectRefusal(await sendPhone({ ...beat, ...bad }), 422, 'schema');
    }
  });
});
