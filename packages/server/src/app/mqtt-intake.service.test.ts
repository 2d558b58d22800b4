/** Frames and envelopes of MQTT through the whole row, but for the broker: stages, log, worker, readings, statistics. */
import { tmpdir } from 'node:os';
import type { HostFrame } from '@tocsin/protocol/frame';
import { createDevice, type ScriptedDevice } from '@tocsin/testkit/device';
import { describeWith } from '@tocsin/testkit/needs';
import { type PostgresServer, startPostgres } from '@tocsin/testkit/postgres-server';
import { type Proxy, startProxy } from '@tocsin/testkit/proxy';
import { settled } from '@tocsin/testkit/settled';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createLogger } from '../ops/logging.ts';
import { createStatistics } from '../registry/statistics.ts';
import { createRollup } from '../registry/rollup.ts';
import { openDatabase } from '../store/pool.ts';
import { migrate } from '../store/migrate.ts';
import type { Database } from '../store/ports/database.ts';
import { createRollupStore } from '../store/postgres/rollups.ts';
import { createStatisticsStore } from '../store/postgres/statistics.ts';
import type { MqttVerdict } from '../transports/mqtt/message.ts';
import type { Worker } from '../workers/worker.ts';
import { type Ground, openGround } from './ground.ts';
import { createPipeline, type Pipeline } from './pipeline.ts';
import { readSettings } from './settings.ts';

const SECRET = 'a secret of thirty-two characters, or more';
const ACKNOWLEDGE: MqttVerdict = { kind: 'acknowledge' };
const NUMBERS = { cpu_percent: 12.5, mem_percent: 40, disk_percent: 60.25 };
const MOST = 20;

