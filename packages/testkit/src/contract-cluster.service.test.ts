/**
 * The contract of many processes, as a stranger would check it: whatever one gateway was told counts at the other, limits
 * hold for all of them together, and nothing happens twice because it was asked at two places.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { newPerson, type Person } from './contract-viewer.ts';
import { type Answer, call, createDevice, post, postJson, type ScriptedDevice } from './device.ts';
import { registerFleet } from './fleet.ts';
import { describeWith } from './needs.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { COMMAND } from './server-process.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer } from './viewer.ts';

const SENSORS = 4;
const RATE = { key: 20, burst: 40, device: 5 };
const CONNECTIONS = { address: 6, reconnects: 5 };
/** What "at once" and "within a second" may take on a machine that does other things too, ms. */
const SECOND_MS = 1000;
/** A reading that is too old for an alarm. */
const historic = () => ({ readings: [{ at: Date.now() - 61_000, value: 1 }] });

describeWith(['redis'], 'two gateways and two workers on one Redis', () => {
  const secret = randomBytes(32).toString('base64url');
  let redis: RedisServer;
  let cluster: TestCluster;
  let a: string;
  let b: string;
  let addresses = 0;
  let ids = 0;

  beforeAll(async () => {
    redis = await startRedis();
    const environment = {
      CLUSTER_SECRET: secret,
      SWARM_SENSORS: String(SENSORS),
      RATE_LIMIT_PER_KEY: String(RATE.key),
      RATE_LIMIT_BURST: String(RATE.burst),
      RATE_LIMIT_PER_DEVICE: String(RATE.device),
      WS_MAX_CONNECTIONS_PER_IP: String(CONNECTIONS.address),
      WS_RECONNECTS_PER_MINUTE: String(CONNECTIONS.reconnects),
      TRUSTED_PROXIES: '127.0.0.1',
    };
    cluster = await startTestCluster({ gateways: 2, workers: 2, redis, environment });
    [a = '', b = ''] = cluster.gateways.map(({ address }) => address);
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
  });

  const newId = (): string => `e${(ids += 1)}`;
  const bearer = (token: string = cluster.token) => ({ authorization: `Bearer ${token}` });
  const fleetOf = async (name: string, perZone: number): Promise<ScriptedDevice[]> =>
    (await registerFleet(a, cluster.token, { name, zones: 1, perZone })).flat();
  const newKey = async (): Promise<{ id: string; key: string }> => {
    const answer = await postJson(`${a}/v1/api-keys`, { name: 'k', scopes: ['ingest'] }, { token: cluster.token });
    expect(answer.status).toBe(201);
    return answer.body as { id: string; key: string };
  };
  const newAddress = (): string => `203.0.113.${(addresses += 1)}`;
  const view = (base: string, token: string, change: { address?: string; resume?: ViewerResume } = {}) =>
    connectViewer(`${base.replace('http', 'ws')}/ws/alerts`, {
      token,
      headers: { 'x-forwarded-for': change.address ?? newAddress() },
      ...(change.resume === undefined ? {} : { resume: change.resume }),
    });
  type ViewerResume = ReturnType<ScriptedViewer['resumePoint']>;
  const closesWith = async (viewer: ScriptedViewer, code: number): Promise<number> => {
    const begun = performance.now();
    expect(await viewer.closed).toMatchObject({ code });
    return performance.now() - begun;
  };
  const count = (answers: readonly Answer[], status: number): number =>
    answers.filter((answer) => answer.status === status).length;
  const keysLike = async (pattern: string): Promise<string[]> =>
    (await redis.cli('--scan', '--pattern', pattern)).split('\n').filter((line) => line !== '');

  test('the limit of an API key holds for both together, and it is one bucket', async () => {
    const [{ id, key }, fleet] = [await newKey(), await fleetOf('k', 14)];
    const jws = fleet.flatMap((device) => Array.from({ length: 8 }, () => device.seal(newId(), historic())));
    const begun = performance.now();
    const answers = await Promise.all(jws.map((text, i) => post(i % 2 === 0 ? a : b, key, text)));
    const seconds = (performance.now() - begun) / 1000;
    expect(count(answers, 202)).toBeGreaterThanOrEqual(RATE.burst);
    expect(count(answers, 202)).toBeLessThanOrEqual(RATE.burst + RATE.key * seconds);
    expect(count(answers, 202) + count(answers, 429)).toBe(jws.length);
    expect(answers.find(({ status }) => status === 429)?.headers).toHaveProperty('retry-after');
    expect(await keysLike(`rl:*${id}*`)).toEqual([`rl:{ingest:key:${id}}`]);
  });

  test('the limit of a device holds for both together, whatever key it comes with', async () => {
    const keys = await Promise.all([newKey(), newKey()]);
    const [device] = await fleetOf('d', 1);
    if (device === undefined) throw new Error('no device');
    const begun = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        post(i % 2 === 0 ? a : b, keys[i % 2]?.key ?? '', device.seal(newId(), historic())),
      ),
    );
    const seconds = (performance.now() - begun) / 1000;
    expect(count(answers, 202)).toBeGreaterThanOrEqual(2 * RATE.device);
    expect(count(answers, 202)).toBeLessThanOrEqual(RATE.device * (2 + seconds));
  });

  test('of one envelope posted to both at the same moment one is accepted, and it is stored once', async () => {
    const [key, fleet] = [await newKey(), await fleetOf('twice', 5)];
    const rounds = await Promise.all(
      fleet.map((device) => {
        const text = device.seal(newId(), historic());
        return Promise.all([a, b, a, b].map((base) => post(base, key.key, text)));
      }),
    );
    for (const answers of rounds) {
      expect([count(answers, 202), count(answers, 409)]).toEqual([1, 3]);
      expect(new Set(answers.map(({ body }) => body?.['code']))).toEqual(new Set([undefined, 'replay']));
    }
    const stored = async (base: string): Promise<unknown> =>
      (await call(`${base}/v1/zones/twice-0/statistics`, { headers: bearer() })).body?.['count'];
    await expect.poll(() => stored(b), { timeout: 3000, interval: 20 }).toBe(fleet.length);
    expect(await stored(a)).toBe(fleet.length);
  });

  test('an id with other content is a conflict at both, also at the same moment', async () => {
    const [key, fleet] = [await newKey(), await fleetOf('conflict', 2)];
    for (const device of fleet) {
      const id = newId();
      const readings = (value: number) => ({ readings: [{ at: 1_000 * Math.floor(Date.now() / 1000 - 61), value }] });
      const texts = [1, 2].map((value) => device.seal(id, readings(value)));
      const answers = await Promise.all(texts.map((text, i) => post(i === 0 ? a : b, key.key, text)));
      expect([count(answers, 202), count(answers, 409)]).toEqual([1, 1]);
      expect(answers.find(({ status }) => status === 409)?.body?.['code']).toBe('id-conflict');
      const loser = texts[answers.findIndex(({ status }) => status === 409)] ?? '';
      for (const base of [a, b]) expect((await post(base, key.key, loser)).body?.['code']).toBe('id-conflict');
    }
  });

  test('what one accepts is in the statistics and lists of the other within a second', async () => {
    const [key, [device]] = [await newKey(), await fleetOf('shown', 1)];
    const read = async (): Promise<unknown> =>
      (await call(`${b}/v1/devices/shown-0-0/statistics`, { headers: bearer() })).body?.['count'];
    expect(await read()).toBe(0);
    expect((await post(a, key.key, device?.seal(newId(), historic()) ?? '')).status).toBe(202);
    await expect.poll(read, { timeout: SECOND_MS, interval: 20 }).toBe(1);
  });

  test('a device that one registers or revokes counts at the other at once', async () => {
    const key = await newKey();
    await fleetOf('standing', 1);
    const device = createDevice('standing-new');
    const unknown = await post(b, key.key, device.seal(newId(), historic()));
    expect([unknown.status, unknown.body?.['code']]).toEqual([403, 'device-unknown']);
    const body = { id: device.id, profile: 'seismic', zoneId: 'standing-0', publicKey: device.publicKeyPem };
    expect((await postJson(`${a}/v1/devices`, body, { token: cluster.token })).status).toBe(201);
    const tryB = async (): Promise<number> => (await post(b, key.key, device.seal(newId(), historic()))).status;
    await expect.poll(tryB, { timeout: 500, interval: 100 }).toBe(202);
    const revoked = await call(`${a}/v1/devices/${device.id}`, { method: 'DELETE', headers: bearer() });
    expect(revoked.status).toBe(204);
    await expect.poll(tryB, { timeout: 500, interval: 100 }).toBe(403);
  });

  test('an API key that one revokes is refused by the other within a second', async () => {
    const [key, [device]] = [await newKey(), await fleetOf('revoked', 1)];
    const tryB = async (): Promise<number> => (await post(b, key.key, device?.seal(newId(), historic()) ?? '')).status;
    expect(await tryB()).toBe(202);
    expect((await call(`${a}/v1/api-keys/${key.id}`, { method: 'DELETE', headers: bearer() })).status).toBe(204);
    await expect.poll(tryB, { timeout: SECOND_MS, interval: 150 }).toBe(401);
  });

  test('a sign-out or a lock at one ends the sockets and the token at the other within a second', async () => {
    const lock = async (person: Person): Promise<Answer> => {
      const users = await call(`${a}/v1/users?limit=500`, { headers: bearer() });
      const items = users.body?.['items'] as { id: string; email: string }[];
      const id = items.find(({ email }) => email === person.email)?.id ?? '';
      return postJson(`${a}/v1/users/${id}`, { disabled: true }, { token: cluster.token }, 'PATCH');
    };
    const signOut = (person: Person): Promise<Answer> => postJson(`${a}/v1/auth/logout`, {}, { token: person.token });
    for (const end of [signOut, lock]) {
      const person = await newPerson(a, cluster.token);
      const viewer = await view(b, person.token);
      expect([200, 204]).toContain((await end(person)).status);
      expect(await closesWith(viewer, 4004)).toBeLessThan(SECOND_MS);
      const session = await call(`${b}/v1/auth/session`, { headers: bearer(person.token) });
      expect(session.status).toBe(401);
      await expect(view(b, person.token)).rejects.toMatchObject({ status: 401 });
    }
  });

  test('of the connections of a person the newest wins, wherever it is', async () => {
    const person = await newPerson(a, cluster.token);
    const first = await view(a, person.token);
    const second = await view(b, person.token);
    await closesWith(first, 4001);
    const third = await view(a, person.token);
    await closesWith(second, 4001);
    await third.close();
  });

  test('connections of an address are counted together, and a place that one gives back is free at the other', async () => {
    const people = await Promise.all(
      Array.from({ length: CONNECTIONS.address + 1 }, () => newPerson(a, cluster.token)),
    );
    const address = newAddress();
    const open: ScriptedViewer[] = [];
    for (const [i, person] of people.slice(0, CONNECTIONS.address).entries()) {
      open.push(await view(i % 2 === 0 ? a : b, person.token, { address }));
    }
    const last = people.at(-1)?.token ?? '';
    for (const base of [a, b]) await expect(view(base, last, { address })).rejects.toMatchObject({ status: 429 });
    await open[0]?.close();
    const again = async (): Promise<number> => {
      try {
        open.push(await view(b, last, { address }));
        return 101;
      } catch (error) {
        return error instanceof HandshakeRefused ? error.status : 0;
      }
    };
    await expect.poll(again, { timeout: 2000, interval: 200 }).toBe(101);
    await Promise.all(open.map((viewer) => viewer.close()));
  });

  test('connects of a person in a minute are counted together', async () => {
    const person = await newPerson(a, cluster.token);
    for (let i = 0; i < CONNECTIONS.reconnects; i += 1) await (await view(i % 2 === 0 ? a : b, person.token)).close();
    for (const base of [a, b]) await expect(view(base, person.token)).rejects.toMatchObject({ status: 429 });
  });

  test('a ticket of one opens one socket, at either', async () => {
    const person = await newPerson(a, cluster.token);
    const issued = await postJson(`${a}/v1/auth/ticket`, {}, { token: person.token });
    const url = (base: string): string =>
      `${base.replace('http', 'ws')}/ws/alerts?ticket=${String(issued.body?.['ticket'])}`;
    const tries = await Promise.allSettled([b, a, b].map((base) => connectViewer(url(base))));
    const opened = tries.filter((result) => result.status === 'fulfilled');
    expect(opened).toHaveLength(1);
    await opened[0]?.value.close();
    await expect(connectViewer(url(b))).rejects.toMatchObject({ status: 401 });
  });

  test('a refresh token that is used at both at once has one successor; an old one ends the family at both', async () => {
    const person = await newPerson(a, cluster.token);
    const refresh = (base: string, refreshToken: string): Promise<Answer> =>
      postJson(`${base}/v1/auth/refresh`, { refresh_token: refreshToken, fingerprint: 'f' });
    const [one, two] = await Promise.all([refresh(a, person.refreshToken), refresh(b, person.refreshToken)]);
    expect([one.status, two.status]).toEqual([200, 200]);
    expect(one.body?.['refresh_token']).toBe(two.body?.['refresh_token']);
    const next = await refresh(b, String(one.body?.['refresh_token']));
    expect(next.status).toBe(200);
    expect((await refresh(a, person.refreshToken)).status).toBe(401);
    const newest = String(next.body?.['access_token']);
    for (const base of [b, a]) {
      const session = async (): Promise<number> =>
        (await call(`${base}/v1/auth/session`, { headers: bearer(newest) })).status;
      await expect.poll(session, { timeout: SECOND_MS, interval: 50 }).toBe(401);
    }
    expect((await refresh(b, String(next.body?.['refresh_token']))).status).toBe(401);
  });

  test('both show the same keys and take the tokens of each other, also after a rotation', async () => {
    const kids = async (base: string): Promise<string[]> => {
      const { keys } = (await call(`${base}/.well-known/jwks.json`)).body as { keys: { kid: string }[] };
      return keys.map(({ kid }) => kid).sort();
    };
    const before = await kids(a);
    expect(await kids(b)).toEqual(before);
    const session = async (base: string, token: string): Promise<number> =>
      (await call(`${base}/v1/auth/session`, { headers: bearer(token) })).status;
    const old = await newPerson(a, cluster.token);
    expect(await session(b, old.token)).toBe(200);
    const env = { PATH: process.env['PATH'], DATABASE_URL: cluster.databaseUrl, CLUSTER_SECRET: secret };
    await promisify(execFile)(process.execPath, [COMMAND, 'keys', 'rotate'], { cwd: tmpdir(), env });
    await expect.poll(() => kids(a), { timeout: 12_000, interval: 100 }).toHaveLength(before.length + 3);
    await expect.poll(() => kids(b), { timeout: 12_000, interval: 100 }).toEqual(await kids(a));
    const fresh = await newPerson(a, cluster.token);
    expect([await session(b, fresh.token), await session(b, old.token)]).toEqual([200, 200]);
  });

  test('alerts reach the viewers of both once, in order, in one epoch; an offset of one resumes at the other', async () => {
    const [key, watcher, other] = [
      await newKey(),
      await newPerson(a, cluster.token),
      await newPerson(a, cluster.token),
    ];
    const names = ['q1', 'q2', 'q3', 'q4'];
    const fleets = await Promise.all(names.map((name) => fleetOf(name, SENSORS)));
    const [atA, atB] = [await view(a, watcher.token), await view(b, other.token)];
    expect(atA.welcome['epoch']).toBe(atB.welcome['epoch']);
    const start = atA.resumePoint();
    const quake = async (fleet: readonly ScriptedDevice[]): Promise<void> => {
      const at = Date.now();
      const answers = await Promise.all(
        fleet.map((device, i) =>
          post(i % 2 === 0 ? a : b, key.key, device.seal(newId(), { readings: [{ at, value: 9 }] })),
        ),
      );
      expect(answers.map(({ status }) => status)).toEqual(fleet.map(() => 202));
    };
    await Promise.all(fleets.slice(0, 2).map(quake));
    const alerts = (viewer: ScriptedViewer): string[] =>
      viewer.channel().flatMap(({ type, data }) => (type === 'alert' ? [(data as { id: string }).id] : []));
    for (const viewer of [atA, atB]) await expect.poll(() => alerts(viewer), { timeout: 5000 }).toHaveLength(2);
    await atA.close();
    await Promise.all(fleets.slice(2).map(quake));
    await expect.poll(() => alerts(atB), { timeout: 5000 }).toHaveLength(4);
    const back = await view(b, watcher.token, { resume: atA.resumePoint() });
    expect(back.welcome['recovered']).toBe(true);
    await expect.poll(() => alerts(back), { timeout: 5000 }).toHaveLength(2);
    expect([...alerts(atA), ...alerts(back)]).toEqual(alerts(atB));
    expect(new Set(alerts(atB)).size).toBe(4);
    await back.close();
    const whole = await view(b, watcher.token, { resume: start });
    await expect.poll(() => whole.channel(), { timeout: 5000 }).toHaveLength(atB.channel().length);
    expect(whole.channel()).toEqual(atB.channel());
    for (const viewer of [atA, atB, back, whole]) expect(viewer.faults).toEqual([]);
    await Promise.all([atB.close(), whole.close()]);
  });
});
