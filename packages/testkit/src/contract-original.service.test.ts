/** The contract's section 3, last paragraph: the original seismic client, with its own spelling, codes and shapes. */
import { isDeepStrictEqual } from 'node:util';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal, type Reply } from './contract-client.suite.ts';
import { type Contract, fresh, openContract } from './contract-system.suite.ts';

interface Sensor {
  readonly id: number;
  readonly hex: string;
  readonly privateKey: KeyObject;
}

let contract: Contract;
let app: Contract['app'];
let { go, admin, counted } = {} as Contract;
let zone: number;

const post = (path: string, body: unknown): Promise<Reply> => go(path, { method: 'POST', key: app.apiKey, body });
const read = (path: string): Promise<Reply> => go(path, { key: app.apiKey });
const second = (): number => Math.floor(Date.now() / 1000);

async function makeSensor(active = true): Promise<Sensor> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const hex = publicKey.export({ type: 'spki', format: 'der' }).toString('hex');
  const made = await post('/misurators/', {
    active,
    zone_id: zone,
    latitude: 42.1,
    longitude: 13.1,
    public_key_hex: hex,
  });
  expect(made.status).toBe(201);
  return { id: made.json.id, hex, privateKey };
}

function measurement(
  sensor: Sensor,
  value: number,
  timestamp: number,
  encoding: 'der' | 'ieee-p1363' = 'der',
): Record<string, unknown> {
  const text = `${value}:${Math.trunc(timestamp)}`;
  const signature = sign('sha256', Buffer.from(text), { key: sensor.privateKey, dsaEncoding: encoding });
  return { value, misurator_id: sensor.id, device_timestamp: timestamp, signature_hex: signature.toString('hex') };
}

beforeAll(async () => {
  contract = await openContract({ SWARM_SENSORS: '2' });
  ({ app, go, admin, counted } = contract);
  zone = (await post('/zones/', { city: 'Amatrice' })).json.id;
});
afterAll(() => app?.stop());

