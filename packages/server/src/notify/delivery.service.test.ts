import type { Alert } from '@tocsin/protocol/alert';
import { severityRank } from '@tocsin/protocol/alert';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { type PostReceiver, startPostReceiver } from '@tocsin/testkit/post-receiver';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../lib/clock.ts';
import type { NotificationStore } from '../store/ports/notifications.ts';
import { createChannelStore } from '../store/postgres/channels.ts';
import { createNotificationStore } from '../store/postgres/notifications.ts';
import { createDelivery, type Delivery, type DeliveryOptions } from './delivery.ts';
import { alertOf, AT, idOf, messageOf } from './notices.suite.ts';
import type { Notifier } from './notifier.ts';
import { createSlack } from './slack/slack.ts';
import { createSummaryLane } from './summary-lane.ts';

const DAY = 86_400_000;

describe('the delivery to a destination', () => {
  let database: TestDatabase;
  let store: NotificationStore;
  let slack: PostReceiver;
  let deliveries: Delivery[];
  let heard: string[];
  /** Added to the time that has really passed. */
  let ahead: number;
  let offset: number;
  /** The pause of a post that is put off passes at once. */
  let impatient: boolean;

  beforeAll(async () => {
    database = await openTestDatabase();
    store = createNotificationStore(database.db, 'alerts');
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    await database.db.execute('TRUNCATE notification_destinations, channel_messages CASCADE');
    await database.db.execute('UPDATE channels SET head = 0');
    slack = await startPostReceiver();
    deliveries = [];
    heard = [];
    ahead = 0;
    offset = 0;
    impatient = true;
  });
  afterEach(async () => {
    await slack.stop();
    await Promise.all(deliveries.map((delivery) => delivery.stop()));
  });

  const clock: Clock = { now: () => AT + ahead, monotonic: () => performance.now() };
  const raise = async (...alerts: readonly Partial<Alert>[]): Promise<void> => {
    for (const more of alerts) {
      offset += 1;
      const message = messageOf(alertOf({ id: idOf(offset), headline: `alert ${offset}`, offset, ...more }));
      await database.db.execute(
        `INSERT INTO channel_messages (channel, "offset", type, zone_id, severity, created_at, body) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
        [
          ...['channel', 'offset', 'type', 'zoneId', 'severity', 'createdAt', 'body'].map(
            (name) => message[name as 'body'],
          ),
        ],
      );
      await database.db.execute('UPDATE channels SET head = $1', [offset]);
    }
    for (const delivery of deliveries) delivery.wake();
  };
  const notifier = (timeoutMs = 2000): Notifier => createSlack({ url: slack.url, link: null, clock, timeoutMs });
  const begin = async (more: Partial<DeliveryOptions> = {}): Promise<Delivery> => {
    const delivery = createDelivery({
      notifier: notifier(),
      wants: { least: severityRank('moderate'), firstOnly: [] },
      store,
      channel: createChannelStore(database.db),
      channelName: 'alerts',
      clock,
      random: () => 1,
      owner: `w${deliveries.length}`,
      seize: false,
      summaries: null,
      pollMs: 10,
      events: {
        result: (_kind, result, messages) => void heard.push(`${result} ${messages}`),
        delayed: (_destination, reason, _attempts, pauseMs) => {
          heard.push(`${reason} ${pauseMs}`);
          if (impatient) ahead += pauseMs;
        },
        gaveUp: (_destination, reason, messages) => void heard.push(`${reason} ${messages}`),
        failed: (_destination, error) => void heard.push(String(error)),
      },
      ...more,
    });
    deliveries.push(delivery);
    await store.enter('slack');
    delivery.start();
    return delivery;
  };
  const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
    const end = performance.now() + 30_000;
    while (!(await holds())) {
      if (performance.now() > end) throw new Error(`did not come about; heard: ${heard.join(', ')}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const decided = (): Promise<void> =>
    until(async () => (await store.list()).every(({ lag, notBefore }) => lag === 0 && notBefore <= clock.now()));
  const taken = (): string[] => slack.taken().flatMap(({ body }) => body.match(/alert \d+/g) ?? []);
  const keys = (): (string | undefined)[] => slack.posts.map(({ headers }) => String(headers['idempotency-key']));

  test('begins with what is raised after it was set up, in the order of the channel, once', async () => {
    await raise({});
    await begin();
    await raise({}, { severity: 'minor' }, {});
    await decided();
    expect(taken()).toEqual(['alert 2', 'alert 4']);
    expect(keys()).toEqual([`${idOf(2)}.1`, `${idOf(4)}.1`]);
    expect(heard).toEqual(['sent 1', 'sent 1']);
  });

  test('tells when an alert becomes worse and when it is over, also after a restart', async () => {
    const first = await begin();
    const id = idOf(1);
    await raise({ id, severity: 'moderate' });
    await decided();
    await first.stop();
    await begin();
    await raise(
      ...[{ id, severity: 'moderate', revision: 2 } as const, { id, severity: 'severe', revision: 3 } as const],
      ...[
        { id, severity: 'severe', revision: 4, state: 'resolved' } as const,
        { severity: 'minor', state: 'resolved' } as const,
      ],
    );
    await decided();
    expect(keys()).toEqual([1, 3, 4].map((revision) => `${id}.${revision}`));
    expect(slack.posts.map(({ body }) => /\*([A-Z ]+)\*/.exec(body)?.[1])).toEqual([
      'MODERATE',
      'NOW SEVERE',
      'RESOLVED',
    ]);
  });

  test('waits as long as a 429 asks for, and keeps the order', async () => {
    impatient = false;
    slack.script({ status: 429, headers: { 'retry-after': '30' } });
    await begin();
    await raise({}, {});
    await until(() => heard.includes('http-429 30000'));
    // It is told before it is written down.
    const putOff = { notBefore: AT + 30_000, attempts: 1, lastError: 'http-429', position: 0 };
    await expect.poll(async () => (await store.list())[0], { timeout: 10_000 }).toMatchObject(putOff);
    ahead = 29_999;
    await raise({});
    expect(deliveries[0]?.standing()).toMatchObject({ delayed: true, held: true });
    ahead = 30_000;
    await decided();
    expect(taken()).toEqual(['alert 1', 'alert 2', 'alert 3']);
    expect(slack.posts).toHaveLength(4);
  });

  test('backs off while Slack fails for a minute, however it fails, and loses nothing', async () => {
    await begin({ notifier: notifier(100) });
    slack.always({ status: 500 });
    slack.script('close', 'hang', { status: 503 }, { status: 502, headers: { 'retry-after': 'soon' } });
    await raise({}, {}, {});
    await until(() => ahead > 60_000);
    slack.always({ status: 200 });
    await decided();
    expect(taken()).toEqual(['alert 1', 'alert 2', 'alert 3']);
    const pauses = heard.flatMap((each) => /^\S+ (\d+000)$/.exec(each)?.[1] ?? []).map(Number);
    expect(pauses.slice(0, 6)).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000]);
    expect(heard.slice(0, 4)).toEqual(['retry 1', 'ECONNRESET 1000', 'retry 1', 'timeout 2000']);
    expect((await store.list())[0]).toMatchObject({ attempts: 0, told: 3, dead: 0 });
  });

  test('makes a refused alert a dead letter, goes on, and sends it again when somebody asks', async () => {
    slack.script({ status: 404, body: 'no_service' });
    await begin();
    await raise({}, {});
    await decided();
    expect(taken()).toEqual(['alert 2']);
    const [letter] = await store.deadLetters({}, 9);
    expect(letter).toMatchObject({ offset: 1, reason: 'http-404', alertId: idOf(1), revision: 1, event: 'raised' });
    expect(heard).toEqual(['dead 1', 'http-404 1', 'sent 1']);
    slack.script({ status: 503 }, { status: 400 });
    await store.request({}, clock.now());
    await until(async () => (await store.deadLetters({}, 9))[0]?.reason === 'http-400');
    await store.request({}, clock.now());
    await until(async () => (await store.deadLetters({}, 9)).length === 0);
    expect(keys().filter((key) => key === `${idOf(1)}.1`)).toHaveLength(4);
    expect(taken()).toEqual(['alert 2', 'alert 1']);
    expect(await store.told('slack', [idOf(1)])).toEqual(new Map([[idOf(1), 3]]));
  });

  test('makes alerts dead letters that were not told within a day, tried or not', async () => {
    await begin();
    slack.always({ status: 500, headers: { 'retry-after': '86400' } });
    await raise({}, {});
    await until(async () => ahead > DAY && (await store.deadLetters({}, 9)).length === 2);
    slack.always({ status: 200 });
    await raise({ updatedAt: AT + ahead });
    await decided();
    expect(taken()).toEqual(['alert 3']);
    expect((await store.deadLetters({}, 9)).map(({ reason }) => reason)).toEqual(['too-old', 'too-old']);
    expect(heard).toContain('too-old 2');
  });

  test('joins what waits in a flood, each line once, and finds the one that is refused', async () => {
    slack.always({ status: 500 });
    impatient = false;
    await begin();
    await raise(...Array.from({ length: 1000 }, () => ({})));
    await until(() => heard.some((each) => each.startsWith('http-500')));
    slack.always({ status: 200 });
    // The second hundred holds something that Slack does not take.
    slack.script({ status: 200 }, { status: 400 }, ...Array.from({ length: 7 }, () => ({ status: 200 })), {
      status: 400,
    });
    ahead += 60_000;
    await decided();
    const lines = taken();
    expect(new Set(lines).size).toBe(lines.length);
    expect(lines).toHaveLength(999);
    expect(lines).toEqual([...lines].sort((a, b) => Number(a.slice(6)) - Number(b.slice(6))));
    expect((await store.deadLetters({}, 9)).map((letter) => letter.offset)).toHaveLength(1);
    expect(slack.taken().length).toBeLessThan(120);
  });

  test('does not post again what was posted while the store failed to write it down', async () => {
    let failures = 0;
    const flaky: NotificationStore = {
      ...store,
      advance: (hold, step, now) => {
        if (failures < 2 && step.told.length > 0) {
          failures += 1;
          return Promise.reject(new Error('the store is away'));
        }
        return store.advance(hold, step, now);
      },
    };
    await begin({ store: flaky });
    await raise({}, {});
    await decided();
    expect(failures).toBe(2);
    expect(keys()).toEqual([`${idOf(1)}.1`, `${idOf(2)}.1`]);
    expect(await store.told('slack', [idOf(1)])).toEqual(new Map([[idOf(1), 3]]));
  });

  test('passes to another worker, which posts only that again whose outcome was not written down, with the same key', async () => {
    let frozen = false;
    const freezing: NotificationStore = {
      ...store,
      advance: (hold, step, now) => {
        frozen ||= step.to === 2;
        return frozen ? new Promise(() => undefined) : store.advance(hold, step, now);
      },
    };
    const lease = { notifier: notifier(150), leaseBeyondMs: 300 };
    const first = await begin({ store: freezing, ...lease });
    await until(() => first.standing().held);
    await begin(lease);
    expect(deliveries.map((delivery) => delivery.standing().held)).toEqual([true, false]);
    await raise({}, {}, {});
    await until(() => frozen);
    await until(async () => (await store.list())[0]?.position === 3);
    expect(keys()).toEqual([1, 2, 2, 3].map((n) => `${idOf(n)}.1`));
    expect(deliveries[1]?.standing().held).toBe(true);
    deliveries = deliveries.filter((delivery) => delivery !== first);
  });

  test('is given up at a stop, at once', async () => {
    const first = await begin();
    await begin();
    await first.stop();
    await raise({});
    await decided();
    expect(taken()).toEqual(['alert 1']);
  });

  test('counts messages that the channel no longer keeps', async () => {
    const first = await begin();
    await first.stop();
    await raise({}, {}, {});
    await database.db.execute('DELETE FROM channel_messages WHERE "offset" < 3');
    await begin();
    await decided();
    expect(heard).toEqual(['lost 2', 'not-kept 2', 'sent 1']);
    expect((await store.list())[0]).toMatchObject({ lost: 2, told: 1 });
  });

  test('posts of summaries the newest only once Slack takes something again, after the alerts', async () => {
    let made = 0;
    const replaced = (): void => void heard.push('summary-dropped');
    const summaries = createSummaryLane(60_000, () => [`summary ${(made += 1)} a`, `summary ${made} b`], replaced);
    impatient = false;
    slack.script({ status: 429, headers: { 'retry-after': '300' } });
    const delivery = await begin({ summaries });
    await until(() => delivery.standing().held);
    ahead = 60_000;
    await until(() => heard.includes('http-429 300000'));
    for (const [minutes, count] of [
      [2, 1],
      [3, 2],
    ] as const) {
      ahead = minutes * 60_000;
      await until(() => heard.filter((each) => each === 'summary-dropped').length === count);
    }
    await raise({});
    ahead = 365_000;
    await until(() => heard.filter((each) => each === 'summary 1').length === 2);
    expect(slack.taken().map(({ body }) => /summary \d \w|alert \d/.exec(body)?.[0])).toEqual([
      'alert 1',
      `summary ${made} a`,
      `summary ${made} b`,
    ]);
    expect((await store.list())[0]).toMatchObject({ summaryAt: AT + 365_000, attempts: 0 });
  });
});
