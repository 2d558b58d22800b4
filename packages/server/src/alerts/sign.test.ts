import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import type { Alert } from '@tocsin/protocol/alert';
import { compactVerify } from 'jose';
import { expect, test } from 'vitest';
import { canonical } from '../lib/canonical-json.ts';
import { type PublicJwk, signAlert, signDetached, verifyAlert, verifyDetached } from './sign.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const signer = { kid: 'k1', privateKey: pair.privateKey };
const jwk: PublicJwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'k1' };

const unsigned: Omit<Alert, 'signature'> = {
  id: '01ARYZ6S41TSV4RRFFQ69G5FAV',
  kind: 'seismic.swarm',
  severity: 'severe',
  status: 'actual',
  state: 'open',
  revision: 1,
  offset: 7,
  headline: 'Erdbeben €',
  description: '',
  zoneId: 'z1',
  deviceId: null,
  latitude: null,
  longitude: null,
  onset: 1_795_000_000_000,
  sentAt: 1_795_000_000_100,
  updatedAt: 1_795_000_000_100,
  fingerprint: 'f'.repeat(64),
  evidence: { amplitude: 1e-7, envelopes: [] },
};
const alert = signAlert(unsigned, signer);

test('a signed alert verifies with the public key, after a trip over the wire and in any order of members', () => {
  expect(verifyAlert(alert, jwk)).toBe(true);
  expect(verifyAlert(JSON.parse(JSON.stringify(alert)) as Alert, jwk)).toBe(true);
  expect(verifyAlert(Object.fromEntries(Object.entries(alert).reverse()) as unknown as Alert, jwk)).toBe(true);
});

test('the header is exactly alg and kid, and the payload is detached', () => {
  const [header = '', payload, signature = ''] = alert.signature.split('.');
  expect(Buffer.from(header, 'base64url').toString()).toBe('{"alg":"ES256","kid":"k1"}');
  expect(payload).toBe('');
  expect(Buffer.from(signature, 'base64url')).toHaveLength(64);
});

test('an independent implementation of JWS accepts it once the payload is put back (RFC 7515 appendix F)', async () => {
  const payload = Buffer.from(canonical(unsigned)).toString('base64url');
  const compact = alert.signature.replace('..', `.${payload}.`);
  const checked = await compactVerify(compact, pair.publicKey, { algorithms: ['ES256'] });
  expect(JSON.parse(Buffer.from(checked.payload).toString())).toEqual(unsigned);
});

test.each(Object.keys(unsigned))('a change of %s breaks the signature', (member) => {
  expect(verifyAlert({ ...alert, [member]: 'x' }, jwk)).toBe(false);
});

test('a member more or less breaks the signature', () => {
  expect(verifyAlert({ ...alert, extra: 1 } as unknown as Alert, jwk)).toBe(false);
  const { zoneId: _zoneId, ...less } = alert;
  expect(verifyAlert(less as unknown as Alert, jwk)).toBe(false);
});

test('another key, another kid, another curve or no key at all do not verify', () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }) as PublicJwk;
  expect(verifyAlert(alert, { ...other, kid: 'k1' })).toBe(false);
  expect(verifyAlert(alert, { ...jwk, kid: 'k2' })).toBe(false);
  expect(
    verifyAlert(
      alert,
      generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' }) as PublicJwk,
    ),
  ).toBe(false);
  expect(verifyAlert(alert, { kty: 'oct' })).toBe(false);
  expect(verifyAlert(alert, { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' })).toBe(false);
});

const header = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const signature = alert.signature.split('..')[1] ?? '';

test.each([
  ['no algorithm', `${header({ alg: 'none', kid: 'k1' })}..${signature}`],
  ['another algorithm', `${header({ alg: 'HS256', kid: 'k1' })}..${signature}`],
  ['a further header', `${header({ alg: 'ES256', kid: 'k1', crit: ['b64'], b64: false })}..${signature}`],
  ['no kid', `${header({ alg: 'ES256' })}..${signature}`],
  ['a header that is not JSON', `${Buffer.from('{').toString('base64url')}..${signature}`],
  ['a payload in the middle', alert.signature.replace('..', '.e30.')],
  ['a short signature', alert.signature.slice(0, -4)],
  ['a signature spelled otherwise', `${alert.signature}=`],
  ['zeros (CVE-2022-21449)', `${alert.signature.split('..')[0] ?? ''}..${Buffer.alloc(64).toString('base64url')}`],
  ['nothing', ''],
])('a signature with %s is not one', (_name, forged) => {
  expect(verifyAlert({ ...alert, signature: forged }, jwk)).toBe(false);
});

test('a signature whose last character spells the same bytes otherwise is refused', () => {
  const last = alert.signature.at(-1) ?? '';
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  // 64 bytes leave four unused bits in the last character.
  const twin = alphabet[alphabet.indexOf(last) ^ 1] ?? '';
  expect(verifyAlert({ ...alert, signature: alert.signature.slice(0, -1) + twin }, jwk)).toBe(false);
});

test('other objects are signed the same way', () => {
  const command = { id: 'c', command: 'block' };
  const detached = signDetached(command, signer);
  expect(verifyDetached(command, detached, jwk)).toBe(true);
  const [head = '', bytes = ''] = detached.split('..');
  const input = `${head}.${Buffer.from('{"command":"block","id":"c"}').toString('base64url')}`;
  const key = { key: createPublicKey(pair.privateKey), dsaEncoding: 'ieee-p1363' } as const;
  expect(verify('sha256', Buffer.from(input), key, Buffer.from(bytes, 'base64url'))).toBe(true);
});
