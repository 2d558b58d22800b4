import { readFileSync } from 'node:fs';
import { webcrypto } from 'node:crypto';
import { ALERT_KINDS, AlertSchema, SEVERITIES } from '@tocsin/protocol/alert';
import fc from 'fast-check';
import { Value } from 'typebox/value';
import { describe, expect, test } from 'vitest';
import { isAlert, isSevereEnough, type ViewerAlert } from './alert-shape.ts';
import { decodeBase64Url, encodeBase64Url } from './base64url.ts';
import { canonical } from './canonical.ts';
import type { Subtle } from './environment.ts';
import { readServerMessage } from './server-message.ts';
import { importAlertKey, isSignedBy, signatureKid } from './signature.ts';
import { alertAt, alertMessage, watermark, welcome } from './world.suite.ts';

/** Values that are right for some member, or nearly. */
const odd = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    undefined,
    '',
    'x',
    0,
    -0,
    1,
    1.5,
    -1,
    2 ** 53 - 1,
    90,
    90.1,
    -180,
    181,
    [],
    {},
    true,
    'open',
    'severe',
    'actual',
    'a.b',
    '0'.repeat(64),
    'a'.repeat(64),
    'a'.repeat(65),
    'b'.repeat(200),
    'b'.repeat(201),
    '💥'.repeat(200),
    '💥'.repeat(201),
    'd'.repeat(4000),
    'd'.repeat(4001),
    'ab..cd',
    'ab.c.cd',
    'zone 1',
    'zöne',
    'line\nline',
  ),
  fc.string({ maxLength: 70 }),
  fc.double(),
  fc.integer(),
);
const names = Object.keys(alertAt(1));

describe('the shape of an alert', () => {
  test('is what the schema of the protocol says, whatever members are changed or gone', () => {
    const changes = fc.array(fc.tuple(fc.constantFrom(...names), odd), { maxLength: 3 });
    fc.assert(
      fc.property(changes, fc.array(fc.constantFrom(...names), { maxLength: 1 }), (changed, gone) => {
        const value: Record<string, unknown> = { ...alertAt(1), ...Object.fromEntries(changed) };
        for (const name of gone) delete value[name];
        // What both take: kinds are open here, and compared by themselves below.
        if (typeof value['kind'] === 'string' && /^[a-z]+(\.[a-z0-9-]+){1,7}$/.test(value['kind']))
          value['kind'] = 'host.cpu';
        fc.pre(
          ['offset', 'revision'].every((name) => !Number.isInteger(value[name]) || Number.isSafeInteger(value[name])),
        );
        expect(isAlert(value)).toBe(Value.Check(AlertSchema, value));
      }),
      { numRuns: 3000 },
    );
  });
  test('takes every kind of the protocol, and kinds of a newer one', () => {
    for (const kind of [...ALERT_KINDS, 'flood.level', 'host.gpu-2.x'])
      expect(isAlert(alertAt(1, { kind })), kind).toBe(true);
    for (const kind of ['', 'host', 'Host.cpu', 'a.', '.a', 'a b.c'])
      expect(isAlert(alertAt(1, { kind })), kind).toBe(false);
  });
  test('has no offset that a number does not hold exactly', () => {
    expect(isAlert(alertAt(2 ** 53))).toBe(false);
  });
  test('takes members of a newer protocol', () => {
    expect(isAlert({ ...alertAt(1), felt: true })).toBe(true);
  });
  test('is no array and no text', () => {
    for (const value of [null, [], 'x', 1, undefined, [alertAt(1)]]) expect(isAlert(value)).toBe(false);
  });
  test('ranks severities as the protocol does', () => {
    for (const [rank, severity] of SEVERITIES.entries())
      for (const [least, other] of SEVERITIES.entries())
        expect(isSevereEnough(alertAt(1, { severity }), other)).toBe(rank <= least);
    expect(isSevereEnough(alertAt(1, { severity: 'unknown' }), null)).toBe(true);
  });
});