describe('3. the original client', () => {
  test('a city is a zone with an integer, and the same city the same zone', async () => {
    const made = await post('/zones/', { city: 'Norcia' });
    expect(made.status).toBe(201);
    expect(made.json).toEqual({ id: expect.any(Number), city: 'Norcia' });
    expect(await post('/zones/', { city: 'Norcia' })).toMatchObject({ status: 201, json: made.json });
    const same = await Promise.all(Array.from({ length: 10 }, () => post('/zones/', { city: 'Visso' })));
    expect(new Set(same.map(({ json }) => json.id)).size).toBe(1);
    const list = (await read('/zones/')).json;
    expect(list).toContainEqual(made.json);
    for (const item of list) expect(Object.keys(item)).toEqual(['id', 'city']);
    expect((await admin('GET', `/v1/zones/z${made.json.id}`)).json).toMatchObject({ name: 'Norcia' });
    for (const bad of [{}, { city: '' }, { city: 5 }, { city: 'x', more: 1 }, []])
      expectRefusal(await post('/zones/', bad), 422, 'schema');
  });

  test('a key is a sensor with an integer, and the same key the same sensor', async () => {
    const sensor = await makeSensor();
    const body = { active: true, zone_id: zone, latitude: 42.1, longitude: 13.1, public_key_hex: sensor.hex };
    const again = await post('/misurators/', { ...body, latitude: 1 });
    expect(again.status).toBe(201);
    expect(again.json).toEqual({ id: sensor.id, active: true, zone_id: zone, latitude: 42.1, longitude: 13.1 });
    for (const hex of [sensor.hex.toUpperCase(), sensor.hex.slice(-130), sensor.hex.slice(-128)]) {
      expect((await post('/misurators/', { ...body, public_key_hex: hex })).json.id).toBe(sensor.id);
    }
    expect((await read('/misurators/')).json).toContainEqual(again.json);
    expect((await admin('GET', `/v1/devices/m${sensor.id}`)).json).toMatchObject({
      profile: 'seismic',
      zoneId: `z${zone}`,
    });
    for (const bad of [
      { zone_id: 999_999 },
      { zone_id: 'x' },
      { public_key_hex: 'zz' },
      { public_key_hex: '00'.repeat(64) },
      { latitude: 91 },
      { longitude: '1' },
      { active: 1 },
      { active: undefined },
      { more: 1 },
    ]) {
      expectRefusal(await post('/misurators/', { ...body, public_key_hex: 'ab'.repeat(64), ...bad }), 422, 'schema');
    }
  });

  test('a measurement is 202 with DER or raw, a whole or a broken second', async () => {
    const sensor = await makeSensor();
    const accepted = await post('/misurations/', measurement(sensor, 7, second()));
    expect(accepted).toMatchObject({ status: 202, json: { status: 'accepted', detail: expect.any(String) } });
    expect(Object.keys(accepted.json)).toEqual(['status', 'detail']);
    expect((await post('/misurations/', measurement(sensor, 8, second(), 'ieee-p1363'))).status).toBe(202);
    expect((await post('/misurations/', measurement(sensor, -9, Date.now() / 1000))).status).toBe(202);
    await counted(`/v1/devices/m${sensor.id}/statistics`, 3);
    const statistics = (await read(`/sensors/${sensor.id}/statistics`)).json;
    expect(statistics).toEqual({
      misurator_id: sensor.id,
      total_readings: 3,
      average_value: 2,
      max_recorded: 8,
      min_recorded: -9,
      generated_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    });
  });

  test('a replay is the same sensor, value and second, whatever the signature', async () => {
    const sensor = await makeSensor();
    const at = second();
    expect((await post('/misurations/', measurement(sensor, 5, at))).status).toBe(202);
    for (const again of [
      measurement(sensor, 5, at),
      measurement(sensor, 5, at, 'ieee-p1363'),
      measurement(sensor, 5, at + 0.7),
    ]) {
      expectRefusal(await post('/misurations/', again), 409, 'replay');
    }
    expect((await post('/misurations/', measurement(sensor, 6, at))).status).toBe(202);
    expect((await post('/misurations/', measurement(sensor, 5, at - 1))).status).toBe(202);
    await counted(`/v1/devices/m${sensor.id}/statistics`, 3);
  });

  test('401 for the signature, 403 for an inactive sensor or a stale time, in the order of the contract', async () => {
    const [sensor, other, asleep] = [await makeSensor(), await makeSensor(), await makeSensor(false)];
    const forged = { ...measurement(other, 5, second()), misurator_id: sensor.id };
    expectRefusal(await post('/misurations/', forged), 401, 'signature-invalid');
    expectRefusal(
      await post('/misurations/', { ...measurement(sensor, 5, second()), value: 6 }),
      401,
      'signature-invalid',
    );
    expectRefusal(await post('/misurations/', measurement(asleep, 5, second())), 403, 'device-inactive');
    expectRefusal(await post('/misurations/', { ...forged, misurator_id: asleep.id }), 403, 'device-inactive');
    expectRefusal(await post('/misurations/', { ...forged, misurator_id: 999_999 }), 403, 'device-unknown');
    expectRefusal(await post('/misurations/', measurement(sensor, 5, second() - 40)), 403, 'envelope-stale');
    expectRefusal(await post('/misurations/', measurement(sensor, 5, second() + 40)), 403, 'envelope-future');
    expectRefusal(
      await post('/misurations/', { ...measurement(sensor, 5, second() - 40), value: 9 }),
      401,
      'signature-invalid',
    );
    expect((await read('/misurators/')).json).toContainEqual(expect.objectContaining({ id: asleep.id, active: false }));
    await admin('PATCH', `/v1/devices/m${sensor.id}`, { standing: 'blocked' });
    expectRefusal(await post('/misurations/', measurement(sensor, 5, second())), 423, 'device-blocked');
    await admin('DELETE', `/v1/devices/m${sensor.id}`);
    expectRefusal(await post('/misurations/', measurement(sensor, 5, second())), 403, 'device-revoked');
  });

  test('what is no measurement is 422, what is no JSON 400, another content type 415', async () => {
    const sensor = await makeSensor();
    const good = measurement(sensor, 5, second());
    for (const bad of [
      { value: 5.5 },
      { value: '5' },
      { value: null },
      { value: true },
      { value: 2 ** 53 },
      { misurator_id: 0 },
      { misurator_id: '1' },
      { misurator_id: 1.5 },
      { device_timestamp: 'now' },
      { device_timestamp: null },
      { signature_hex: 'xyz' },
      { signature_hex: '' },
      { signature_hex: 5 },
      { value: undefined },
      { more: 1 },
    ]) {
      const reply = await post('/misurations/', { ...good, ...bad });
      expectRefusal(reply, 422, 'schema');
      expect(reply.json.errors.length).toBeGreaterThan(0);
    }
    const text = (body: string, type = 'application/json'): Promise<Reply> =>
      go('/misurations/', { method: 'POST', key: app.apiKey, body, headers: { 'content-type': type } });
    for (const body of ['', '{', 'value=5', '{"value":01}']) expectRefusal(await text(body), 400, 'malformed-json');
    for (const body of ['[]', 'null', '"x"', '['.repeat(50_000) + ']'.repeat(50_000)])
      expectRefusal(await text(body), 422, 'schema');
    expectRefusal(await text(JSON.stringify(good), 'text/plain'), 415, 'content-type');
    expectRefusal(await go('/misurations/', { method: 'POST', body: good }), 401, 'api-key-missing');
  });

  test('alerts of a zone are a bare list with times in ISO and severities as numbers', async () => {
    const [one, two] = [await makeSensor(), await makeSensor()];
    const at = second();
    for (const sensor of [one, two])
      expect((await post('/misurations/', measurement(sensor, 90, at))).status).toBe(202);
    const until = performance.now() + 5000;
    let alerts: Reply;
    do alerts = await read(`/zones/${zone}/alerts?limit=10`);
    while (alerts.json.length === 0 && performance.now() < until);
    expect(alerts.json[0]).toEqual({
      id: expect.anything(),
      zone_id: zone,
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      severity: expect.any(Number),
      message: expect.any(String),
    });
    // A third sensor's trigger may still make a revision between two reads; then both are read again.
    await expect
      .poll(async () => {
        const limited = (await read(`/zones/${zone}/alerts?limit=10`)).json;
        return isDeepStrictEqual((await read(`/zones/${zone}/alerts`)).json, limited) && limited.length > 0;
      })
      .toBe(true);
    expect((await read(`/zones/${zone}/alerts?limit=1`)).json).toHaveLength(1);
    for (const limit of ['0', '501', 'x', '-1', ''])
      expectRefusal(await read(`/zones/${zone}/alerts?limit=${limit}`), 400, 'malformed-parameter');
    expectRefusal(await read('/zones/999999/alerts'), 404, 'not-found');
    expectRefusal(await read('/sensors/999999/statistics'), 404, 'not-found');
    expectRefusal(await read('/sensors/x/statistics'), 400, 'malformed-parameter');
    const fallow = (await post('/zones/', { city: fresh('fallow') })).json.id;
    expect((await read(`/zones/${fallow}/alerts`)).json).toEqual([]);
  });

  test('a sensor without readings, and the health of the whole', async () => {
    const sensor = await makeSensor();
    expect((await read(`/sensors/${sensor.id}/statistics`)).json).toEqual({
      misurator_id: sensor.id,
      total_readings: 0,
      average_value: null,
      max_recorded: null,
      min_recorded: null,
      generated_at: expect.any(String),
    });
    const health = await go('/health');
    expect(health).toMatchObject({
      status: 200,
      json: { status: 'healthy', services: { database: 'connected', redis: 'connected' } },
    });
    expect(Object.keys(health.json)).toEqual(['status', 'timestamp', 'services']);
    expect(new Date(health.json.timestamp).toISOString()).toBe(health.json.timestamp);
  });
});
