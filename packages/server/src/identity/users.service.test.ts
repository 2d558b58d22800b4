import { engines } from '@tocsin/testkit/engines';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GeneratedCredentials } from './first-start.ts';
import { type Bench, codeOf, openBench, PASSWORD } from './testing.suite.ts';

describe.each(engines)('users on %s', (engine) => {
  let bench: Bench;

  beforeEach(async () => {
    bench = await openBench({}, engine);
  });
  afterEach(() => bench.close());

  const signIn = (email: string, password = PASSWORD, address = '192.0.2.1') =>
    bench.identity.signIn({ email, password, address });
  const admin = (email = 'admin@b.test') => bench.identity.users.create({ email, password: PASSWORD, role: 'admin' });

  describe('a sign-in', () => {
    test('finds the account whatever the case of the address', async () => {
      const user = await admin('Ann@B.Test');
      expect(user.email).toBe('ann@b.test');
      const pair = await signIn('  ANN@b.test ');
      expect(await bench.identity.verifyAccessToken(pair.accessToken)).toMatchObject({
        subject: user.id,
        role: 'admin',
        scope: 'api',
      });
    });

    test('answers alike for a wrong password, an unknown and a disabled account, and for text that is no address', async () => {
      await admin();
      const user = await admin('off@b.test');
      await bench.identity.users.patch(user.id, { disabled: true });
      const answers = await Promise.all(
        [
          signIn('admin@b.test', 'wrong wrong wrong'),
          signIn('nobody@b.test'),
          signIn('off@b.test'),
          signIn('no address'),
        ].map(async (work) => work.catch((error: Error) => error.message)),
      );
      expect(new Set(answers).size).toBe(1);
      expect(await codeOf(signIn('nobody@b.test'))).toBe('credentials-wrong');
    });

    test('that is correct works 60 times at once from one address', async () => {
      await admin();
      const codes = await Promise.all(Array.from({ length: 60 }, () => codeOf(signIn('admin@b.test'))));
      expect(new Set(codes)).toEqual(new Set(['accepted']));
    });

    test('that is wrong ten times closes the account for a while, whatever the addresses', async () => {
      await admin();
      for (let count = 0; count < 10; count += 1) {
        expect(await codeOf(signIn('admin@b.test', 'wrong wrong wrong', `192.0.2.${count}`))).toBe('credentials-wrong');
      }
      const refused = signIn('admin@b.test', PASSWORD, '192.0.2.200');
      await expect(refused).rejects.toMatchObject({ refusal: { code: 'rate-limited', retryAfterMs: 30_000 } });
      bench.clock.advance(30_000);
      expect(await codeOf(signIn('admin@b.test', PASSWORD, '192.0.2.200'))).toBe('accepted');
    });

    test('from an address known to the account is not shut out by an attacker elsewhere or at the same address', async () => {
      await admin();
      await signIn('admin@b.test');
      for (let count = 0; count < 12; count += 1)
        await codeOf(signIn('admin@b.test', 'wrong wrong wrong', '198.51.100.1'));
      expect(await codeOf(signIn('admin@b.test', PASSWORD, '198.51.100.1'))).toBe('rate-limited');
      for (let count = 0; count < 40; count += 1) await codeOf(signIn(`nobody${count}@b.test`));
      expect(await codeOf(signIn('nobody@b.test'))).toBe('rate-limited');
      expect(await codeOf(signIn('admin@b.test'))).toBe('accepted');
    });

    test('that is wrong is limited for each address, whatever the accounts', async () => {
      const codes: string[] = [];
      for (let count = 0; count < 31; count += 1) codes.push(await codeOf(signIn(`user${count}@b.test`)));
      expect(codes.filter((code) => code === 'credentials-wrong').length).toBe(30);
      expect(codes.at(-1)).toBe('rate-limited');
      expect(await codeOf(signIn('user@b.test', PASSWORD, '198.51.100.7'))).toBe('credentials-wrong');
    });

    test('tells what happened, without the password', async () => {
      await admin();
      await signIn('admin@b.test');
      await codeOf(signIn('admin@b.test', 'a secret that is wrong'));
      expect(bench.events.map((event) => ('result' in event ? event.result : ''))).toEqual(['accepted', 'wrong']);
      expect(JSON.stringify(bench.events)).not.toContain('secret');
    });
  });

  describe('users', () => {
    test.each([
      ['short', 'needs at least 8 characters'],
      ['x'.repeat(257), 'has more than 256 characters'],
      ['aaaaaaaaaaaaaa', 'needs at least 4 different characters'],
      ['admin@b.testing', 'accepted'],
      ['Admin@b.test', 'must not be the e-mail address'],
    ])('with the password %s: %s', async (password, outcome) => {
      const made = bench.identity.users.create({ email: 'admin@b.test', password, role: 'viewer' });
      if (outcome === 'accepted') await made;
      else
        await expect(made).rejects.toMatchObject({
          refusal: { code: 'schema', errors: [{ pointer: '/password', detail: outcome }] },
        });
    });

    test.each([
      '',
      'a',
      '@b.test',
      'a@',
      'a@b@c',
      'a b@c.test',
      'a\u0000@b.test',
      `${'a'.repeat(250)}@b.test`,
      '<a@b.test>',
    ])('with the address %j are refused', async (email) => {
      expect(await codeOf(bench.identity.users.create({ email, password: PASSWORD, role: 'viewer' }))).toBe('schema');
    });

    test('have one account for each address', async () => {
      const [first, second] = [await admin(), await admin('b@b.test')];
      expect(await codeOf(admin('ADMIN@b.test'))).toBe('already-exists');
      expect(await codeOf(bench.identity.users.patch(second.id, { email: 'admin@B.test' }))).toBe('already-exists');
      expect(await codeOf(bench.identity.users.patch(first.id, { email: 'new@b.test' }))).toBe('accepted');
    });

    test.each([
      [{ password: 'another good password' }],
      [{ role: 'viewer' as const }],
      [{ disabled: true }],
      [{ email: 'z@b.test' }],
    ])('lose their sessions when this changes: %j', async (patch) => {
      await admin();
      const user = await admin('b@b.test');
      const pair = await signIn('b@b.test');
      await bench.identity.users.patch(user.id, patch);
      expect(await codeOf(bench.identity.verifyAccessToken(pair.accessToken))).toBe('session-revoked');
      expect(await codeOf(bench.identity.sessions.refresh(pair.refreshToken, null))).toBe('session-revoked');
    });

    test('keep their sessions when nothing changes', async () => {
      const user = await admin();
      const pair = await signIn('admin@b.test');
      await bench.identity.users.patch(user.id, { role: 'admin', disabled: false, email: 'Admin@b.test' });
      expect(await codeOf(bench.identity.verifyAccessToken(pair.accessToken))).toBe('accepted');
    });

    test('who are deleted are out at once', async () => {
      await admin();
      const user = await admin('b@b.test');
      const pair = await signIn('b@b.test');
      await bench.identity.users.remove(user.id);
      expect(await codeOf(bench.identity.verifyAccessToken(pair.accessToken))).toBe('session-revoked');
      expect(await codeOf(bench.identity.users.get(user.id))).toBe('not-found');
      expect(await codeOf(bench.identity.users.remove(user.id))).toBe('not-found');
    });

    test('always have an admin among them who may sign in', async () => {
      const only = await admin();
      const off = await admin('off@b.test');
      await bench.identity.users.patch(off.id, { disabled: true });
      for (const work of [
        () => bench.identity.users.remove(only.id),
        () => bench.identity.users.patch(only.id, { role: 'viewer' }),
        () => bench.identity.users.patch(only.id, { disabled: true }),
      ]) {
        expect(await codeOf(work())).toBe('last-admin');
      }
      expect(await codeOf(bench.identity.users.remove(off.id))).toBe('accepted');
    });

    test('keep one admin when two remove each other at the same moment', async () => {
      const [one, two] = [await admin(), await admin('b@b.test')];
      const codes = await Promise.all([
        codeOf(bench.identity.users.remove(one.id)),
        codeOf(bench.identity.users.patch(two.id, { role: 'viewer' })),
      ]);
      expect(codes.sort()).toEqual(['accepted', 'last-admin']);
    });

    test('are listed newest first, page by page, without their hashes', async () => {
      for (const name of ['a', 'b', 'c']) {
        await admin(`${name}@b.test`);
        bench.clock.advance(1);
      }
      const first = await bench.identity.users.list(null, 2);
      expect(first.map((user) => user.email)).toEqual(['c@b.test', 'b@b.test']);
      expect((await bench.identity.users.list(first[1]?.id ?? null, 2)).map((user) => user.email)).toEqual([
        'a@b.test',
      ]);
      expect(JSON.stringify(first)).not.toContain('argon2');
    });
  });

  describe('the first start', () => {
    test('by eight at once makes one operator and one key, and tells them once', async () => {
      const told: GeneratedCredentials[] = [];
      await Promise.all(
        Array.from({ length: 8 }, () => bench.identity.ensureFirst({}, (generated) => void told.push(generated))),
      );
      expect(told.length).toBe(1);
      const [{ admin: made, apiKey } = { admin: null, apiKey: null }] = told;
      expect(await codeOf(signIn(made?.email ?? '', made?.password))).toBe('accepted');
      expect((await bench.identity.apiKeys.check(apiKey ?? ''))?.scopes).toEqual(['ingest', 'register', 'read']);
      expect(await bench.identity.users.list(null, 9)).toHaveLength(1);
    });

    test('makes nothing when it cannot tell, and tells anew next time', async () => {
      const failing = bench.identity.ensureFirst({}, () => Promise.reject(new Error('disk full')));
      await expect(failing).rejects.toThrow('disk full');
      expect(await bench.identity.users.list(null, 9)).toHaveLength(0);
      const told: GeneratedCredentials[] = [];
      await bench.identity.ensureFirst({}, (generated) => void told.push(generated));
      expect(told[0]?.admin?.email).toBe('admin@tocsin.invalid');
    });

    test('takes what is given, tells nothing, and later adds but never overwrites', async () => {
      const told: GeneratedCredentials[] = [];
      const tell = (generated: GeneratedCredentials): void => void told.push(generated);
      const given = { adminEmail: 'Boss@b.test', adminPassword: PASSWORD, apiKey: 'a key of sixteen or more' };
      await bench.identity.ensureFirst(given, tell);
      await bench.identity.ensureFirst(
        { ...given, adminPassword: 'quite another password', apiKey: 'one more key, this one' },
        tell,
      );
      await bench.identity.ensureFirst({}, tell);
      expect(told).toEqual([]);
      expect(await codeOf(signIn('boss@b.test'))).toBe('accepted');
      expect(await codeOf(signIn('boss@b.test', 'quite another password'))).toBe('credentials-wrong');
      for (const key of ['a key of sixteen or more', 'one more key, this one'])
        expect(await bench.identity.apiKeys.check(key)).not.toBeNull();
      expect(await bench.identity.users.list(null, 9)).toHaveLength(1);
    });

    test('does not bring back a key that was revoked', async () => {
      await bench.identity.ensureFirst({ apiKey: 'a key of sixteen or more' }, () => undefined);
      const key = await bench.identity.apiKeys.check('a key of sixteen or more');
      await bench.identity.apiKeys.revoke(key?.id ?? '');
      await bench.identity.ensureFirst({ apiKey: 'a key of sixteen or more' }, () => undefined);
      expect(await bench.identity.apiKeys.check('a key of sixteen or more')).toBeNull();
    });
  });
});