describe('a message of the server', () => {
  const good: object[] = [
    welcome(0),
    alertMessage(1),
    alertMessage(2, { revision: 2 }),
    watermark(3),
    { type: 'authenticated', reauthenticateBy: 1 },
    { type: 'moving', retryAfterMs: 0 },
    { type: 'error', code: 'x', detail: '' },
    { type: 'pong' },
  ];
  test('is read as it is', () => {
    for (const message of good) expect(readServerMessage(JSON.stringify(message))).toEqual(message);
  });
  test('of an unknown type is no violation', () => {
    expect(readServerMessage('{"type":"weather","offset":4}')).toEqual({ type: 'unknown', offset: 4 });
    expect(readServerMessage('{"type":"toString"}')).toEqual({ type: 'unknown', offset: null });
  });
  test('without one of its members is malformed', () => {
    for (const message of good) {
      for (const name of Object.keys(message).filter((key) => key !== 'type')) {
        const rest = Object.fromEntries(Object.entries(message).filter(([key]) => key !== name));
        expect(readServerMessage(JSON.stringify(rest)).type, `${JSON.stringify(message)} without ${name}`).toBe(
          'malformed',
        );
      }
    }
  });
  test('whose offset is not the one that was signed is malformed', () => {
    expect(readServerMessage(JSON.stringify({ type: 'alert', offset: 9, data: alertAt(1) }))).toEqual({
      type: 'malformed',
      offset: 9,
    });
  });
  test('never throws, and is never delivered with a wrong member', () => {
    fc.assert(
      fc.property(fc.constantFrom(...good), fc.string(), fc.jsonValue(), (message, name, value) => {
        const read = readServerMessage(JSON.stringify({ ...message, [name]: value }));
        if (read.type === 'alert' || read.type === 'alert-update') expect(isAlert(read.data)).toBe(true);
      }),
    );
    for (const text of [null, '', '{', 'null', '[]', '1', '{"type":1}', 'x'.repeat(1_048_577)]) {
      expect(readServerMessage(text)).toEqual({ type: 'malformed', offset: null });
    }
    expect(readServerMessage('['.repeat(500_000)).type).toBe('malformed');
  });
});

interface Vectors {
  readonly jwk: { kty: string; crv: string; x: string; y: string; kid: string };
  readonly alerts: readonly { name: string; valid: boolean; alert: unknown; canonical?: string }[];
  readonly canonical: readonly { readonly name: string; readonly json: string; readonly canonical: string }[];
}
const vectors = JSON.parse(
  readFileSync(new URL('../../protocol/fixtures/alerts.json', import.meta.url), 'utf8'),
) as Vectors;

describe('the vectors for viewers', () => {
  const subtle = webcrypto.subtle as unknown as Subtle;
  test.each(vectors.alerts.map((vector) => [vector.name, vector] as const))(
    '%s',
    async (_name, { alert, valid, canonical: text }) => {
      const key = await importAlertKey(subtle, vectors.jwk);
      const fits = isAlert(alert);
      const signed =
        fits &&
        signatureKid(alert.signature) === vectors.jwk.kid &&
        (await isSignedBy(subtle, key, alert as ViewerAlert));
      expect(signed).toBe(valid);
      if (fits && valid) {
        const { signature, ...content } = alert;
        expect(signature).toContain('..');
        expect(canonical(content)).toBe(text);
      }
    },
  );
  test.each(vectors.canonical.map((vector) => [vector.name, vector] as const))('RFC 8785: %s', (_name, vector) => {
    expect(canonical(JSON.parse(vector.json))).toBe(vector.canonical);
  });
  test('are not signed by another key', async () => {
    const { publicKey } = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ]);
    for (const { alert, valid } of vectors.alerts) {
      if (valid) expect(await isSignedBy(subtle, publicKey, alert as ViewerAlert)).toBe(false);
    }
  });
});

test('base64url is one spelling for each row of bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const text = encodeBase64Url(bytes);
      expect(text).toBe(Buffer.from(bytes).toString('base64url'));
      expect(decodeBase64Url(text)).toEqual(bytes);
    }),
  );
  expect(encodeBase64Url(new Uint8Array(100_000))).toHaveLength(133_334);
  for (const text of ['a', 'ab=', 'a b', 'aB\n', '+/', '_x']) expect(decodeBase64Url(text), text).toBeNull();
});

test('a number that is none in JSON has no canonical form, whatever was signed in its place', () => {
  expect(() => canonical({ evidence: { value: JSON.parse('1e999') } })).toThrow(RangeError);
  expect(() => canonical([-Infinity])).toThrow(RangeError);
});

test('a value that is nested too deep has no canonical form', () => {
  let deep: unknown = 1;
  for (let level = 0; level < 100; level++) deep = [deep];
  expect(() => canonical(deep)).toThrow(RangeError);
});
