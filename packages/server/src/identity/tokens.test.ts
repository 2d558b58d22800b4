import { createHmac, createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import { beforeEach, describe, expect, test } from 'vitest';
import type { OutsideKeys } from './outside-keys.ts';
import type { Principal } from './principal.ts';
import type { SigningKey, VerifyingKey } from './signing-keys.ts';
import { createTokens, type Tokens } from './tokens.ts';

const NOW = 1_700_000_000_000;
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const own: SigningKey & VerifyingKey = { kid: 'own', algorithm: 'ES256', ...pair };
const outsideKey: VerifyingKey = { kid: 'idp', algorithm: 'ES256', publicKey: other.publicKey };
const outside: OutsideKeys = { find: async (kid) => (kid === 'idp' ? outsideKey : null) };

let now = NOW;
let ended: string[] = [];
const tokens: Tokens = createTokens({
  keys: { current: () => own as SigningKey<'ES256'>, tokenKey: async (kid) => (kid === 'own' ? own : null) },
  outside,
  sessionAlive: (id) => !ended.includes(id),
  clock: { now: () => now, monotonic: () => now },
  issuer: 'https://tocsin.test',
  audience: 'tocsin',
  skewSeconds: 30,
  accessTokenMs: 900_000,
});

beforeEach(() => {
  now = NOW;
  ended = [];
});

const encode = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const HEADER = { alg: 'ES256', kid: 'own', typ: 'at+jwt' };
const seconds = NOW / 1000;
const CLAIMS = {
  iss: 'https://tocsin.test',
  aud: 'tocsin',
  sub: 'u1',
  iat: seconds,
  exp: seconds + 900,
  jti: 't1',
  sid: 's1',
  role: 'operator',
  scope: 'api',
};

function signed(header: unknown, claims: unknown, key: KeyObject = pair.privateKey): string {
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${createSign('sha256').update(input).sign({ key, dsaEncoding: 'ieee-p1363' }, 'base64url')}`;
}

async function codeOf(jwt: string): Promise<string> {
  try {
    await tokens.verify(jwt);
    return 'accepted';
  } catch (error) {
    return error instanceof RefusalError ? error.refusal.code : String(error);
  }
}

describe('an access token', () => {
  test('says what RFC 9068 asks for and names its session, role and scope', async () => {
    const { accessToken, expiresAt } = await tokens.issue({
      subject: 'u1',
      sessionId: 's1',
      scope: 'api',
      role: 'viewer',
      deviceId: null,
    });
    const [header, claims] = accessToken
      .split('.', 2)
      .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>);
    expect(header).toEqual({ alg: 'ES256', kid: 'own', typ: 'at+jwt' });
    expect(claims).toMatchObject({
      iss: 'https://tocsin.test',
      aud: 'tocsin',
      sub: 'u1',
      sid: 's1',
      role: 'viewer',
      scope: 'api',
    });
    expect(Object.keys(claims ?? {}).sort()).toEqual([
      'aud',
      'client_id',
      'exp',
      'iat',
      'iss',
      'jti',
      'role',
      'scope',
      'sid',
      'sub',
    ]);
    expect(expiresAt).toBe(NOW + 900_000);
    const expected: Partial<Principal> = { kind: 'user', subject: 'u1', role: 'viewer', sessionId: 's1', expiresAt };
    expect(await tokens.verify(accessToken)).toMatchObject(expected);
  });

  test('of a device names the device and has no role', async () => {
    const { accessToken } = await tokens.issue({
      subject: 'device:d1',
      sessionId: 's1',
      scope: 'signals',
      role: null,
      deviceId: 'd1',
    });
    expect(await tokens.verify(accessToken)).toMatchObject({
      kind: 'device',
      deviceId: 'd1',
      role: null,
      scope: 'signals',
    });
  });

  test('counts until its end and 30 s of skew', async () => {
    const jwt = signed(HEADER, CLAIMS);
    now = NOW + 929_999;
    expect(await codeOf(jwt)).toBe('accepted');
    now = NOW + 930_000;
    expect(await codeOf(jwt)).toBe('token-expired');
  });

  test('is refused once its session has ended', async () => {
    ended = ['s1'];
    expect(await codeOf(signed(HEADER, CLAIMS))).toBe('session-revoked');
  });
});

const publicPem = pair.publicKey.export({ format: 'pem', type: 'spki' }).toString();
describe('a token that was accepted before', () => {
  test('is looked at anew each time: its times, its session, and whether its key still counts', async () => {
    let key: VerifyingKey | null = own;
    const again = createTokens({
      keys: { current: () => own as SigningKey<'ES256'>, tokenKey: async () => key },
      sessionAlive: (id) => !ended.includes(id),
      clock: { now: () => now, monotonic: () => now },
      issuer: 'https://tocsin.test',
      audience: 'tocsin',
      skewSeconds: 30,
      accessTokenMs: 900_000,
    });
    const code = async (): Promise<string> => {
      try {
        return (await again.verify(good)).subject;
      } catch (error) {
        return error instanceof RefusalError ? error.refusal.code : String(error);
      }
    };
    const good = signed(HEADER, CLAIMS);
    expect([await code(), await code()]).toEqual(['u1', 'u1']);
    ended = ['s1'];
    expect(await code()).toBe('session-revoked');
    ended = [];
    now = NOW + 931_000;
    expect(await code()).toBe('token-expired');
    now = NOW;
    expect(await code()).toBe('u1');
    key = { ...own, publicKey: other.publicKey };
    expect(await code()).toBe('token-invalid');
    key = null;
    expect(await code()).toBe('token-invalid');
  });
});

function hmac(secret: string | Buffer): string {
  const input = `${encode({ ...HEADER, alg: 'HS256' })}.${encode(CLAIMS)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}
const attackerJwk = other.publicKey.export({ format: 'jwk' });
const good = signed(HEADER, CLAIMS);
const [goodHeader = '', goodClaims = '', goodSignature = ''] = good.split('.');

describe('an attacker cannot get in', () => {
  test.each([
    ['alg none', `${encode({ ...HEADER, alg: 'none' })}.${goodClaims}.`],
    ['alg None with a signature', `${encode({ ...HEADER, alg: 'None' })}.${goodClaims}.${goodSignature}`],
    ['HS256 with the public key as PEM', hmac(publicPem)],
    ['HS256 with the public key as DER', hmac(pair.publicKey.export({ format: 'der', type: 'spki' }))],
    ['an embedded jwk', signed({ ...HEADER, jwk: attackerJwk }, CLAIMS, other.privateKey)],
    ['an embedded jwk beside a good signature', signed({ ...HEADER, jwk: attackerJwk }, CLAIMS)],
    ['a jku', signed({ ...HEADER, jku: 'https://evil.test/jwks.json' }, CLAIMS)],
    ['an x5c', signed({ ...HEADER, x5c: ['AAAA'] }, CLAIMS)],
    ['crit', signed({ ...HEADER, crit: ['exp'], exp: 1 }, CLAIMS)],
    ['b64 false', signed({ ...HEADER, crit: ['b64'], b64: false }, CLAIMS)],
    ['RS256 named for an EC key', signed({ ...HEADER, alg: 'RS256' }, CLAIMS)],
    ['ES384', signed({ ...HEADER, alg: 'ES384' }, CLAIMS)],
    ['an unknown kid', signed({ ...HEADER, kid: 'wat' }, CLAIMS)],
    ['no kid', signed({ alg: 'ES256', typ: 'at+jwt' }, CLAIMS)],
    ['a kid that is a path', signed({ ...HEADER, kid: '../../dev/null' }, CLAIMS)],
    ['the signature of another key', signed(HEADER, CLAIMS, other.privateKey)],
    ['an outside key under our kid', signed({ ...HEADER, kid: 'own' }, { ...CLAIMS, role: 'admin' }, other.privateKey)],
    ['no signature', `${goodHeader}.${goodClaims}.`],
    ['a signature of zeros', `${goodHeader}.${goodClaims}.${Buffer.alloc(64).toString('base64url')}`],
    ['changed claims', `${goodHeader}.${encode({ ...CLAIMS, role: 'admin' })}.${goodSignature}`],
    ['padding', `${good}=`],
    ['white space', ` ${good}`],
    ['a fourth part', `${good}.`],
    ['JSON serialization', JSON.stringify({ protected: goodHeader, payload: goodClaims, signature: goodSignature })],
    ['another issuer', signed(HEADER, { ...CLAIMS, iss: 'https://evil.test' })],
    ['another audience', signed(HEADER, { ...CLAIMS, aud: 'other' })],
    ['no audience', signed(HEADER, { ...CLAIMS, aud: undefined })],
    ['no subject', signed(HEADER, { ...CLAIMS, sub: undefined })],
    ['no end', signed(HEADER, { ...CLAIMS, exp: undefined })],
    ['an end that is text', signed(HEADER, { ...CLAIMS, exp: '9999999999' })],
    [
      'an end that is infinite',
      signed(HEADER, JSON.stringify(CLAIMS).replace(`"exp":${seconds + 900}`, '"exp":1e999')),
    ],
    ['issued in the future', signed(HEADER, { ...CLAIMS, iat: seconds + 31 })],
    ['not yet valid', signed(HEADER, { ...CLAIMS, nbf: seconds + 31 })],
    ['no session', signed(HEADER, { ...CLAIMS, sid: undefined })],
    ['a session that passes for an outside one', signed(HEADER, { ...CLAIMS, sid: 'outside.x' })],
    ['no token id', signed(HEADER, { ...CLAIMS, jti: undefined })],
    ['a role that there is not', signed(HEADER, { ...CLAIMS, role: 'root' })],
    ['a role that is a list', signed(HEADER, { ...CLAIMS, role: ['admin'] })],
    ['claims that are a list', signed(HEADER, [CLAIMS])],
    ['over 8192 characters', signed(HEADER, { ...CLAIMS, x: 'x'.repeat(8192) })],
    ['nothing', ''],
  ])('with %s', async (_name, jwt) => {
    expect(await codeOf(jwt)).toBe('token-invalid');
  });

  test.each([['JWT'], [undefined], ['jwt'], ['dpop+jwt']])('with a token of type %s', async (typ) => {
    expect(await codeOf(signed({ ...HEADER, typ }, CLAIMS))).toBe('token-type');
  });
});

describe('a token of an outside identity provider', () => {
  const header = { ...HEADER, kid: 'idp' };
  const claims = { ...CLAIMS, sid: 's1' };

  test('needs no session of ours and names its role', async () => {
    ended = ['s1'];
    const principal = await tokens.verify(signed(header, claims, other.privateKey));
    expect(principal).toMatchObject({ kind: 'user', role: 'operator', subject: 'u1' });
    expect(principal.sessionId).toMatch(/^outside\./);
  });

  test('may name the role as tocsin_role, which wins', async () => {
    const jwt = signed(header, { ...claims, role: 'admin', tocsin_role: 'viewer' }, other.privateKey);
    expect(await tokens.verify(jwt)).toMatchObject({ role: 'viewer' });
  });

  test('is never a device', async () => {
    const jwt = signed(header, { ...claims, device_id: 'd1' }, other.privateKey);
    expect(await tokens.verify(jwt)).toMatchObject({ kind: 'user', deviceId: null });
  });

  test('without a role of ours is refused', async () => {
    expect(await codeOf(signed(header, { ...claims, role: 'owner' }, other.privateKey))).toBe('token-invalid');
  });
});
