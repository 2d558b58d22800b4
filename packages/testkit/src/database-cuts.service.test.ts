/**
 * The whole product over a link to PostgreSQL that breaks all the time, in every way, whatever is under way. Clients do
 * what clients do: the same again until there is an answer that means "done". Then everything is counted, over a link
 * that never broke.
 */
import { randomInt } from 'node:crypto';
import { Agent } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { CodedError } from '@tocsin/server/lib/coded-error';
import { MEASURED_FIELDS } from '@tocsin/server/registry/statistics-fields';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { dropReadingPartitions } from '@tocsin/server/store/postgres/partitions';
import { createRollupStore } from '@tocsin/server/store/postgres/rollups';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Answer, call, post, type ScriptedDevice } from './device.ts';
import { registerFleet } from './fleet.ts';
import { describeWith } from './needs.ts';
import { type PostgresServer, startPostgres } from './postgres-server.ts';
import { type Proxy, startProxy } from './proxy.ts';
import { CREDENTIALS } from './server-process.ts';
import { connectSteadily } from './steady-viewer.ts';
import { startTestApp, type TestApp } from './test-app.ts';

const SENSORS = 8;
const ZONES = 5;
const ENVELOPES_EACH = 12;
const DAY_MS = 86_400_000;
/** Beyond this a caller has waited too long for any answer: ingest says 503 after 5 s, a question after two limits. */
const ANSWER_MS = 25_000;

