/** The test vectors of `packages/protocol/fixtures/` against the stages that decide in the product. */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import type { Alert } from '@tocsin/protocol/alert';
import type { Refusal } from '@tocsin/protocol/errors';
import { type DeviceVector, readFixture } from '@tocsin/tools/fixtures/shape';
import { describe, expect, test } from 'vitest';
import { verifyAlert } from '../alerts/sign.ts';
import { findDevice } from '../ingest/device.ts';
import { checkFreshness } from '../ingest/freshness.ts';
import { createIngest } from '../ingest/ingest.ts';
import { parseJws } from '../ingest/jws.ts';
import { originalEnvelope, parseOriginal } from '../ingest/original.ts';
import { checkSchema } from '../ingest/schema.ts';
import { checkSignature, verifyNow, verifySignature } from '../ingest/signature.ts';
import { type IngestDevice, newDraft, type Stage } from '../ingest/stage.ts';
import { canonical } from '../lib/canonical-json.ts';
import { keyObject, parsePublicKey } from '../registry/public-key.ts';
import { createMeaning } from './meaning.ts';

const keys = new Map(readFixture('keys').keys.map((key) => [key.name, key]));
const { devices, envelopes } = readFixture('envelopes');
const { refused } = readFixture('refused');
const { measurements, refused: refusedOriginals } = readFixture('original');

function keyNamed(name: string): ReturnType<typeof keyObject> {
  const parsed = parsePublicKey(keys.get(name)?.pointHex ?? '');
  if (!('der' in parsed)) throw new Error(`the key ${name} is not one`);
  return keyObject(parsed.der);
}

function registered({ id, profile, key }: DeviceVector): IngestDevice {
  const place = { zoneId: null, zoneNumber: null, latitude: null, longitude: null };
  return { id, number: 0, profile, ...place, standing: 'active', exercise: false, key: keyNamed(key) };
}

const { parsers } = createMeaning({
  swarmSensors: 50,
  swarmWindowSeconds: 10,
  swarmCooldownSeconds: 60,
  liveReadingSeconds: 60,
  cpuAlertPercent: 90,
  memoryAlertPercent: null,
  diskAlertPercent: null,
  gpuAlertPercent: null,
  pruneSeconds: 30,
  alertCooldownSeconds: 60,
});
const known = new Map(devices.map((device) => [device.id, registered(device)]));
const device = findDevice((id) => known.get(id) ?? null);
const fresh = checkFreshness(30_000);
const signature = checkSignature(verifySignature);

/** What the stages say to a body that arrives at `now`; null when they take it. */
async function answer(stages: readonly Stage[], body: string, now: number): Promise<Refusal | null> {
  const ingest = createIngest(stages, { accepted: () => undefined, rejected: () => undefined });
  const arrived = { traceparent: null, apiKey: undefined, body };
  const outcome = await ingest(newDraft('http', 'envelope', arrived, now));
  return outcome.accepted ? null : outcome.refusal;
}

const forEnvelopes = [parseJws(), device, signature, checkSchema(parsers), fresh];

describe('keys', () => {
  test.each([...keys.values()])('$name is one key in every form', (key) => {
    const forms = [key.spkiPem, key.spkiHex, key.pointHex, key.xyHex, key.pointHex.toUpperCase()];
    for (const form of forms) expect(parsePublicKey(form)).toEqual({ der: Buffer.from(key.spkiHex, 'hex') });
    for (const pem of [key.pkcs8Pem, key.sec1Pem]) {
      const secret = createPrivateKey(pem);
      expect(Buffer.from(secret.export({ format: 'jwk' }).d ?? '', 'base64url').toString('hex')).toBe(key.scalar);
      expect(createPublicKey(secret).export({ format: 'jwk' })).toEqual(key.jwk);
      expect(parsePublicKey(pem)).toEqual({ fault: 'private' });
    }
  });
});

