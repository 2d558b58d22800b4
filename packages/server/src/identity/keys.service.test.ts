import { createHash, createPublicKey, sign, verify, type JsonWebKey } from 'node:crypto';
import { engines } from '@tocsin/testkit/engines';
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from 'jose';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createMemoryBus } from '../bus/memory/bus.ts';
import { type Bench, codeOf, openBench, PASSWORD, SECRET } from './testing.suite.ts';

describe.each(engines)('keys on %s', (engine) => {
  let bench: Bench;

  beforeEach(async () => {
    bench = await openBench({}, engine);
  });
  afterEach(() => bench.close());

  async function pairOf(identity = bench.identity) {
    const user = await identity.users.create({ email: `${Math.random()}@b.test`, password: PASSWORD, role: 'viewer' });
    return identity.sessions.open({
      subject: user.id,
      userId: user.id,
      deviceId: null,
      role: 'viewer',
      scope: 'api',
      fingerprint: null,
    });
  }

  describe('signing keys', () => {
    test('are one for each purpose when eight processes start at once', async () => {
      await bench.database.db.execute('DELETE FROM signing_keys');
      const all = await Promise.all(Array.from({ length: 8 }, () => bench.another()));
      for (const purpose of ['token', 'alert', 'command'] as const) {
        const kids = all.map(
          (identity) =>
            (purpose === 'token' ? identity.signingKeys.current(purpose) : identity.signingKeys.current(purpose)).kid,
        );
        expect(new Set(kids).size).toBe(1);
      }
      expect(await bench.stores.signingKeys.all()).toHaveLength(3);
    });

    test('have their RFC 7638 thumbprint for a kid', () => {
      for (const key of bench.identity.signingKeys.jwks().keys) {
        const { crv, kty, x, y } = key as Record<string, string>;
        expect(createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url')).toBe(key['kid']);
      }
    });

    test('show their public half only', () => {
      const { keys } = bench.identity.signingKeys.jwks();
      expect(keys.map((key) => String(key['purpose'])).sort()).toEqual(['alert', 'command', 'token']);
      for (const key of keys)
        expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'purpose', 'use', 'x', 'y']);
    });

    test('are sealed in the store for their own row', async () => {
      const rows = await bench.stores.signingKeys.all();
      for (const row of rows) expect(row.sealed.toString('latin1')).not.toContain(String(row.publicJwk['x']));
      const [first, second] = rows;
      await bench.database.db.execute('UPDATE signing_keys SET sealed = $2 WHERE kid = $1', [
        first?.kid,
        second?.sealed,
      ]);
      expect(await codeOf(bench.another())).toBe('cluster-secret-wrong');
    });

    test('do not open with another cluster secret', async () => {
      expect(await codeOf(bench.another({ settings: { clusterSecret: `${SECRET}!` } }))).toBe('cluster-secret-wrong');
      expect(await codeOf(bench.another({ settings: { clusterSecret: 'short' } }))).toBe('cluster-secret-short');
    });

    test('written into the table by somebody else do not reach the JWKS', async () => {
      const forged = { kty: 'EC', crv: 'P-256', x: 'AAAA', y: 'AAAA' };
      await bench.database.db.execute(`UPDATE signing_keys SET public_jwk = $1 WHERE purpose = 'token'`, [
        JSON.stringify(forged),
      ]);
      const other = await bench.another();
      expect(JSON.stringify(other.signingKeys.jwks())).not.toContain('AAAA');
    });

    test('sign alerts that anybody can check with the JWKS, also after a rotation', async () => {
      const key = bench.identity.signingKeys.current('alert');
      const signature = sign('sha256', Buffer.from('x'), { key: key.privateKey, dsaEncoding: 'ieee-p1363' });
      await bench.identity.rotateKeys(['alert', 'command']);
      bench.clock.advance(1e12);
      expect(bench.identity.signingKeys.current('alert').kid).not.toBe(key.kid);
      const jwk = bench.identity.signingKeys.jwks().keys.find((one) => one['kid'] === key.kid) as JsonWebKey;
      const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
      expect(verify('sha256', Buffer.from('x'), { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
    });

    test('of alerts do not make tokens', async () => {
      const { accessToken } = await pairOf();
      const [, claims] = accessToken.split('.');
      const { kid, privateKey: key } = bench.identity.signingKeys.current('alert');
      const input = `${Buffer.from(JSON.stringify({ alg: 'ES256', kid, typ: 'at+jwt' })).toString('base64url')}.${claims}`;
      const forged = `${input}.${sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
      expect(await codeOf(bench.identity.verifyAccessToken(forged))).toBe('token-invalid');
    });
  });

  describe('a rotation of the token key', () => {
    test('keeps old tokens good until they are over, then forgets the key', async () => {
      const before = bench.identity.signingKeys.current('token').kid;
      const pair = await pairOf();
      await bench.identity.rotateKeys(['token']);
      expect(await codeOf(bench.identity.verifyAccessToken(pair.accessToken))).toBe('accepted');
      bench.clock.advance(900_000 + 120_000);
      expect(bench.identity.signingKeys.jwks().keys.map((key) => key['kid'])).not.toContain(before);
      expect(await codeOf(bench.identity.verifyAccessToken(pair.accessToken))).toBe('token-invalid');
    });

    test('is followed at once by a process that shares nothing but the store, when it meets the new kid', async () => {
      const bus = createMemoryBus({ clock: bench.clock });
      const other = await bench.another({ bus });
      await bench.identity.rotateKeys(['token']);
      const pair = await pairOf();
      expect(await codeOf(other.verifyAccessToken(pair.accessToken))).toBe('accepted');
      // The other one still signs with the old key until it has heard: that counts too.
      expect(await codeOf(bench.identity.verifyAccessToken((await pairOf(other)).accessToken))).toBe('accepted');
      await bus.close();
    });

    test('by eight at once leaves one current key', async () => {
      await Promise.all(Array.from({ length: 8 }, () => bench.identity.rotateKeys(['token'])));
      const rows = await bench.stores.signingKeys.all();
      expect(rows.filter((row) => row.purpose === 'token' && row.retiredAt === null)).toHaveLength(1);
      expect(await codeOf(bench.identity.verifyAccessToken((await pairOf()).accessToken))).toBe('accepted');
    });
  });

  describe('tokens', () => {
    test.each(['ES256', 'RS256'] as const)(
      'signed with %s are checked by an independent library with the JWKS alone',
      async (tokenAlgorithm) => {
        const identity = await bench.another({ settings: { tokenAlgorithm } });
        const { accessToken } = await pairOf(identity);
        const keys = createLocalJWKSet(JSON.parse(JSON.stringify(identity.signingKeys.jwks())) as JSONWebKeySet);
        const options = {
          issuer: 'http://tocsin.test',
          audience: 'tocsin',
          typ: 'at+jwt',
          currentDate: new Date(bench.clock.now()),
        };
        const { protectedHeader } = await jwtVerify(accessToken, keys, options);
        expect(protectedHeader.alg).toBe(tokenAlgorithm);
        expect(await codeOf(identity.verifyAccessToken(accessToken))).toBe('accepted');
        // The one with the other algorithm knows these keys too: changing JWT_ALGORITHM ends nobody's session.
        expect(await codeOf(bench.identity.verifyAccessToken(accessToken))).toBe('accepted');
      },
    );

    test('with unknown kids cannot flood the store', async () => {
      let reads = 0;
      const { db } = bench.database;
      const all = bench.stores.signingKeys.all;
      (bench.stores.signingKeys as { all: typeof all }).all = async () => {
        reads += 1;
        return all();
      };
      const other = await bench.another();
      reads = 0;
      for (let count = 0; count < 50; count += 1) expect(await other.signingKeys.tokenKey(`kid${count}`)).toBeNull();
      expect(reads).toBe(5);
      expect(await db.answers(1000)).toBe(true);
    });
  });

  describe('an API key', () => {
    test('is shown once, stored as a hash, and found by its text', async () => {
      const { key, id } = await bench.identity.apiKeys.create('gateway', ['read', 'ingest']);
      expect(key).toMatch(/^tocsin_[A-Za-z0-9_-]{43}$/);
      expect(await bench.identity.apiKeys.check(key)).toMatchObject({ id, scopes: ['ingest', 'read'] });
      const rows = await bench.database.db.query<{ text: string }>('SELECT (api_keys.*)::text AS text FROM api_keys');
      expect(rows[0]?.text).not.toContain(key.slice(8));
      expect(JSON.stringify(await bench.identity.apiKeys.list(null, 5))).not.toContain(key.slice(8));
    });

    test('that was checked half a second ago, or is unknown, is answered at once', async () => {
      const { key } = await bench.identity.apiKeys.create('gateway', ['ingest']);
      await bench.identity.apiKeys.check(key);
      bench.clock.advance(499);
      expect(bench.identity.apiKeys.check(key)).toMatchObject({ scopes: ['ingest'] });
      expect(bench.identity.apiKeys.check('no such key, but long')).toBeNull();
      expect(bench.identity.apiKeys.check('short')).toBeNull();
      expect(bench.identity.apiKeys.check('x'.repeat(257))).toBeNull();
    });

    test('made or revoked elsewhere counts at once through the bus', async () => {
      const other = await bench.another();
      const { key, id } = await bench.identity.apiKeys.create('gateway', ['ingest']);
      expect(await other.apiKeys.check(key)).not.toBeNull();
      await bench.identity.apiKeys.revoke(id);
      expect(await other.apiKeys.check(key)).toBeNull();
      expect(await codeOf(bench.identity.apiKeys.revoke(id))).toBe('not-found');
    });

    test('made or revoked elsewhere counts within a second without the bus', async () => {
      const bus = createMemoryBus({ clock: bench.clock });
      const other = await bench.another({ bus });
      const { key, id } = await bench.identity.apiKeys.create('gateway', ['ingest']);
      expect(await other.apiKeys.check(key)).not.toBeNull();
      await bench.identity.apiKeys.revoke(id);
      bench.clock.advance(1000);
      expect(await other.apiKeys.check(key)).toBeNull();
      await bus.close();
    });

    test('is checked by reading the keys only when they have changed', async () => {
      const { key } = await bench.identity.apiKeys.create('gateway', ['ingest']);
      let reads = 0;
      const active = bench.stores.apiKeys.active;
      (bench.stores.apiKeys as { active: typeof active }).active = (limit) => {
        reads += 1;
        return active(limit);
      };
      for (let count = 0; count < 5; count += 1) {
        expect(await bench.identity.apiKeys.check(key)).not.toBeNull();
        bench.clock.advance(1000);
      }
      expect(reads).toBe(1);
    });
  });
});
