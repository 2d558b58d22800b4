/**
 * One round of the realtime matrix: three instances on one PostgreSQL and one Redis, hundreds of viewers that are cut at
 * random, drills at a steady rate, one fault. Then everything is counted against the channel in the store: every viewer
 * has seen every message once, in order, with the same bytes, and every drill that was answered with 201 is among them.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { type ProcessCluster, startProcessCluster } from './cluster-processes.ts';
import { newPerson } from './contract-viewer.ts';
import { type Crowd, gatherCrowd } from './crowd.ts';
import { type DrillSource, startDrills } from './drill-source.ts';
import type { RealtimeFault } from './realtime-faults.ts';

/** What came of a round. */
export interface RealtimeReport {
  readonly realtime: string;
  readonly round: number;
  readonly viewers: number;
  /** How long the fault lasted, ms. */
  readonly lastedMs: number;
  /** Messages of the channel in the round, by the store. */
  readonly alerts: number;
  /** Over all viewers, and how many it should be. */
  readonly seen: number;
  readonly expected: number;
  /** Viewers that did not reach the head in time. */
  readonly behind: number;
  /** At most a hundred, in words. */
  readonly faults: readonly string[];
  /** Drills answered with 201 that the channel lacks; offsets at which viewers saw another alert than the store has. */
  readonly lost: number;
  readonly different: number;
  readonly cuts: number;
  readonly connects: number;
  readonly closed: Readonly<Record<number, number>>;
  readonly refused: Readonly<Record<number, number>>;
  /** The longest time of any viewer between two watermarks, ms. */
  readonly unprotectedMs: number;
  /** The latest message, and how many were seen more than a second after they were sent. */
  readonly latestMs: number;
  readonly late: number;
  /** Posts that made no alert for sure, by status. */
  readonly notMade: Readonly<Record<number, number>>;
}

/** How much there is of everything. */
export interface RealtimeSize {
  readonly viewers: number;
  readonly alertsPerSecond: number;
  /** Each viewer is cut every so many ms on average. */
  readonly cutEveryMs: number;
}

/** Instances with viewers, ready for rounds. */
export interface RealtimeBench {
  round(fault: RealtimeFault, round: number, lastsMs: number): Promise<RealtimeReport>;
  close(): Promise<void>;
}

/** Viewers share these people. */
const PEOPLE = 10;
const WATERMARK_SECONDS = 1;
/** A connection is given up when nothing came for two watermarks and a little more, ms. */
const SILENT_MS = 2500;
/** From the end of a fault to the end of its round, ms: what it broke shows meanwhile. */
const AFTER_MS = 1500;
const PATIENCE_MS = 45_000;
const FAULTS_MOST = 100;

/** Starts three instances, and gathers the viewers. */
export async function openRealtimeBench(size: RealtimeSize): Promise<RealtimeBench> {
  const cluster = await startProcessCluster({
    gateways: 3,
    workers: 0,
    redis: 'single',
    environment: {
      WS_MAX_CONNECTIONS_PER_USER: '10000',
      WS_RECONNECTS_PER_MINUTE: '1000000',
      WS_HEARTBEAT_SECONDS: '1',
      WS_WATERMARK_SECONDS: String(WATERMARK_SECONDS),
      WS_REAUTHENTICATE_SECONDS: '86400',
      ACCESS_TOKEN_MINUTES: '1440',
      TRUSTED_PROXIES: '127.0.0.1',
      DRAIN_SECONDS: '10',
      LOG_LEVEL: 'warn',
    },
  });
  const db = openDatabase(cluster.postgres.url, { applicationName: 'testkit', maxConnections: 1 });
  const bases = cluster.gateways().map(({ base }) => base);
  const people: string[] = [];
  for (let i = 0; i < PEOPLE; i += 1) people.push((await newPerson(bases[0] ?? '', cluster.token)).token);
  const crowd = await gatherCrowd({
    size: size.viewers,
    urls: bases.map((base) => `${base.replace('http', 'ws')}/ws/alerts`),
    tokens: people,
    silentMs: SILENT_MS,
  });
  const stage: Stage = { cluster, db, bases, crowd, size };
  return {
    round: (fault, round, lastsMs) =>
      runRound(stage, fault, round, lastsMs).catch((error: unknown) => {
        throw new Error(`${fault.name}, round ${round} failed; the instances said:\n${cluster.output()}`, {
          cause: error,
        });
      }),
    async close() {
      crowd.close();
      await db.close();
      await cluster.stop();
    },
  };
}

interface Stage {
  readonly cluster: ProcessCluster;
  readonly db: Database;
  readonly bases: readonly string[];
  readonly crowd: Crowd;
  readonly size: RealtimeSize;
}

async function runRound(
  { cluster, db, bases, crowd, size }: Stage,
  fault: RealtimeFault,
  round: number,
  lastsMs: number,
): Promise<RealtimeReport> {
  const from = await headOf(db);
  if ((await crowd.reach(from, PATIENCE_MS)) > 0) throw new Error('viewers were behind before the round began');
  crowd.calm();
  const drills = startDrills(bases, cluster.token, size.alertsPerSecond);
  crowd.cutEvery(size.cutEveryMs);
  await pause(500);
  const begun = performance.now();
  await fault.run(cluster, lastsMs, round);
  const lastedMs = performance.now() - begun;
  await pause(AFTER_MS);
  crowd.cutEvery(0);
  await drills.stop();
  const rows = await messagesAfter(db, from);
  const head = from + rows.length;
  const behind = await crowd.reach(head, PATIENCE_MS);
  const unprotectedMs = crowd.unprotectedMs();
  const { seen, late, latestMs, cuts, connects, closed, refused } = crowd.counts;
  return {
    realtime: fault.name,
    round,
    viewers: crowd.size,
    lastedMs: Math.round(lastedMs),
    alerts: rows.length,
    seen,
    expected: rows.length * crowd.size,
    behind,
    faults: crowd.faults().slice(0, FAULTS_MOST),
    ...compare(rows, crowd, drills),
    cuts,
    connects,
    closed,
    refused,
    unprotectedMs,
    latestMs,
    late,
    notMade: drills.failed,
  };
}

interface Row {
  readonly offset: number;
  readonly id: string;
}

/** What the store says against what viewers and the poster say. */
function compare(rows: readonly Row[], crowd: Crowd, drills: DrillSource): Pick<RealtimeReport, 'lost' | 'different'> {
  const stored = new Set(rows.map(({ id }) => id));
  return {
    lost: drills.made.filter((id) => !stored.has(id)).length,
    different: rows.filter(({ offset, id }) => crowd.ids.get(offset) !== id).length,
  };
}

async function headOf(db: Database): Promise<number> {
  const [row] = await db.query<{ head: string }>(`SELECT head::text FROM channels WHERE channel = 'alerts'`);
  return Number(row?.head);
}

/** The messages after `from`, as the store has them. Rejects when offsets have a gap. */
async function messagesAfter(db: Database, from: number): Promise<Row[]> {
  const rows = await db.query<{ n: string; id: string }>(
    `SELECT "offset"::text AS n, body::json ->> 'id' AS id FROM channel_messages
     WHERE channel = 'alerts' AND "offset" > $1 ORDER BY "offset"`,
    [from],
  );
  const found = rows.map(({ n, id }) => ({ offset: Number(n), id }));
  const hole = found.findIndex(({ offset }, i) => offset !== from + i + 1);
  if (hole !== -1) throw new Error(`the channel has a gap at ${from + hole + 1}`);
  return found;
}
