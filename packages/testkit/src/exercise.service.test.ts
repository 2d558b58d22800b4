/** Simulated fleets on a server that real devices use: exercises beside alarms, over HTTP. */
import { randomBytes } from 'node:crypto';
import type { App } from '@tocsin/server/app/app';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openTestDatabase, type TestDatabase } from './database.ts';
import { call, createDevice, post, postJson, type Answer, type ScriptedDevice } from './device.ts';
import { CREDENTIALS, signIn } from './server-process.ts';
import { settled } from './settled.ts';
import { startAppOn } from './test-app.ts';

const QUORUM = 50;
const environment = {
  CLUSTER_SECRET: randomBytes(32).toString('base64url'),
  RATE_LIMIT_PER_KEY: '100000',
  RATE_LIMIT_BURST: '100000',
};

describe('a simulated fleet on a server with real devices', () => {
  let database: TestDatabase;
  let app: App;
  let token: string;
  beforeAll(async () => {
    database = await openTestDatabase();
    await start();
  });
  afterAll(async () => {
    await app?.stop();
    await database?.close();
  });

  async function start(): Promise<void> {
    app = await startAppOn(database.url, environment);
    await app.ready;
    token = await signIn(app.address);
  }

  const get = (path: string, accept = 'application/json'): Promise<Answer> =>
    call(app.address + path, { headers: { authorization: `Bearer ${token}`, accept } });

  interface Zone {
    readonly id: string;
    readonly real: readonly ScriptedDevice[];
    readonly simulated: readonly ScriptedDevice[];
  }

  /** A zone with a quorum of real and one of simulated devices, these a continent away. */
  async function makeZone(id: string): Promise<Zone> {
    expect((await postJson(`${app.address}/v1/zones`, { id, name: `Zone ${id}` }, { token })).status).toBe(201);
    const fleet = (name: string, more: object): Promise<ScriptedDevice[]> =>
      Promise.all(
        Array.from({ length: QUORUM }, async (_, i) => {
          const device = createDevice(`${id}-${name}-${i}`);
          const body = { id: device.id, profile: 'seismic', zoneId: id, publicKey: device.publicKeyPem, ...more };
          expect((await postJson(`${app.address}/v1/devices`, body, { token })).status).toBe(201);
          return device;
        }),
      );
    const real = await fleet('real', { latitude: 37.5, longitude: 15 });
    return { id, real, simulated: await fleet('sim', { exercise: true, latitude: -33, longitude: 151 }) };
  }

  /** Each of them sends one trigger, all at once; resolves when they are worked off. */
  async function trigger(devices: readonly ScriptedDevice[], at: number): Promise<void> {
    const answers = await Promise.all(
      devices.map((device) =>
        post(app.address, CREDENTIALS.apiKey, device.seal(`t${at}`, { readings: [{ at, value: 5 }] })),
      ),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    await settled(database.db);
  }

  async function alertsOf({ id }: Zone): Promise<Record<string, unknown>[]> {
    return (await get(`/v1/alerts?zone=${id}`)).body?.['items'] as Record<string, unknown>[];
  }
  const devicesIn = (alert: Record<string, unknown>): string[] =>
    (alert['evidence'] as { envelopes: { deviceId: string }[] }).envelopes.map(({ deviceId }) => deviceId).toSorted();
  const idsOf = (devices: readonly ScriptedDevice[]): string[] => devices.map(({ id }) => id).toSorted();
  async function counted(): Promise<string[]> {
    const text = await fetch(`${app.address}/metrics`).then((response) => response.text());
    return text.split('\n').filter((line) => line.startsWith('tocsin_alerts_total{kind="seismic.swarm"'));
  }

  test('a swarm of it is an exercise everywhere: list, CAP, original route; and no page goes out for it', async () => {
    const zone = await makeZone('z9001');
    await trigger(zone.simulated, Date.now());
    const [alert = {}, ...others] = await alertsOf(zone);
    expect(others).toEqual([]);
    expect(alert).toMatchObject({ kind: 'seismic.swarm', severity: 'severe', status: 'exercise', zoneId: zone.id });
    expect(alert['headline']).toBe('Seismic alarm in Zone z9001: 50 sensors within 10 s');
    expect(devicesIn(alert)).toEqual(idsOf(zone.simulated));
    const cap = await fetch(`${app.address}/v1/alerts/${String(alert['id'])}`, {
      headers: { authorization: `Bearer ${token}`, accept: 'application/cap+xml' },
    }).then((response) => response.text());
    expect(cap).toContain('<status>Exercise</status>');
    expect(cap).toContain('<scope>Restricted</scope>');
    const original = await call(`${app.address}/zones/9001/alerts`, { headers: { 'x-api-key': CREDENTIALS.apiKey } });
    expect(original.body).toMatchObject([{ message: `EXERCISE: ${String(alert['headline'])}` }]);
    expect(await counted()).toEqual([]);
  });

  test('it adds no vote: one less than a quorum of each is nothing, the missing real one makes an alarm of real ones', async () => {
    const zone = await makeZone('z9002');
    const at = Date.now();
    await trigger([...zone.simulated.slice(1), ...zone.real.slice(1)], at);
    expect(await alertsOf(zone)).toEqual([]);
    await trigger(zone.real.slice(0, 1), at + 1);
    const alerts = await alertsOf(zone);
    expect(alerts.map(({ status }) => status)).toEqual(['actual']);
    expect(devicesIn(alerts[0] ?? {})).toEqual(idsOf(zone.real));
  });

  test('an alarm beside and after an exercise is raised, where the real devices are, of them alone', async () => {
    const zone = await makeZone('z9003');
    const before = await counted();
    const at = Date.now();
    await trigger(zone.simulated, at);
    expect((await alertsOf(zone)).map(({ status }) => status)).toEqual(['exercise']);
    await trigger([...zone.real, ...zone.simulated], at + 1000);
    const alerts = await alertsOf(zone);
    expect(alerts.map(({ status, onset }) => [status, onset])).toEqual([
      ['actual', at + 1000],
      ['exercise', at],
    ]);
    expect(alerts.map(devicesIn)).toEqual([idsOf(zone.real), idsOf(zone.simulated)]);
    expect(new Set(alerts.map(({ fingerprint }) => fingerprint)).size).toBe(2);
    expect(alerts[0]?.['latitude']).toBeCloseTo(37.5);
    expect(alerts[0]?.['longitude']).toBeCloseTo(15);
    // Counted right after the commit that the test has already seen.
    await expect.poll(counted).not.toEqual(before);
  });

  test('both at the very same time are two alerts', async () => {
    const zone = await makeZone('z9004');
    await trigger([...zone.simulated, ...zone.real], Date.now());
    const alerts = await alertsOf(zone);
    expect(alerts.map(({ status }) => String(status)).toSorted()).toEqual(['actual', 'exercise']);
    expect(new Set(alerts.map(({ fingerprint }) => fingerprint)).size).toBe(2);
  });

  test('a restart amid both keeps them apart', async () => {
    const zone = await makeZone('z9005');
    const at = Date.now();
    await trigger([...zone.simulated.slice(0, 30), ...zone.real.slice(0, 30)], at);
    await app.stop();
    await start();
    await trigger([...zone.simulated.slice(30), ...zone.real.slice(30, 49)], at + 1);
    const alerts = await alertsOf(zone);
    expect(alerts.map(({ status }) => status)).toEqual(['exercise']);
    expect(devicesIn(alerts[0] ?? {})).toEqual(idsOf(zone.simulated));
    await trigger(zone.real.slice(49), at + 2);
    expect((await alertsOf(zone)).map(({ status }) => status)).toEqual(['actual', 'exercise']);
  });

  test('its readings count in statistics, and a simulated device is revoked like any other', async () => {
    const zone = await makeZone('z9006');
    await trigger([...zone.simulated.slice(0, 2), ...zone.real.slice(0, 1)], Date.now());
    expect((await get(`/v1/zones/${zone.id}/statistics`)).body).toMatchObject({ count: 3 });
    const [device] = zone.simulated;
    if (device === undefined) throw new Error('no device');
    const headers = { authorization: `Bearer ${token}` };
    expect((await call(`${app.address}/v1/devices/${device.id}`, { method: 'DELETE', headers })).status).toBe(204);
    const jws = device.seal('later', { readings: [{ at: Date.now(), value: 1 }] });
    expect(await post(app.address, CREDENTIALS.apiKey, jws)).toMatchObject({ body: { code: 'device-revoked' } });
  });
});
