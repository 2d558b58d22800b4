/** The test vectors against a whole server. It lives now, so what has a time is signed again with the keys of the vectors. */
import { createPrivateKey, sign } from 'node:crypto';
import { type EnvelopeVector, readFixture, type RefusedVector } from '@tocsin/tools/fixtures/shape';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefusal } from './contract-client.suite.ts';
import { type Contract, openContract } from './contract-system.suite.ts';

const keys = new Map(readFixture('keys').keys.map((key) => [key.name, key]));
const { devices, envelopes } = readFixture('envelopes');
const { refused } = readFixture('refused');
const { retries } = readFixture('retries');
const { measurements, refused: refusedOriginals } = readFixture('original');

type Encoding = 'ieee-p1363' | 'der';

function signed(key: string, text: string, dsaEncoding: Encoding): Buffer {
  const secret = createPrivateKey(keys.get(key)?.pkcs8Pem ?? '');
  return sign('sha256', Buffer.from(text), { key: secret, dsaEncoding });
}

/** The text with every time as far from this machine's clock as it was from `now`; digits and spelling stay. */
function retime(payload: string, now: number): string {
  const shift = Date.now() - now;
  return payload.replaceAll(/("at":\s*)(\d{13})\b/g, (_, name: string, at: string) => `${name}${Number(at) + shift}`);
}

function seal(key: string, header: string, payload: string, encoding: Encoding = 'ieee-p1363'): string {
  const input = [header, payload].map((part) => Buffer.from(part).toString('base64url')).join('.');
  return `${input}.${signed(key, input, encoding).toString('base64url')}`;
}

function again({ key, header, payload, now, jws }: EnvelopeVector): string {
  const raw = jws.slice(jws.lastIndexOf('.') + 1).length === 86;
  return seal(key, header, retime(payload, now), raw ? 'ieee-p1363' : 'der');
}

function refusedAgain({ jws, payload, deviceId, key, now }: RefusedVector): string {
  if (payload === undefined || key === undefined) return jws;
  return seal(key, JSON.stringify({ alg: 'ES256', kid: deviceId }), retime(payload, now));
}

const lasting = <Vector extends { readonly exact: boolean }>(all: readonly Vector[]): Vector[] =>
  all.filter(({ exact }) => !exact);

describe('the test vectors, posted to a server', () => {
  let contract: Contract;
  beforeAll(async () => {
    contract = await openContract();
    const forms = ['spkiPem', 'spkiHex', 'pointHex', 'xyHex'] as const;
    for (const [index, { id, profile, key }] of devices.entries()) {
      const publicKey = keys.get(key)?.[forms[index % forms.length] ?? 'spkiPem'];
      const reply = await contract.admin('POST', '/v1/devices', { id, profile, publicKey });
      expect(reply.status).toBe(201);
    }
  });
  afterAll(() => contract?.app.stop());

  test.each(lasting(envelopes))('taken: $name', async (vector) => {
    const content = vector.content as { readonly id: string; readonly readings: readonly unknown[] };
    const reply = await contract.send(again(vector));
    expect({ status: reply.status, json: reply.json }).toEqual({
      status: 202,
      json: { id: content.id, accepted: content.readings.length },
    });
  });

  test.each(lasting(refused))('refused: $name: $status $code', async (vector) => {
    expectRefusal(await contract.send(refusedAgain(vector)), vector.status, vector.code);
  });

  test('the same id again is a replay, or a conflict when the readings differ', async () => {
    // One shift for all of them: replays have the same times of readings.
    const now = Date.now();
    for (const { name, status, code, deviceId, key, payload } of retries) {
      const text = payload.replaceAll(/\d{13}/g, (at) => String(Number(at) + now - 1_795_000_000_000));
      const reply = await contract.send(seal(key, JSON.stringify({ alg: 'ES256', kid: deviceId }), text));
      expect([name, reply.status, reply.json.code ?? null]).toEqual([name, status, code]);
    }
  });

  test('measurements of the original client are taken in both forms, and refused as their vectors say', async () => {
    const { go, app } = contract;
    const post = (path: string, body: unknown): ReturnType<Contract['go']> =>
      go(path, { method: 'POST', key: app.apiKey, body });
    const zone = (await post('/zones/', { city: 'Vector' })).json.id;
    const sensors = new Map<string, number>();
    for (const key of new Set(measurements.map((one) => one.key))) {
      const place = { active: true, zone_id: zone, latitude: 42, longitude: 13 };
      const made = await post('/misurators/', { ...place, public_key_hex: keys.get(key)?.spkiHex });
      sensors.set(key, made.json.id);
    }
    for (const { name, key, value, device_timestamp, now } of measurements) {
      const timestamp = device_timestamp + Math.floor((Date.now() - now) / 1000);
      const text = `${value}:${Math.trunc(timestamp)}`;
      const body = { value, misurator_id: sensors.get(key), device_timestamp: timestamp };
      const answers = [];
      for (const encoding of ['der', 'ieee-p1363'] as const) {
        const hex = signed(key, text, encoding).toString('hex');
        answers.push((await post('/misurations/', { ...body, signature_hex: hex })).status);
      }
      expect([name, ...answers]).toEqual([name, 202, 409]);
    }
    for (const { status, code, body } of refusedOriginals) {
      if (code.startsWith('envelope-')) continue;
      const { misurator_id: sensor, ...rest } = body as { misurator_id: number };
      const id = sensor === 1 ? sensors.get('first') : sensor;
      expectRefusal(await post('/misurations/', { ...rest, misurator_id: id }), status, code);
    }
  });
});