describeWith(['postgres15-postgis'], 'a link to PostgreSQL that breaks at every moment', () => {
  let postgres: PostgresServer;
  let proxy: Proxy;
  let server: TestApp;
  /** Straight to the server. */
  let direct: Database;
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const strange: Record<string, number> = {};

  beforeAll(async () => {
    postgres = await startPostgres(['max_connections = 100']);
    proxy = await startProxy({ port: postgres.port });
    direct = openDatabase(postgres.url, { applicationName: 'direct' });
    server = await startTestApp({
      DATABASE_URL: proxy.urlFor(postgres.url),
      RATE_LIMIT_PER_KEY: '100000',
      RATE_LIMIT_PER_DEVICE: '100000',
      WS_RECONNECTS_PER_MINUTE: '10000',
      SWARM_SENSORS: String(SENSORS),
    });
  });
  afterAll(async () => {
    agent.destroy();
    proxy?.heal();
    await server?.stop();
    await direct?.close();
    await proxy?.stop();
    await postgres?.stop();
  });

  const count = async (text: string, values: readonly unknown[] = []): Promise<number> =>
    (await direct.query<{ n: number }>(`SELECT count(*) AS n FROM ${text}`, values))[0]?.n ?? -1;

  /** The same again until one of the statuses that mean "done"; 503 means "again", and nothing else ever comes. */
  async function until(what: string, done: readonly number[], ask: () => Promise<Answer>): Promise<Answer> {
    for (;;) {
      const answer = await ask();
      if (done.includes(answer.status)) return answer;
      if (answer.status !== 503) {
        const name = `${what}: ${answer.status} ${JSON.stringify(answer.body)}`;
        strange[name] = (strange[name] ?? 0) + 1;
        return answer;
      }
      // Of sign-ins an address has 60 a minute.
      await pause(what === 'sign-in' ? 700 + randomInt(300) : 20 + randomInt(60));
    }
  }

  const asOperator = (what: string, done: readonly number[], method: string, path: string, body?: unknown) =>
    until(what, done, () =>
      call(server.base + path, {
        method,
        headers: {
          authorization: `Bearer ${server.token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        agent,
        timeoutMs: ANSWER_MS,
      }),
    );

  async function send(device: ScriptedDevice, id: string, at: number): Promise<void> {
    await until('reading', [202, 409], async () => {
      const answer = await post(
        server.base,
        CREDENTIALS.apiKey,
        device.seal(id, { readings: [{ at, value: 7 }] }),
        agent,
      );
      return answer.status === 409 && answer.body?.['code'] !== 'replay' ? { ...answer, status: 0 } : answer;
    });
  }

  /** Breaks the link until `over`; answers how often. */
  async function breakUntil(over: () => boolean): Promise<number> {
    const ways: readonly (() => unknown)[] = [
      () => proxy.reset(),
      () => proxy.reset(),
      async () => {
        proxy.cut();
        await pause(randomInt(50, 400));
        proxy.heal();
      },
      () =>
        direct.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name <> 'direct' AND random() < 0.5`,
        ),
      () =>
        direct.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'direct' AND state <> 'idle'`,
        ),
    ];
    let breaks = 0;
    for (; !over(); breaks += 1) {
      await pause(randomInt(10, 200));
      if (breaks % 25 === 12) {
        proxy.halfOpen();
        await pause(1_500);
        proxy.heal();
      } else await ways[randomInt(ways.length)]?.();
    }
    return breaks;
  }

  /** Old readings for rollups and retention to work on: `recent` of some minutes ago, `old` of 40 days ago. */
  async function seed(now: number, recent: number, old: number): Promise<void> {
    await direct.query('SELECT ensure_reading_partitions($1, 0)', [now - 40 * DAY_MS]);
    await direct.execute(
      `INSERT INTO readings (received_at, at, device, zone, value, envelope_id)
       SELECT t, t, 1000000 + n % 50, NULL, n, 'seed-' || n
       FROM (SELECT n, CASE WHEN n <= $2 THEN $1::bigint - 600000 + n * 20 ELSE $1 - 40 * 86400000::bigint + n END AS t
             FROM generate_series(1, $2::bigint + $3) n) s`,
      [now, recent, old],
    );
  }

  /** Again while the store is away; what it answers then. */
  async function again<Result>(work: () => Promise<Result>): Promise<Result> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof CodedError) || error.code !== 'store-unavailable') throw error;
        await pause(20);
      }
    }
  }

  async function rollUpAndDrop(now: number): Promise<void> {
    const db = openDatabase(proxy.urlFor(postgres.url), { maxConnections: 2, applicationName: 'upkeep' });
    const rollups = createRollupStore(db);
    // Short stretches, so that the link breaks inside of many.
    for (let reached = 0; reached < now - 60_000; await pause(5)) {
      const outcome = await again(() => rollups.roll(now - 60_000, 10_000, MEASURED_FIELDS));
      if (outcome.kind !== 'busy') reached = outcome.until;
    }
    await again(async () => dropReadingPartitions(db, await rollups.release(now - 30 * DAY_MS)));
    await db.close();
  }

  async function actOnAlerts(expected: number): Promise<void> {
    for (;;) {
      const { body } = await asOperator('list', [200], 'GET', '/v1/alerts?kind=seismic.swarm');
      const alerts = body?.['items'] as { id: string }[];
      if (alerts.length < expected) {
        await pause(100);
        continue;
      }
      for (const { id } of alerts) {
        await asOperator('acknowledge', [200], 'POST', `/v1/alerts/${id}/acknowledge`);
        await asOperator('resolve', [200], 'POST', `/v1/alerts/${id}/resolve`);
      }
      return;
    }
  }

  test('loses nothing, does nothing twice, answers everybody, and everything heals', async () => {
    const fleet = await registerFleet(server.base, server.token, { name: 'cut', zones: ZONES, perZone: SENSORS });
    const viewer = await connectSteadily(`${server.base.replace('http', 'ws')}/ws/alerts`, server.token);
    const now = Date.now();
    await seed(now, 20_000, 2_000);

    const quake = Date.now();
    const sending = fleet.flat().map(async (device) => {
      for (let n = 0; n < ENVELOPES_EACH; n += 1) {
        await send(device, `e${n}`, n === 0 ? quake : Date.now() - 61_000);
        await pause(randomInt(500));
      }
    });
    const making = Array.from({ length: 30 }, async (_, n) => {
      await pause(randomInt(4_000));
      await asOperator('zone', [201, 409], 'POST', '/v1/zones', { id: `made-${n}`, name: `Zone ${n}` });
      await asOperator('rename', [200], 'PATCH', `/v1/zones/made-${n}`, { name: `Renamed ${n}` });
      const device = fleet.flat()[n];
      await asOperator('device', [200], 'PATCH', `/v1/devices/${device?.id}`, { latitude: n, longitude: -n });
    });
    const signingIn = Array.from({ length: 4 }, async () => {
      await pause(randomInt(4_000));
      const login = { email: CREDENTIALS.email, password: CREDENTIALS.password };
      await asOperator('sign-in', [200], 'POST', '/v1/auth/login', login);
    });
    let over = false;
    const works = Promise.all([...sending, ...making, ...signingIn, rollUpAndDrop(now), actOnAlerts(ZONES)]);
    const breaking = breakUntil(() => over);
    await works.finally(() => {
      over = true;
    });
    expect(await breaking).toBeGreaterThan(10);
    proxy.heal();

    expect(strange).toEqual({});
    const live = ZONES * SENSORS * ENVELOPES_EACH;
    await expect.poll(() => count('readings WHERE received_at >= $1', [now]), { timeout: 30_000 }).toBe(live);
    expect(await count('(SELECT 1 FROM readings GROUP BY device, envelope_id HAVING count(*) > 1) twice')).toBe(0);
    expect(await count('envelope_ids')).toBe(live);
    expect(await count('log_failures')).toBe(0);
    expect(await count(`zones WHERE id LIKE 'made-%' AND name LIKE 'Renamed %'`)).toBe(30);
    expect(await count('devices WHERE latitude = -longitude')).toBe(30);

    // One alert for each zone, three revisions each, one message for each revision, offsets without a gap.
    expect(await direct.query('SELECT zone_id, state, revision FROM alerts ORDER BY zone_id')).toEqual(
      Array.from({ length: ZONES }, (_, zone) => ({ zone_id: `cut-${zone}`, state: 'resolved', revision: 3 })),
    );
    expect(await direct.query('SELECT "offset" FROM channel_messages ORDER BY "offset"')).toEqual(
      Array.from({ length: 3 * ZONES }, (_, n) => ({ offset: n + 1 })),
    );
    await viewer.reach(3 * ZONES, 15_000);
    expect(viewer.channel().map(({ offset }) => offset)).toEqual(Array.from({ length: 3 * ZONES }, (_, n) => n + 1));
    expect(viewer.faults()).toEqual([]);
    await viewer.close();

    // Old readings are in the rollups exactly once, and gone as rows; recent ones are in both.
    expect(
      await direct.query(
        `SELECT sum(count)::bigint AS n FROM rollups WHERE scope = 'all' AND profile = '*' AND bucket < $1`,
        [now - 60_000],
      ),
    ).toEqual([{ n: 22_000 }]);
    expect(await count('readings WHERE received_at < $1', [now - 30 * DAY_MS])).toBe(0);
    expect(await count(`readings WHERE envelope_id LIKE 'seed-%'`)).toBe(20_000);
    await expect
      .poll(async () => (await call(`${server.base}/health/ready`)).body, { timeout: 15_000 })
      .toMatchObject({ status: 'ok' });
  });
});