describe('envelopes', () => {
  test.each(envelopes)('taken: $name', async ({ jws, now, payload, content, header, signingInput, canonical: own }) => {
    expect(await answer(forEnvelopes, jws, now)).toBeNull();
    expect(JSON.stringify(JSON.parse(payload))).toBe(JSON.stringify(content));
    const [head = '', body = ''] = jws.split('.');
    expect(Buffer.from(head, 'base64url').toString()).toBe(header);
    expect(Buffer.from(body, 'base64url').toString()).toBe(payload);
    expect(`${head}.${body}`).toBe(signingInput);
    if (own) expect(Object.keys(JSON.parse(header) as object)).toEqual(['alg', 'kid']);
  });

  test.each(refused)('refused: $name: $status $code', async ({ jws, now, status, code }) => {
    const refusal = await answer(forEnvelopes, jws, now);
    expect(refusal).toMatchObject({ code });
    expect(status).toBeGreaterThan(399);
  });

  test.each(refused.filter(({ payload }) => payload !== undefined))('only the payload is at fault: $name', (vector) => {
    const end = vector.jws.lastIndexOf('.');
    const bytes = Buffer.from(vector.jws.slice(end + 1), 'base64url');
    expect(verifyNow(vector.jws.slice(0, end), keyNamed(vector.key ?? ''), bytes)).toBe(true);
  });
});

describe('the original client', () => {
  const sensor = (key: string): Stage => findDevice((id) => registered({ id, profile: 'seismic', key }));
  const stages = (find: Stage): Stage[] => [parseOriginal, find, signature, originalEnvelope, fresh];

  test.each(measurements)('taken: $name', async ({ key, text, raw, der, now, value, device_timestamp }) => {
    expect(text).toBe(`${value}:${Math.trunc(device_timestamp)}`);
    for (const hex of [raw, der, `0x${der}`]) {
      const body = JSON.stringify({ value, misurator_id: 1, device_timestamp, signature_hex: hex });
      expect(await answer(stages(sensor(key)), body, now)).toBeNull();
    }
  });

  test.each(refusedOriginals)('refused: $name: $status $code', async ({ body, now, code }) => {
    const one = registered({ id: 'm1', profile: 'seismic', key: 'first' });
    const find = findDevice((id) => (id === 'm1' ? one : null));
    expect(await answer(stages(find), JSON.stringify(body), now)).toMatchObject({ code });
  });
});

describe('challenges', () => {
  const { challenges } = readFixture('challenge');

  test.each(challenges)('$name: both signatures check, over exactly this text', ({ deviceId, nonce, ...vector }) => {
    expect(vector.text).toBe(`tocsin-challenge:${deviceId}:${nonce}`);
    expect(nonce).toMatch(/^[A-Za-z0-9_-]{22,64}$/);
    const key = keyNamed(vector.key);
    for (const form of [vector.raw, vector.der]) {
      expect(verifyNow(vector.text, key, Buffer.from(form, 'base64url'))).toBe(true);
      expect(verifyNow(`${vector.text}\n`, key, Buffer.from(form, 'base64url'))).toBe(false);
    }
  });
});

describe('alerts', () => {
  const { jwk, alerts, canonical: forms } = readFixture('alerts');

  test.each(alerts)('$name: the signature checks: $valid', ({ alert, valid, canonical: text }) => {
    expect(verifyAlert(alert as unknown as Alert, jwk)).toBe(valid);
    if (text === null) return;
    const { signature: _signature, ...content } = alert;
    expect(canonical(content)).toBe(text);
  });

  test.each(forms)('RFC 8785: $name', ({ json, canonical: text }) => {
    expect(canonical(JSON.parse(json))).toBe(text);
  });
});

describe('clocks', () => {
  test.each(readFixture('clock').clocks)(
    '$name: what is true lies within the bounds',
    ({ sent, received, ...vector }) => {
      const { bounds, date } = vector;
      if (bounds === null) return;
      const second = Date.parse(date);
      // The server may have looked at its clock at any moment between, and at any millisecond of the second.
      expect([second - received, second + 999 - sent]).toEqual([bounds.least, bounds.most]);
    },
  );
});

test('a vector that a random signer makes with the same key checks as well', async () => {
  const [vector] = envelopes;
  if (vector === undefined) throw new Error('no vectors');
  const key = createPrivateKey(keys.get(vector.key)?.pkcs8Pem ?? '');
  const random = sign('sha256', Buffer.from(vector.signingInput), { key, dsaEncoding: 'ieee-p1363' });
  expect(await answer(forEnvelopes, `${vector.signingInput}.${random.toString('base64url')}`, vector.now)).toBeNull();
});