describeWith(['postgres15-postgis'], 'MQTT messages', () => {
  let postgres: PostgresServer;
  let proxy: Proxy;
  let direct: Database;
  let ground: Ground;
  let pipeline: Pipeline;
  let worker: Worker | null;
  const lines: Record<string, unknown>[] = [];
  /** What the board heard, in the order of commits. */
  const heard: HostFrame[] = [];
  const counts = new Map<string, number>();
  /** The pipeline's clock goes so far ahead, ms: a reason is told once a second, and each test wants its own line. */
  let ahead = 0;

  const addDevice = async (
    id: string,
    { profile = 'host', standing = 'active', from = createDevice(id) as ScriptedDevice } = {},
  ): Promise<void> => {
    const der = Buffer.from(from.publicKeyPem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
    await direct.execute(
      `INSERT INTO devices (id, profile, public_key, standing, created_at, updated_at) VALUES ($1, $2, $3, $4, 1, 1)
       ON CONFLICT (id) DO UPDATE SET standing = excluded.standing`,
      [id, profile, der, standing],
    );
    ground?.registry.directory.invalidateAll();
  };

  beforeAll(async () => {
    postgres = await startPostgres();
    proxy = await startProxy({ port: postgres.port });
    direct = openDatabase(postgres.url, { applicationName: 'direct' });
    await migrate(direct);
    const env = {
      DATABASE_URL: proxy.urlFor(postgres.url),
      CLUSTER_SECRET: SECRET,
      MAX_DEVICES: String(MOST),
      PRUNE_SECONDS: '3600',
    };
    const read = readSettings(env, tmpdir());
    if (!('settings' in read)) throw new Error('bad settings');
    const log = createLogger({
      level: 'info',
      pretty: false,
      destination: { write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>) },
    });
    ground = await openGround(read.settings, {
      log,
      clusterSecret: SECRET,
      publicUrl: 'http://127.0.0.1',
      onLost: () => undefined,
    });
    const clock = { now: () => ground.clock.now(), monotonic: () => ground.clock.monotonic() + ahead };
    pipeline = createPipeline(read.settings, { ...ground, clock });
    const { board } = pipeline.live;
    await board.start();
    const hear = board.heard.bind(board);
    board.heard = (device) => {
      heard.push(device.frame);
      hear(device);
    };
    worker = pipeline.startWorker();
  });
  afterAll(async () => {
    proxy?.heal();
    await worker?.stop();
    await pipeline?.live.board.stop();
    await pipeline?.backlog.stop();
    await ground?.close();
    await direct?.close();
    await proxy?.stop();
    await postgres?.stop();
  });
  beforeEach(async () => {
    ahead += 1000;
    lines.length = 0;
    heard.length = 0;
    counts.clear();
    for (const [name, value] of await metrics()) counts.set(name, value);
  });

  /** `<metric> <transport> <label>` and its value. */
  async function metrics(): Promise<[string, number][]> {
    const text = await ground.metrics.text();
    const found = text.matchAll(
      /^tocsin_(accepted|rejected)_total\{transport="mqtt",(?:profile|reason)="([^"]+)"\} (\d+)/gm,
    );
    return [...found].map(([, metric, label, value]) => [`${metric} ${label}`, Number(value)]);
  }
  /** What was counted since the test began. */
  async function counted(): Promise<Record<string, number>> {
    const now = (await metrics()).map(([name, value]) => [name, value - (counts.get(name) ?? 0)] as const);
    return Object.fromEntries(now.filter(([, value]) => value !== 0));
  }
  const publish = (topic: string, payload: string): Promise<MqttVerdict> =>
    pipeline.mqtt({ topic, payload: Buffer.from(payload), traceparent: null });
  const frame = (id: string, timestamp: number, more: Partial<HostFrame> = {}): string =>
    JSON.stringify({ device_id: id, timestamp, ...NUMBERS, ...more });
  const send = (id: string, timestamp: number, more: Partial<HostFrame> = {}): Promise<MqttVerdict> =>
    publish(`devices/${id}/metrics`, frame(id, timestamp, more));
  const readings = (id: string): Promise<Record<string, unknown>[]> =>
    direct.query(
      `SELECT r.at, r.value, r.fields, r.envelope_id AS envelope FROM readings r JOIN devices d ON d.number = r.device
       WHERE d.id = $1 ORDER BY r.at`,
      [id],
    );
  const warnings = (): Record<string, unknown>[] => lines.filter(({ msg }) => msg === 'message refused');

  test('a frame of a host that nobody registered becomes a reading with all of its fields, and statistics', async () => {
    const now = Math.floor(Date.now() / 1000);
    const sent = Date.now();
    expect(await send('web-1', now, { gpu_percent: 7, agent_mem_mb: 31.5 })).toEqual(ACKNOWLEDGE);
    expect(await send('web-1', now + 1, { cpu_percent: 50 })).toEqual(ACKNOWLEDGE);
    await settled(direct);
    const absent = { gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null };
    expect(await readings('web-1')).toMatchObject([
      { at: now * 1000, value: 12.5, fields: { ...NUMBERS, ...absent, gpu_percent: 7, agent_mem_mb: 31.5 } },
      { at: now * 1000 + 1000, value: 50, fields: { ...NUMBERS, ...absent, cpu_percent: 50 } },
    ]);
    const statistics = createStatistics(createStatisticsStore(direct));
    expect(await statistics.device('web-1', { field: 'cpu_percent' })).toMatchObject({
      count: 2,
      mean: 31.25,
      max: 50,
    });
    expect(await statistics.device('web-1', {})).toMatchObject({ count: 2, mean: 31.25 });
    expect(await counted()).toEqual({ 'accepted host': 2 });
    const live = pipeline.live.board.active().get('web-1');
    expect(live?.frame).toEqual({
      device_id: 'web-1',
      timestamp: now + 1,
      ...NUMBERS,
      ...absent,
      cpu_percent: 50,
    });
    expect(live?.heardAt).toBeGreaterThanOrEqual(sent - 1000);
    expect(warnings()).toEqual([]);
  });

  test('the same frame twice, or at once from several sides, is one reading; all are acknowledged', async () => {
    const now = Math.floor(Date.now() / 1000);
    for (let i = 0; i < 2; i += 1) expect(await send('twice', now)).toEqual(ACKNOWLEDGE);
    const same = await Promise.all(Array.from({ length: 5 }, () => send('twice', now + 1)));
    expect(same).toEqual(same.map(() => ACKNOWLEDGE));
    await settled(direct);
    expect(await readings('twice')).toHaveLength(2);
    expect(await counted()).toEqual({ 'accepted host': 2, 'rejected replay': 5 });
    expect(warnings()).toEqual([]);
  });

  test('a frame of the beginning of time and one of its end are stored, counted and rolled up as any', async () => {
    for (const timestamp of [0, 9_007_199_254_740]) expect(await send('clockless', timestamp)).toEqual(ACKNOWLEDGE);
    await settled(direct);
    expect((await readings('clockless')).map(({ at }) => at)).toEqual([0, 9_007_199_254_740_000]);
    const statistics = createStatistics(createStatisticsStore(direct));
    const all = { count: 2, firstAt: 0, lastAt: 9_007_199_254_740_000 };
    expect(await statistics.device('clockless', {})).toMatchObject(all);
    const rollup = createRollup({
      store: createRollupStore(direct),
      completeUntil: async () => Date.now() + 1000,
      failed: () => undefined,
    });
    await rollup.pass();
    expect(await direct.query('SELECT FROM rollups WHERE bucket > 9e15 OR bucket = 0')).not.toEqual([]);
    expect(await statistics.device('clockless', {})).toMatchObject(all);
  });

  test('an envelope goes through the stages of HTTP, but needs no key of an API', async () => {
    const sensor = createDevice('sensor');
    const host = createDevice('signed');
    await addDevice('sensor', { profile: 'seismic', from: sensor });
    await addDevice('signed', { from: host });
    const now = Date.now();
    const topic = (id: string): string => `devices/${id}/readings`;
    const sealed = sensor.seal('e1', { readings: [{ at: now, value: 7 }] });
    for (let i = 0; i < 2; i += 1) expect(await publish(topic('sensor'), sealed)).toEqual(ACKNOWLEDGE);
    const reading = { at: now, ...NUMBERS };
    await publish(
      topic('signed'),
      host.seal('e1', { profile: 'host', readings: [reading, { ...reading, at: now - 1 }] }),
    );
    expect(pipeline.live.board.active().get('signed')?.frame).toMatchObject({
      timestamp: Math.floor(now / 1000),
      ...NUMBERS,
    });
    await publish(topic('signed'), sealed);
    await publish(topic('nobody'), createDevice('nobody').seal('e1', { readings: [{ at: now, value: 1 }] }));
    await publish(topic('sensor'), createDevice('sensor').seal('e2', { readings: [{ at: now, value: 1 }] }));
    await publish(topic('sensor'), sensor.seal('e2', { at: now - 60_000, readings: [{ at: now, value: 1 }] }));
    await publish(topic('sensor'), sensor.seal('e1', { readings: [{ at: now, value: 8 }] }));
    await publish(topic('sensor'), `${'x'.repeat(262_144)}.`);
    await publish(topic('sensor'), 'é.x.y');
    expect(await counted()).toEqual({
      'accepted seismic': 1,
      'accepted host': 1,
      'rejected replay': 1,
      'rejected device-mismatch': 1,
      'rejected device-unknown': 1,
      'rejected signature-invalid': 1,
      'rejected envelope-stale': 1,
      'rejected id-conflict': 1,
      'rejected body-too-large': 1,
      'rejected malformed-jws': 1,
    });
    await settled(direct);
    expect(await readings('sensor')).toHaveLength(1);
  });

  test('while the store is away every message is to come again; then each is taken in once, in its order', async () => {
    const now = Math.floor(Date.now() / 1000);
    expect(await send('steady', now)).toEqual(ACKNOWLEDGE);
    proxy.cut();
    const left: [string, number][] = Array.from({ length: 40 }, (_, i) => [
      i % 2 === 0 ? 'steady' : 'new',
      now + 1 + i,
    ]);
    const verdicts = await Promise.all(left.map(([id, timestamp]) => send(id, timestamp)));
    expect(new Set(verdicts.map(({ kind }) => kind))).toEqual(new Set(['later']));
    expect(verdicts.every((verdict) => verdict.kind === 'later' && verdict.retryAfterMs > 0)).toBe(true);
    expect(Object.keys(await counted())).toEqual(['accepted host', 'rejected store-unavailable']);
    proxy.heal();
    // What a broker's link does: the same again, in its order, until it is acknowledged.
    const until = Date.now() + 30_000;
    while (left.length > 0 && Date.now() < until) {
      const [id, timestamp] = left[0] ?? ['', 0];
      const verdict = await send(id, timestamp);
      if (verdict.kind === 'acknowledge') left.shift();
      else await new Promise((resolve) => setTimeout(resolve, Math.min(200, verdict.retryAfterMs)));
    }
    expect(left).toEqual([]);
    await settled(direct);
    const times = async (id: string): Promise<number[]> =>
      (await readings(id)).map(({ at }) => Number(at) / 1000 - now);
    expect(await times('steady')).toEqual([0, ...Array.from({ length: 20 }, (_, i) => 1 + 2 * i)]);
    expect(await times('new')).toEqual(Array.from({ length: 20 }, (_, i) => 2 + 2 * i));
    const order = await direct.query<{ at: number }>(
      'SELECT r.at FROM readings r JOIN devices d ON d.number = r.device WHERE d.id = $1 ORDER BY r.received_at, r.at',
      ['steady'],
    );
    expect(order.map(({ at }) => at)).toEqual(order.map(({ at }) => at).toSorted((a, b) => a - b));
    expect((await counted())['accepted host']).toBe(41);
  });

  test('messages of one device that come all at once are stored in the order in which they came', async () => {
    const now = Math.floor(Date.now() / 1000);
    const sent = Array.from({ length: 300 }, (_, i) => send('hasty', now - ((i * 7) % 300), { agent_mem_mb: i }));
    const others = Array.from({ length: 300 }, (_, i) => send(`o-${i % 5}`, now + i));
    expect(new Set((await Promise.all([...sent, ...others])).map(({ kind }) => kind))).toEqual(
      new Set(['acknowledge']),
    );
    await settled(direct);
    expect(await readings('hasty')).toHaveLength(300);
    const numbers = heard.filter(({ device_id: id }) => id === 'hasty').map(({ agent_mem_mb: mb }) => mb);
    expect(numbers).toEqual(Array.from({ length: 300 }, (_, i) => i));
    expect((await counted())['accepted host']).toBe(600);
  });

  test('frames of devices that may not speak, of other kinds, or beyond the cap are acknowledged, counted and told without their payload', async () => {
    await addDevice('gone', { standing: 'revoked' });
    await addDevice('asleep', { standing: 'inactive' });
    await addDevice('quake', { profile: 'seismic' });
    const now = Math.floor(Date.now() / 1000);
    for (const id of ['gone', 'asleep', 'quake']) expect(await send(id, now)).toEqual(ACKNOWLEDGE);
    const room = MOST - pipeline.live.board.size();
    for (let i = 0; i < room + 2; i += 1) expect(await send(`cap-${i}`, now)).toEqual(ACKNOWLEDGE);
    expect(await publish('devices/cap-0/metrics', '{"hunter2": NaN}')).toEqual(ACKNOWLEDGE);
    expect(await publish('devices/cap-0/metrics', frame('cap-0', now, { mem_percent: 101 }))).toEqual(ACKNOWLEDGE);
    expect(await publish('devices/cap-0/metrics', ' '.repeat(16_385))).toEqual(ACKNOWLEDGE);
    expect(await counted()).toEqual({
      'accepted host': room,
      'rejected body-too-large': 1,
      'rejected device-cap': 2,
      'rejected device-inactive': 1,
      'rejected device-revoked': 1,
      'rejected malformed-json': 1,
      'rejected schema': 2,
    });
    expect(pipeline.live.board.size()).toBe(MOST);
    expect(warnings().map(({ reason, deviceId }) => [reason, deviceId])).toEqual([
      ['device-revoked', 'gone'],
      ['device-inactive', 'asleep'],
      ['schema', 'quake'],
      ['device-cap', `cap-${room}`],
      ['malformed-json', 'cap-0'],
      ['body-too-large', 'cap-0'],
    ]);
    expect(JSON.stringify(lines)).not.toContain('hunter2');
    // Whoever was refused was not enrolled either.
    expect(await direct.query('SELECT FROM devices WHERE id = $1', [`cap-${room}`])).toEqual([]);
  });
});
