/**
 * Recorded earthquakes through the log and workers, as they arrived, against `tocsin replay` of the same messages: the same
 * findings, one by one. Only the date is another (the store keeps days around now).
 */
import { createHash } from 'node:crypto';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { sharedPath } from '@tocsin/testkit/machine';
import { describeWith } from '@tocsin/testkit/needs';
import type { AlertFinding } from '@tocsin/protocol/finding';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createReplay } from '../app/commands/replay-network.ts';
import { readMessages, readStations, type RecordedMessage } from '../app/commands/replay-recording.ts';
import { createMeaning } from '../app/meaning.ts';
import type { Finding } from '../detectors/detector.ts';
import type { Place } from '../detectors/travel.ts';
import { partitionOf } from '../lib/partition.ts';
import type { Database } from '../store/ports/database.ts';
import type { EnvelopeAppend, Log } from '../store/ports/log.ts';
import { openDatabase } from '../store/pool.ts';
import { createLog } from '../store/postgres/log.ts';
import { createWorkStore } from '../store/postgres/readings.ts';
import { startWorker, type Worker } from './worker.ts';

/** The second with a station whose clock is an hour late. */
const EVENTS = ['2017_12_16', '2018_1_8'] as const;
/** `LIVE_READING_SECONDS`: what is older is stored, and neither looked at here nor in the replay it is compared with. */
const LIVE_SECONDS = 60;
const everyPartition = Array.from({ length: 16 }, (_, i) => i);
const folder = (name: string): string => sharedPath('data', 'earthquakes', name);

/** What of a finding does not depend on how it got here. */
function essence({ kind, severity, headline, onset, latitude, longitude, evidence }: Finding): unknown {
  const { stations, lane, origin, magnitude, peak, picks } = evidence;
  return { kind, severity, headline, onset, latitude, longitude, stations, lane, origin, magnitude, peak, picks };
}

describeWith(['shared-data'], 'recorded earthquakes, live', () => {
  describe.each(EVENTS)('%s', playing);
});

function playing(event: string): void {
  let database: TestDatabase;
  let log: Log;
  let places: ReadonlyMap<string, Place>;
  let messages: readonly RecordedMessage[];
  const workers: Worker[] = [];

  beforeEach(async () => {
    database = await openTestDatabase();
    log = createLog(database.db);
    await database.db.execute('CREATE TABLE raised (n serial, finding text)');
    places = await readStations(folder('stations.csv'));
    const all: RecordedMessage[] = [];
    for await (const message of readMessages(folder(`${event}.jsonl.gz`), () => undefined)) all.push(message);
    const shift = Date.now() - 5000 - (all.at(-1)?.now ?? 0);
    messages = all.map(({ deviceId, packet, now }) => ({
      deviceId,
      packet: { ...packet, at: Math.round(packet.at + shift) },
      now: now + shift,
    }));
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.stop()));
    await database.close();
  });

  function start(owner: string, db: Database): Worker {
    const settings = {
      swarmSensors: 50,
      swarmWindowSeconds: 10,
      swarmCooldownSeconds: 60,
      liveReadingSeconds: LIVE_SECONDS,
      cpuAlertPercent: 90,
      memoryAlertPercent: null,
      diskAlertPercent: null,
      gpuAlertPercent: null,
      pruneSeconds: 30,
      alertCooldownSeconds: 60,
    };
    const worker = startWorker<never>({
      owner,
      db,
      log: createLog(db),
      store: createWorkStore(db),
      meaning: createMeaning(settings).meaning,
      complete: async ({ finding, key }) => ({ ...finding, fingerprint: `${key} ${finding.onset}` }) as AlertFinding,
      raise: async (sql, findings) => {
        for (const finding of findings)
          await sql.execute('INSERT INTO raised (finding) VALUES ($1)', [JSON.stringify(finding)]);
        return [];
      },
      publish: () => undefined,
      now: () => Date.now(),
      standing: () => ({ rank: 0, workers: 1 }),
      seize: false,
      tickMs: 200,
      events: { retry: () => undefined, failed: () => undefined, lost: () => undefined },
    });
    workers.push(worker);
    return worker;
  }

  function envelope({ deviceId, packet, now }: RecordedMessage, index: number): EnvelopeAppend {
    const [x = [], y = [], z = []] = packet.axes;
    const id = `m${index}`;
    const readings = [{ at: packet.at, rate: packet.rate, x, y, z }];
    const place = places.get(deviceId);
    const context = { device: Number(deviceId) + 1, zone: null, zoneId: null };
    return {
      deviceId,
      envelopeId: id,
      digest: createHash('sha256').update(id).digest(),
      partition: partitionOf(deviceId, log.partitions),
      kind: 'original',
      receivedAt: now,
      traceparent: null,
      context: place === undefined ? context : { ...context, place },
      body: JSON.stringify({ id, at: packet.at, profile: 'seismic', readings }),
    };
  }

  /** Appends messages `from` to `to`, as fast as the log takes them. */
  async function play(from: number, to: number): Promise<void> {
    const all = messages.slice(from, to).map((message, i) => envelope(message, from + i));
    for (let at = 0; at < all.length; at += 100) {
      await log.append(all.slice(at, at + 100));
      for (const worker of workers) worker.wake(everyPartition);
    }
  }

  const done = (worker: Worker): Promise<void> => worker.caughtUp(AbortSignal.timeout(60_000));
  const raised = async (): Promise<AlertFinding[]> =>
    (await database.db.query<{ finding: string }>('SELECT finding FROM raised ORDER BY n')).map(
      ({ finding }) => JSON.parse(finding) as AlertFinding,
    );

  /** Every finding of a replay of the same messages. */
  function replayed(): Finding[] {
    const replay = createReplay(places);
    const findings: Finding[] = [];
    for (const message of messages) {
      if (message.now - message.packet.at <= LIVE_SECONDS * 1000) replay.message(message);
      const latest = replay.alerts().map((alert) => alert.latest);
      for (const finding of latest) if (!findings.includes(finding)) findings.push(finding);
    }
    return findings;
  }

  test('live finds what a replay finds: the same earthquake with the same stations at every revision', async () => {
    const worker = start('one', database.db);
    await play(0, messages.length);
    await done(worker);
    const findings = await raised();
    expect(findings.map(essence)).toEqual(replayed().map(essence));
    expect(new Set(findings.map(({ fingerprint }) => fingerprint)).size).toBe(1);
  });

  test('a backlog of all of it at once comes to the same', async () => {
    await play(0, messages.length);
    await done(start('one', database.db));
    expect((await raised()).map(essence)).toEqual(replayed().map(essence));
  });

  test('a worker dies amid the shaking and another takes over: the same again, one alert, not two', async () => {
    const own = openDatabase(database.url, { applicationName: 'dies' });
    const first = start('dies', own);
    const shaking = replayed()[0]?.onset ?? 0;
    const amid = messages.findIndex(({ now }) => now > shaking + 3000);
    await play(0, amid - 200);
    await done(first);
    await play(amid - 200, amid);
    // Its connections are cut as a killed process's are; what was not committed is lost with it.
    await database.db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dies'`);
    await own.close();
    const second = start('heir', database.db);
    await log.acquire('heir', { among: everyPartition, most: 16, ttlMs: 5000, seize: true });
    await play(amid, messages.length);
    await done(second);
    expect((await raised()).map(essence)).toEqual(replayed().map(essence));
  });
}
