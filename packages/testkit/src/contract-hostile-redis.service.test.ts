/**
 * Somebody else writes into our Redis: garbage and replays on the channels, other types under our keys, everything
 * deleted, no memory left, a master that is a replica now. Nobody is let in who should not be, nobody who should be is kept
 * out for good, nothing ends, and limits of the whole cluster are back by themselves.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { newPerson, signInAs } from './contract-viewer.ts';
import { type Answer, call, post, postJson, type ScriptedDevice } from './device.ts';
import { registerFleet } from './fleet.ts';
import { describeWith } from './needs.ts';
import { freePort } from './server-process.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { connectViewer, type ScriptedViewer } from './viewer.ts';

const SENSORS = 3;
const RATE = { key: 10, burst: 20 };
const DEVICES = 10;
/** Until a limit of the whole cluster must hold again, ms: the circuit tries again after 5 s at the latest. */
const HEALED = { timeout: 15_000, interval: 300 };

describeWith(['redis'], 'a Redis that somebody else writes into', () => {
  let redis: RedisServer;
  let cluster: TestCluster;
  let a: string;
  let b: string;
  let fleet: ScriptedDevice[];
  let ids = 0;
  let addresses = 0;

  beforeAll(async () => {
    redis = await startRedis();
    const environment = {
      SWARM_SENSORS: String(SENSORS),
      SWARM_COOLDOWN_SECONDS: '1',
      RATE_LIMIT_PER_KEY: String(RATE.key),
      RATE_LIMIT_BURST: String(RATE.burst),
      TRUSTED_PROXIES: '127.0.0.1',
      WS_RECONNECTS_PER_MINUTE: '60',
    };
    cluster = await startTestCluster({ gateways: 2, workers: 1, redis, environment });
    [a = '', b = ''] = cluster.gateways.map(({ address }) => address);
    fleet = (await registerFleet(a, cluster.token, { name: 'h', zones: 1, perZone: DEVICES })).flat();
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
  });

  const bearer = (token: string = cluster.token) => ({ authorization: `Bearer ${token}` });
  const newKey = async (): Promise<{ id: string; key: string }> => {
    const answer = await postJson(`${a}/v1/api-keys`, { name: 'k', scopes: ['ingest'] }, { token: cluster.token });
    return answer.body as { id: string; key: string };
  };
  const view = (base: string, token: string): Promise<ScriptedViewer> =>
    connectViewer(`${base.replace('http', 'ws')}/ws/alerts`, {
      token,
      headers: { 'x-forwarded-for': `203.0.113.${(addresses += 1) % 250}` },
    });
  const historic = () => ({ readings: [{ at: Date.now() - 61_000, value: 1 }] });
  /** Posts twice what one bucket lets through, over both gateways; answers how many were accepted beyond it. */
  const overLimit = async (key: string): Promise<number> => {
    const begun = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 2 * RATE.burst + 2 * DEVICES }, (_, i) => {
        const text = fleet[i % DEVICES]?.seal(`e${(ids += 1)}`, historic()) ?? '';
        return post(i % 2 === 0 ? a : b, key, text);
      }),
    );
    const seconds = (performance.now() - begun) / 1000;
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202, 429]));
    const accepted = answers.filter(({ status }) => status === 202).length;
    return Math.max(0, accepted - Math.floor(RATE.burst + RATE.key * seconds));
  };
  /** A connection that the other process knows of gives way to newer ones there. */
  const losesToNewer = async (open: Awaited<ReturnType<typeof view>>, token: string): Promise<void> => {
    const newer = async (): Promise<number> => {
      const viewer = await view(b, token);
      await Promise.race([open.closed, new Promise((resolve) => setTimeout(resolve, 500))]);
      await viewer.close();
      return open.socket.readyState;
    };
    await expect.poll(newer, HEALED).toBe(open.socket.CLOSED);
    expect(await open.closed).toMatchObject({ code: 4001 });
  };
  const limitsAreShared = (): Promise<void> => expect.poll(async () => overLimit((await newKey()).key), HEALED).toBe(0);
  const newestWins = (): Promise<void> =>
    expect
      .poll(async () => {
        const person = await newPerson(a, cluster.token);
        const first = await view(a, person.token);
        const second = await view(b, person.token);
        const ended = await Promise.race([
          first.closed.then(({ code }) => code),
          new Promise<number>((resolve) => setTimeout(() => resolve(0), 1000)),
        ]);
        await Promise.all([first, second].map((viewer) => viewer.close()));
        return ended;
      }, HEALED)
      .toBe(4001);
  const alarmArrives = async (): Promise<void> => {
    const key = await newKey();
    const people = await Promise.all([newPerson(a, cluster.token), newPerson(b, cluster.token)]);
    const viewers = await Promise.all(people.map(({ token }, i) => view(i === 0 ? a : b, token)));
    // Beyond the cool-down of the alarm before, and stronger: a new one.
    const at = Date.now();
    ids += 1;
    for (const device of fleet.slice(0, SENSORS)) {
      const text = device.seal(`q${ids}`, { readings: [{ at, value: 10 ** (2 + (alarms % 200)) }] });
      expect((await post(a, key.key, text)).status).toBe(202);
    }
    alarms += 1;
    for (const viewer of viewers) {
      await viewer.until(({ type }) => type === 'alert', 5000);
      expect(viewer.faults).toEqual([]);
      await viewer.close();
    }
  };
  let alarms = 0;
  const ready = async (base: string): Promise<Answer> => call(`${base}/health/ready`);
  const whole = async (): Promise<void> => {
    await limitsAreShared();
    await newestWins();
    await alarmArrives();
    for (const base of [a, b]) await expect.poll(async () => (await ready(base)).body?.['status'], HEALED).toBe('ok');
  };
  const allKeys = async (): Promise<string[]> => (await redis.cli('--scan')).split('\n').filter((line) => line !== '');

  beforeEach(async () => {
    await redis.cli('config', 'set', 'maxmemory', '0');
    await redis.cli('replicaof', 'no', 'one');
  });

  test('garbage, forged and huge messages on every channel, and messages moved to another, do nothing', async () => {
    const person = await newPerson(a, cluster.token);
    const viewer = await view(b, person.token);
    const channels = (await redis.cli('pubsub', 'channels')).split('\n');
    expect(channels).toContain('bus:{sessions}');
    const session = await call(`${b}/v1/auth/session`, { headers: bearer(person.token) });
    const texts = [
      '',
      'x',
      '\u0001\uffff',
      `${'A'.repeat(43)}.${Date.now()}.AAAAAAAAAAAAm1.{"sessions":["${String(session.body?.['session_id'])}"]}`,
      JSON.stringify({ type: 'session-revoked', sessions: [session.body?.['session_id']] }),
      `${'A'.repeat(43)}.${'9'.repeat(400)}.x`,
      'y'.repeat(100_000),
    ];
    for (const channel of channels) for (const text of texts) await redis.cli('publish', channel, text);
    const huge = `${'A'.repeat(43)}.${Date.now()}.`;
    await redis.cli(
      'eval',
      `return redis.call('PUBLISH', KEYS[1], ARGV[1] .. string.rep('z', 3000000))`,
      '1',
      'bus:{registry}',
      huge,
    );
    expect((await call(`${b}/v1/auth/session`, { headers: bearer(person.token) })).status).toBe(200);
    expect(viewer.socket.readyState).toBe(viewer.socket.OPEN);
    await viewer.close();
    await whole();
  });

  test('other types under all of our keys are put right', async () => {
    const [key, person] = [await newKey(), await newPerson(a, cluster.token)];
    const open = await view(a, person.token);
    await overLimit(key.key);
    const names = await allKeys();
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) {
      await redis.cli('del', name);
      await redis.cli('rpush', name, 'garbage');
    }
    expect((await ready(b)).status).toBe(200);
    // A bucket that cannot be read is a new one.
    await expect.poll(() => overLimit(key.key), HEALED).toBe(0);
    await expect.poll(async () => redis.cli('type', `rl:{ingest:key:${key.id}}`), HEALED).toBe('string');
    // The place that was taken before is known again, and lost to a newer connection elsewhere.
    await losesToNewer(open, person.token);
    await whole();
  });

  test('a board that was written over while leases live is joined anew by everybody', async () => {
    const person = await newPerson(a, cluster.token);
    const open = await view(a, person.token);
    const boards = (await allKeys()).filter((name) => name.startsWith('session:board:'));
    expect(boards.length).toBeGreaterThan(0);
    for (const name of boards) {
      await redis.cli('del', name);
      await redis.cli('rpush', name, 'garbage');
    }
    await losesToNewer(open, person.token);
    await whole();
  });

  test('texts that are none of ours under our keys are put right, and keep nobody out', async () => {
    const [key, person] = [await newKey(), await newPerson(a, cluster.token)];
    await overLimit(key.key);
    for (let i = 0; i < 10; i += 1) {
      const who = { email: person.email, password: 'wrong' };
      await postJson(`${i % 2 === 0 ? a : b}/v1/auth/login`, who);
    }
    const cells = (await allKeys()).filter((name) => name.startsWith('rl:'));
    expect(cells.some((name) => name.includes(':blocked'))).toBe(true);
    for (const name of cells) await redis.cli('set', name, 'garbage');
    expect((await signInAs(b, person)).token).not.toBe('');
    expect(await overLimit(key.key)).toBe(0);
    // As after a failover to a machine whose clock is behind by an hour.
    await redis.cli('set', `rl:{ingest:key:${key.id}}`, `0 ${Date.now() + 3_600_000}`);
    const accepted = async (): Promise<number> =>
      (await post(a, key.key, fleet[0]?.seal(`e${(ids += 1)}`, historic()) ?? '')).status;
    await expect.poll(accepted, { timeout: 5000, interval: 250 }).toBe(202);
    await whole();
  });

  test('processes and connections that never were take no place', async () => {
    const person = await newPerson(a, cluster.token);
    const first = await view(a, person.token);
    const boards = (await allKeys()).filter((name) => name.startsWith('session:board:'));
    for (const name of [...boards, 'session:board:{ws:ip:198.51.100.7}']) {
      const ghosts = Array.from({ length: 120 }, (_, i) => [String(i), `ghost/lease/${i}`]).flat();
      await redis.cli('zadd', name, ...ghosts, '-inf', 'x', 'inf', 'a/b', '0', '');
    }
    await redis.cli('zadd', 'session:{instances}', '-1', 'x', '99999999999999', 'nobody', 'inf', '');
    const other = await newPerson(a, cluster.token);
    const viewer = await connectViewer(`${b.replace('http', 'ws')}/ws/alerts`, {
      token: other.token,
      headers: { 'x-forwarded-for': '198.51.100.7' },
    });
    await viewer.close();
    expect(first.socket.readyState).toBe(first.socket.OPEN);
    await first.close();
    await expect.poll(() => redis.cli('zscore', 'session:{instances}', 'nobody'), HEALED).toBe('');
    await whole();
  });

  test('everything deleted while it runs comes back', async () => {
    const person = await newPerson(a, cluster.token);
    const first = await view(a, person.token);
    await redis.cli('flushall');
    await redis.cli('script', 'flush');
    await expect
      .poll(async () => (await allKeys()).filter((name) => name.startsWith('session:board:')).length, HEALED)
      .toBeGreaterThan(0);
    const second = await view(b, person.token);
    expect(await first.closed).toMatchObject({ code: 4001 });
    await second.close();
    await whole();
  });

  test.each([
    ['a Redis without memory', ['config', 'set', 'maxmemory', '1'], ['config', 'set', 'maxmemory', '0']],
    ['a master that became a replica', ['replicaof', '127.0.0.1', 'PORT'], ['replicaof', 'no', 'one']],
  ])('%s stops nothing, and is used again once it is well', async (_, harm, heal) => {
    const port = String(await freePort());
    const key = await newKey();
    await redis.cli(...harm.map((word) => word.replace('PORT', port)));
    const begun = performance.now();
    for (let i = 0; i < 3; i += 1) {
      await alarmArrives();
      await overLimit(key.key);
      expect((await ready(a)).status).toBe(200);
    }
    expect((performance.now() - begun) / 1000).toBeLessThan(30);
    await redis.cli(...heal);
    await whole();
  });
});
