import { engines } from '@tocsin/testkit/engines';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { successorOf } from './refresh.ts';
import { deriveKeys, newSecret } from './secrets.ts';
import type { SessionOpening, TokenPair } from './sessions.ts';
import { type Bench, codeOf, openBench, PASSWORD, SECRET } from './testing.suite.ts';

describe.each(engines)('sessions on %s', (engine) => {
  let bench: Bench;
  let userId: string;

  beforeAll(async () => {
    bench = await openBench({}, engine);
    userId = (await bench.identity.users.create({ email: 'a@b.test', password: PASSWORD, role: 'operator' })).id;
  });
  afterAll(() => bench.close());
  beforeEach(() => bench.clock.advance(3_600_000));

  const open = (more: Partial<SessionOpening> = {}): Promise<TokenPair> =>
    bench.identity.sessions.open({
      subject: userId,
      userId,
      deviceId: null,
      role: 'operator',
      scope: 'api',
      fingerprint: null,
      ...more,
    });
  const refresh = (token: string, fingerprint: string | null = null): Promise<TokenPair> =>
    bench.identity.sessions.refresh(token, fingerprint);
  const check = (pair: TokenPair): Promise<string> => codeOf(bench.identity.verifyAccessToken(pair.accessToken));

  describe('a refresh token', () => {
    test('gives a new pair of the same session, and each token once', async () => {
      const first = await open();
      const second = await refresh(first.refreshToken);
      const third = await refresh(second.refreshToken);
      expect(new Set([first, second, third].map((pair) => pair.refreshToken)).size).toBe(3);
      expect(third.sessionId).toBe(first.sessionId);
      expect(await check(third)).toBe('accepted');
    });

    test('again within 10 s, while its successor is unused, gives the same successor', async () => {
      const first = await open();
      const second = await refresh(first.refreshToken);
      bench.clock.advance(10_000);
      expect((await refresh(first.refreshToken)).refreshToken).toBe(second.refreshToken);
      expect(await check(second)).toBe('accepted');
    });

    test('again later than 10 s ends the session and its access tokens', async () => {
      const first = await open();
      const second = await refresh(first.refreshToken);
      expect(await check(second)).toBe('accepted');
      bench.clock.advance(10_001);
      expect(await codeOf(refresh(first.refreshToken))).toBe('session-revoked');
      expect(await check(second)).toBe('session-revoked');
      expect(await codeOf(refresh(second.refreshToken))).toBe('session-revoked');
      expect(bench.events).toContainEqual(
        expect.objectContaining({ kind: 'refresh', result: 'reuse', sessionId: first.sessionId }),
      );
    });

    test('again after its successor was used ends the session, even at once', async () => {
      const first = await open();
      const second = await refresh(first.refreshToken);
      const third = await refresh(second.refreshToken);
      expect(await codeOf(refresh(first.refreshToken))).toBe('session-revoked');
      expect(await codeOf(refresh(third.refreshToken))).toBe('session-revoked');
    });

    test('used eight times at once by several processes has one successor', async () => {
      const other = await bench.another();
      const first = await open();
      const pairs = await Promise.all(
        Array.from({ length: 8 }, (_, index) =>
          (index % 2 === 0 ? bench.identity : other).sessions.refresh(first.refreshToken, null),
        ),
      );
      expect(new Set(pairs.map((pair) => pair.refreshToken)).size).toBe(1);
      const rows = await bench.database.db.query('SELECT 1 FROM refresh_tokens WHERE session_id = $1', [
        first.sessionId,
      ]);
      expect(rows.length).toBe(2);
    });

    test('with a wrong or missing fingerprint is refused and revokes nothing, even when it was used before', async () => {
      const first = await open({ fingerprint: 'phone-1' });
      expect(await codeOf(refresh(first.refreshToken, 'phone-2'))).toBe('credentials-wrong');
      expect(await codeOf(refresh(first.refreshToken))).toBe('credentials-wrong');
      const second = await refresh(first.refreshToken, 'phone-1');
      bench.clock.advance(20_000);
      expect(await codeOf(refresh(first.refreshToken, 'phone-2'))).toBe('credentials-wrong');
      expect(await check(second)).toBe('accepted');
    });

    test('is over after 7 days without use', async () => {
      const first = await open();
      bench.clock.advance(7 * 86_400_000);
      expect(await codeOf(refresh(first.refreshToken))).toBe('token-expired');
    });

    test.each(['', 'x', newSecret(), `${newSecret()}=`, "' OR 1=1 --"])(
      'that is not known (%s) is refused',
      async (token) => {
        expect(await codeOf(refresh(token))).toBe('token-invalid');
      },
    );

    test('gives the role that the user has now', async () => {
      const viewer = await bench.identity.users.create({ email: 'role@b.test', password: PASSWORD, role: 'viewer' });
      const first = await open({ subject: viewer.id, userId: viewer.id, role: 'viewer' });
      await bench.database.db.execute(`UPDATE users SET role = 'operator' WHERE id = $1`, [viewer.id]);
      const second = await refresh(first.refreshToken);
      expect(await bench.identity.verifyAccessToken(second.accessToken)).toMatchObject({ role: 'operator' });
    });

    test('is not in the store, nor is its successor, which needs the cluster secret to be found', async () => {
      const first = await open();
      await refresh(first.refreshToken);
      const rows = await bench.database.db.query<{ text: string }>(
        'SELECT (refresh_tokens.*)::text AS text FROM refresh_tokens',
      );
      const text = rows.map((row) => row.text).join();
      expect(text).not.toContain(first.refreshToken);
      const foreign = deriveKeys(`${SECRET}!`).refresh;
      expect(successorOf(first.refreshToken, foreign)).not.toBe(
        successorOf(first.refreshToken, deriveKeys(SECRET).refresh),
      );
    });
  });

  describe('the end of a session', () => {
    test('is known to every process at once through the bus', async () => {
      const other = await bench.another();
      const pair = await open();
      expect(await codeOf(other.verifyAccessToken(pair.accessToken))).toBe('accepted');
      const heard = new Promise<readonly string[]>((resolve) => other.sessionState.onEnded(resolve));
      await bench.identity.signOut(pair.sessionId);
      expect(await heard).toEqual([pair.sessionId]);
      expect(await codeOf(other.verifyAccessToken(pair.accessToken))).toBe('session-revoked');
    });

    test('is seen within a second without the bus', async () => {
      const pair = await open();
      expect(await check(pair)).toBe('accepted');
      await bench.database.db.execute('UPDATE sessions SET revoked_at = 1 WHERE id = $1', [pair.sessionId]);
      expect(await check(pair)).toBe('accepted');
      bench.clock.advance(1000);
      expect(await check(pair)).toBe('session-revoked');
    });

    test('cannot be forged on the bus', async () => {
      const pair = await open();
      const heard: string[] = [];
      const stop = bench.identity.sessionState.onEnded((ids) => heard.push(...ids));
      for (const payload of [JSON.stringify({ sessions: [pair.sessionId] }), '{', '[]', 'null', '{"sessions":[1]}']) {
        await bench.bus.pubsub.publish('sessions', payload);
      }
      expect(await check(pair)).toBe('accepted');
      const real = await open();
      await bench.identity.signOut(real.sessionId);
      await expect.poll(() => heard).toEqual([real.sessionId]);
      stop();
    });

    test('is told in batches: ended and unknown ones, never those of outside tokens', async () => {
      const [alive, ended] = [await open(), await open()];
      await bench.identity.signOut(ended.sessionId);
      const dead = await bench.identity.sessionState.dead([alive.sessionId, ended.sessionId, 'never', 'outside.x']);
      expect(dead.sort()).toEqual([ended.sessionId, 'never'].sort());
    });

    test('of a device ends all sessions of it', async () => {
      const device = { subject: 'device:d9', userId: null, role: null, deviceId: 'd9', scope: 'signals' };
      const pairs = [await open(device), await open(device)];
      await bench.identity.sessions.endOfDevice('d9', 'lock');
      expect(await Promise.all(pairs.map(check))).toEqual(['session-revoked', 'session-revoked']);
    });
  });

  describe('a ticket', () => {
    const holder = async () => {
      const pair = await open();
      return { id: userId, role: 'operator' as const, sessionId: pair.sessionId, expiresAt: pair.expiresAt };
    };

    test('stands for its user once, of eight who try', async () => {
      const { tickets } = bench.identity;
      const { ticket, expiresInSeconds } = await tickets.issue(await holder());
      expect(expiresInSeconds).toBe(30);
      const codes = await Promise.all(Array.from({ length: 8 }, () => codeOf(tickets.redeem(ticket))));
      expect(codes.sort()).toEqual(['accepted', ...Array<string>(7).fill('token-invalid')]);
    });

    test('says who holds it and when the token behind it ends', async () => {
      const who = await holder();
      const { ticket } = await bench.identity.tickets.issue(who);
      const { sessionId, expiresAt } = who;
      expect(await bench.identity.tickets.redeem(ticket)).toMatchObject({
        kind: 'user',
        subject: userId,
        role: 'operator',
        sessionId,
        expiresAt,
      });
    });

    test('is over after 30 s, and with the token or the session behind it', async () => {
      const { tickets } = bench.identity;
      const late = await tickets.issue(await holder());
      bench.clock.advance(30_000);
      expect(await codeOf(tickets.redeem(late.ticket))).toBe('token-expired');
      const short = await tickets.issue({ ...(await holder()), expiresAt: bench.clock.now() });
      expect(await codeOf(tickets.redeem(short.ticket))).toBe('token-expired');
      const who = await holder();
      const gone = await tickets.issue(who);
      await bench.identity.signOut(who.sessionId);
      expect(await codeOf(tickets.redeem(gone.ticket))).toBe('session-revoked');
    });

    test('cannot be asked for without end', async () => {
      const who = await holder();
      const codes: string[] = [];
      for (let count = 0; count < 61; count += 1) codes.push(await codeOf(bench.identity.tickets.issue(who)));
      expect(codes.filter((code) => code === 'accepted').length).toBe(60);
      expect(codes.at(-1)).toBe('rate-limited');
    });
  });

  test('what has ended is deleted a day later, and nothing else', async () => {
    const old = await open();
    await bench.identity.signOut(old.sessionId);
    const { ticket } = await bench.identity.tickets.issue({
      id: userId,
      role: 'viewer',
      sessionId: old.sessionId,
      expiresAt: bench.clock.now(),
    });
    bench.clock.advance(86_400_001);
    const living = await open();
    const counts = await bench.identity.cleanup(bench.clock.now());
    expect(counts.sessions).toBeGreaterThan(0);
    expect(counts.tickets).toBeGreaterThan(0);
    expect(await codeOf(bench.identity.tickets.redeem(ticket))).toBe('token-invalid');
    expect(await codeOf(refresh(old.refreshToken))).toBe('token-invalid');
    expect(await check(living)).toBe('accepted');
    expect(await bench.identity.cleanup(bench.clock.now())).toEqual({ sessions: 0, refreshTokens: 0, tickets: 0 });
  });
});
