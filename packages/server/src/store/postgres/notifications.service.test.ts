import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { MESSAGES_KEPT_FOR_DESTINATIONS } from '../ports/channels.ts';
import {
  DEAD_LETTERS_KEPT,
  type Destination,
  type NewDeadLetter,
  NOTIFICATIONS_KEPT_MS,
  type NotificationStore,
  type Step,
} from '../ports/notifications.ts';
import { createChannelStore } from './channels.ts';
import { createNotificationStore } from './notifications.ts';

const NOW = 1_795_176_000_000;
const TTL = 60_000;

describe.each(engines)('destinations of notifications on %s', (engine) => {
  let database: TestDatabase;
  let store: NotificationStore;
  beforeAll(async () => {
    database = await openTestDatabase({ engine });
    store = createNotificationStore(database.db, 'alerts');
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    await database.db.execute('TRUNCATE notification_destinations, channel_messages CASCADE');
    await database.db.execute("UPDATE channels SET head = 0, epoch = 'first'");
  });

  const messages = async (to: number, createdAt = NOW): Promise<void> => {
    await database.db.execute(
      `INSERT INTO channel_messages (channel, "offset", type, severity, created_at, body)
       SELECT 'alerts', n, 'alert', 0, $2::bigint, '{}' FROM generate_series(1, $1::integer) n`,
      [to, createdAt],
    );
    await database.db.execute('UPDATE channels SET head = $1', [to]);
  };
  const claimed = async (owner = 'w1', destination = 'slack'): Promise<Destination> => {
    const row = await store.claim(destination, owner, TTL, false);
    if (row === null) throw new Error('another owner has it');
    return row;
  };
  const lapse = (): Promise<number> =>
    database.db.execute('UPDATE notification_destinations SET lease_until = now_ms() - 1');
  const step = (from: number, to: number, more: Partial<Step> = {}): Step => ({
    ...{ from, to, told: [], dead: [], lost: 0, answered: true },
    ...more,
  });
  const dead = (offset: number, reason = 'http-400'): NewDeadLetter => ({
    ...{ offset, alertId: `a${offset}`, revision: 1, event: 'raised', reason },
  });

  test('begin at the head of the channel', async () => {
    await messages(7);
    expect(await claimed()).toEqual({
      ...{ destination: 'slack', position: 7, fence: 1, attempts: 0, notBefore: 0, summaryAt: null },
    });
  });

  test('begin with what comes after they were first known', async () => {
    await messages(3);
    await store.enter('slack');
    await database.db.execute('UPDATE channels SET head = 9');
    await store.enter('slack');
    expect(await claimed()).toMatchObject({ position: 3 });
  });

  test('belong to one owner until the lease ends, then to another under a higher fence', async () => {
    const first = await claimed();
    expect(await store.claim('slack', 'w2', TTL, false)).toBeNull();
    expect(await store.renew(first, TTL)).toBe(true);
    await lapse();
    const second = await claimed('w2');
    expect(second.fence).toBe(first.fence + 1);
    expect(await store.renew(first, TTL)).toBe(false);
    expect(await store.claim('slack', 'w1', TTL, false)).toBeNull();
  });

  test('pass on at once when they are given up, and are seized from a process that is no more', async () => {
    await store.release(await claimed());
    const second = await claimed('w2');
    await store.release({ ...second, fence: 1 });
    expect(await store.claim('slack', 'w1', TTL, false)).toBeNull();
    expect(await store.claim('slack', 'w1', TTL, true)).toMatchObject({ fence: 3 });
  });

  test('move only under the fence and from the position that they were expected at', async () => {
    const old = await claimed();
    await lapse();
    const hold = await claimed('w2');
    expect(await store.advance(old, step(0, 1, { told: [{ alertId: 'a', severity: 3, over: false }] }), NOW)).toBe(
      false,
    );
    expect(await store.advance(hold, step(1, 2, { dead: [dead(2)] }), NOW)).toBe(false);
    expect(await store.told('slack', ['a'])).toEqual(new Map());
    expect(await store.deadLetters({}, 10)).toEqual([]);
    expect(await store.advance(hold, step(0, 2), NOW)).toBe(true);
    expect(await store.advance(hold, step(0, 2), NOW)).toBe(false);
    expect(await store.delay(old, { attempts: 9, notBefore: 9, error: 'x' }, NOW)).toBe(false);
    expect(await store.summaryDue(old, NOW)).toBe(false);
    expect((await store.list())[0]).toMatchObject({ position: 2, attempts: 0 });
  });

  test('remember the worst that was told of an alert until it is over', async () => {
    const hold = await claimed();
    const told = (alertId: string, severity: number, over = false): Step['told'][number] => ({
      alertId,
      severity,
      over,
    });
    await store.advance(hold, step(0, 3, { told: [told('a', 2), told('a', 3), told('b', 4)] }), NOW);
    await store.advance(hold, step(3, 4, { told: [told('b', 1)] }), NOW);
    expect(await store.told('slack', ['a', 'b', 'c'])).toEqual(
      new Map([
        ['a', 3],
        ['b', 4],
      ]),
    );
    expect(await store.told('email', ['a'])).toEqual(new Map());
    await store.advance(hold, step(4, 6, { told: [told('c', 2), told('c', 2, true), told('a', 3, true)] }), NOW);
    expect(await store.told('slack', ['a', 'b', 'c'])).toEqual(new Map([['b', 4]]));
    expect((await store.list())[0]).toMatchObject({ told: 7, lastSentAt: NOW });
  });

  test('keep their retry over a change of owner, and end it with an answer only', async () => {
    const first = await claimed();
    await store.delay(first, { attempts: 3, notBefore: NOW + 9, error: 'http-503' }, NOW);
    await store.summaryDue(first, NOW);
    await lapse();
    const second = await claimed('w2');
    expect(second).toMatchObject({ attempts: 3, notBefore: NOW + 9, summaryAt: NOW });
    await store.advance(second, step(0, 1, { answered: false }), NOW);
    expect((await store.list())[0]).toMatchObject({ attempts: 3, lastError: 'http-503', lastErrorAt: NOW });
    await store.advance(second, step(1, 1), NOW);
    expect((await store.list())[0]).toMatchObject({ attempts: 0, notBefore: 0, position: 1 });
  });

  test('begin anew with a new history of the channel', async () => {
    await messages(5);
    await store.release(await claimed());
    await database.db.execute("UPDATE channels SET head = 2, epoch = 'second'");
    expect(await claimed()).toMatchObject({ position: 0 });
  });

  test('have dead letters, which are tried again when somebody asks for it', async () => {
    const hold = await claimed();
    await store.advance(hold, step(0, 3, { dead: [dead(1), dead(2), dead(3, 'x'.repeat(500))] }), NOW);
    await claimed('w1', 'email');
    const [third, second, first] = await store.deadLetters({}, 10);
    expect(first).toMatchObject({ destination: 'slack', offset: 1, alertId: 'a1', reason: 'http-400', diedAt: NOW });
    expect(third?.reason).toHaveLength(100);
    expect(await store.requested('slack', 10)).toEqual([]);
    expect(await store.request({ destination: 'email' }, NOW)).toBe(0);
    expect(await store.request({ ids: [second?.id ?? 0, first?.id ?? 0] }, NOW + 1)).toBe(2);
    expect(await store.request({ destination: 'slack' }, NOW + 2)).toBe(1);
    expect((await store.requested('slack', 2)).map(({ offset }) => offset)).toEqual([1, 2]);
    const told = { alertId: 'a1', severity: 3, over: false };
    expect(await store.settle({ ...hold, fence: 0 }, first?.id ?? 0, { kind: 'told', told }, NOW)).toBe(false);
    expect(await store.settle(hold, first?.id ?? 0, { kind: 'told', told }, NOW)).toBe(true);
    expect(await store.settle(hold, second?.id ?? 0, { kind: 'dead', reason: 'http-404' }, NOW + 3)).toBe(true);
    expect(await store.told('slack', ['a1'])).toEqual(new Map([['a1', 3]]));
    expect((await store.requested('slack', 10)).map(({ offset }) => offset)).toEqual([3]);
    expect(await store.deadLetters({ ids: [second?.id ?? 0] }, 10)).toMatchObject([
      { reason: 'http-404', diedAt: NOW + 3 },
    ]);
    expect((await store.list()).find(({ destination }) => destination === 'slack')).toMatchObject({
      dead: 3,
      letters: 2,
    });
  });

  test('keep the newest dead letters and count the others', async () => {
    const hold = await claimed();
    const many = Array.from({ length: DEAD_LETTERS_KEPT }, (_, n) => dead(n + 1));
    await store.advance(hold, step(0, DEAD_LETTERS_KEPT, { dead: many }), NOW);
    const from = DEAD_LETTERS_KEPT;
    await store.advance(hold, step(from, from + 3, { dead: [dead(from + 1), dead(from + 2), dead(from + 3)] }), NOW);
    expect((await store.list())[0]).toMatchObject({ letters: DEAD_LETTERS_KEPT, lettersDropped: 3, dead: from + 3 });
    const kept = await database.db.query('SELECT min("offset") AS first FROM notification_dead_letters');
    expect(kept).toEqual([{ first: 4 }]);
  });

  test('say how far behind they are', async () => {
    const hold = await claimed();
    await messages(9);
    await store.advance(hold, step(0, 4, { lost: 4 }), NOW);
    expect((await store.list())[0]).toMatchObject({ lag: 5, held: true, lost: 4 });
    await lapse();
    expect((await store.list())[0]).toMatchObject({ held: false });
  });

  test('forget what is old, dead letters whose message is gone, and themselves when nobody holds them any more', async () => {
    await messages(1);
    await database.db.execute('UPDATE channels SET head = 0');
    const hold = await claimed();
    const told = { alertId: 'old', severity: 3, over: false };
    await store.advance(hold, step(0, 2, { dead: [dead(1), dead(2)], told: [told] }), NOW);
    await store.trim(NOW);
    expect((await store.deadLetters({}, 9)).map(({ offset }) => offset)).toEqual([1]);
    expect((await store.list())[0]).toMatchObject({ lettersDropped: 1 });
    expect((await store.told('slack', ['old'])).size).toBe(1);
    await store.trim(NOW + NOTIFICATIONS_KEPT_MS + 1);
    expect((await store.told('slack', ['old'])).size).toBe(0);
    const age = (held: number): Promise<number> =>
      database.db.execute('UPDATE notification_destinations SET lease_until = 0, held_at = now_ms() - $1::bigint', [
        held,
      ]);
    await age(NOTIFICATIONS_KEPT_MS - 10_000);
    await store.trim(NOW);
    expect(await store.list()).toHaveLength(1);
    await age(NOTIFICATIONS_KEPT_MS + 1);
    await store.trim(NOW);
    expect(await store.list()).toEqual([]);
    expect(await store.deadLetters({}, 9)).toEqual([]);
  });

  test('keep the messages that they have not come to, up to a bound and while somebody delivers', async () => {
    const channels = createChannelStore(database.db);
    const trimmed = async (): Promise<unknown> => {
      while ((await channels.trim('alerts', NOW)) > 0);
      const [row] = await database.db.query<{ first: number }>('SELECT min("offset") AS first FROM channel_messages');
      return row?.first;
    };
    const hold = await claimed();
    await messages(12_000, 0);
    await store.advance(hold, step(0, 500), NOW);
    expect(await trimmed()).toBe(501);
    await database.db.execute('UPDATE channels SET head = $1', [MESSAGES_KEPT_FOR_DESTINATIONS + 1500]);
    expect(await trimmed()).toBe(1501);
    await database.db.execute('UPDATE channels SET head = 12000');
    expect(await trimmed()).toBe(1501);
    await database.db.execute('UPDATE notification_destinations SET held_at = now_ms() - 86400001');
    expect(await trimmed()).toBe(2001);
  });
});
