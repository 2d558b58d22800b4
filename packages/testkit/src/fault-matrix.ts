/**
 * One round of the fault matrix, on a cluster of real processes: sixty sensors report to two gateways, viewers watch on
 * both, a fault begins at a random moment, the earth shakes while it lasts and once more after it. Then everything is
 * counted: what was accepted is stored once, each earthquake made one alert, every viewer saw it once and in order.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { openDatabase } from '@tocsin/server/store/pool';
import { type ClusterNode, type ProcessCluster, startProcessCluster } from './cluster-processes.ts';
import { call } from './device.ts';
import { longestGap, type SenderCounts, startSenders } from './fault-senders.ts';
import { type Bench, type Fault, faultName } from './faults.ts';
import { registerFleet } from './fleet.ts';
import { signIn } from './server-process.ts';
import { connectSteadily, type SteadyViewer } from './steady-viewer.ts';

/** What came of a round. */
export interface FaultReport {
  readonly fault: string;
  readonly round: number;
  /** Ms after the first post. */
  readonly begunAfterMs: number;
  /** How long it lasted, until everything was thawed, healed or ready again, ms. */
  readonly lastedMs: number;
  /** The longest time without an acceptance on the gateways that survived, ms. */
  readonly gapMs: number;
  readonly accepted: number;
  /** As the statistics of the zone say. */
  readonly stored: number;
  /** Rows of the zone in the table itself, and of how many different envelopes. */
  readonly rows: number;
  readonly envelopes: number;
  readonly retries: number;
  readonly strange: Readonly<Record<string, number>>;
  /** Alerts of the zone in the store: two earthquakes, two alerts. */
  readonly alerts: number;
  /** `alert` messages of the zone at each viewer. */
  readonly seen: readonly number[];
  /** From the earthquake in the fault until every viewer had its alert, ms. */
  readonly alertMs: number | null;
  /** The same for the earthquake after the fault. */
  readonly laterAlertMs: number | null;
  /** What each node's `ready` said late in the fault: `ok`, `degraded`, a status, or `silent` within 3 s. */
  readonly ready: Readonly<Record<string, string>>;
  /** From the end of the fault until every node's `ready` says `ok`, ms. */
  readonly okAfterMs: number | null;
  readonly viewerFaults: readonly string[];
  readonly viewerConnections: number;
}

/** A cluster that is ready for rounds. */
export interface FaultBench {
  round(fault: Fault, round: number, lastsMs: number): Promise<FaultReport>;
  close(): Promise<void>;
}

const SENSORS = 50;
const DEVICES = 60;
const VIEWERS = 4;
/** A viewer gives up a connection on which nothing, not even a ping, comes for so long. */
const SILENT_MS = 3000;
/** Between the two earthquakes, ms: more than window and cool-down, else they are one. */
const APART_MS = 3000;
/** Longest wait for an alert, or for `ready` to say `ok`. */
const PATIENCE_MS = 45_000;
/** Longest wait for one answer of `ready`; it asks the store for at most 2 s itself. */
const READY_MS = 3000;

/** Written before it is answered: a kill of the process loses nothing. */
const DURABLE = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'];

/** Starts two gateways, two workers, PostgreSQL and Redis. */
export async function openFaultBench(bench: Bench): Promise<FaultBench> {
  const cluster = await startProcessCluster({
    gateways: 2,
    workers: 2,
    redis: bench === 'streams' ? 'single' : bench,
    ...(bench === 'streams' ? { redisArgs: DURABLE } : {}),
    environment: {
      LOG_BACKEND: bench === 'streams' ? 'redis' : 'store',
      RATE_LIMIT_PER_KEY: '100000',
      RATE_LIMIT_PER_DEVICE: '100000',
      WS_RECONNECTS_PER_MINUTE: '10000',
      WS_MAX_CONNECTIONS_PER_USER: String(VIEWERS * 4),
      WS_HEARTBEAT_SECONDS: '1',
      SWARM_SENSORS: String(SENSORS),
      // The readings of an earthquake carry one time, so the two of a round never share a window.
      SWARM_WINDOW_SECONDS: '1',
      SWARM_COOLDOWN_SECONDS: '1',
      LOG_LEVEL: 'warn',
    },
  });
  let rounds = 0;
  return {
    round: (fault, round, lastsMs) => {
      rounds += 1;
      return runRound({ cluster, fault, round, lastsMs, name: `r${rounds}` }).catch((error: unknown) => {
        throw new Error(`${faultName(fault)}, round ${round} failed; the nodes said:\n${cluster.output()}`, {
          cause: error,
        });
      });
    },
    close: () => cluster.stop(),
  };
}

interface Round {
  readonly cluster: ProcessCluster;
  readonly fault: Fault;
  readonly round: number;
  readonly lastsMs: number;
  readonly name: string;
}

async function runRound({ cluster, fault, round, lastsMs, name }: Round): Promise<FaultReport> {
  const bases = cluster.gateways().map(({ base }) => base);
  const first = bases[0] ?? '';
  const token = await signIn(first);
  const zone = `${name}-0`;
  const fleet = (await registerFleet(first, token, { name, zones: 1, perZone: DEVICES })).flat();
  const viewers = await Promise.all(Array.from({ length: VIEWERS }, (_, i) => watch(rotated(bases, i), token)));
  const senders = startSenders(bases, fleet);
  const began = performance.now();
  await pause(randomInt(200, 1200));
  const struckAt = performance.now();
  const running = await fault.begin(cluster, round);
  await pause(randomInt(0, 300));
  const quake = senders.quake();
  const during = follow(quake, viewers, zone);
  let ready = {};
  if (fault.atOnce !== true) {
    const until = struckAt + lastsMs;
    await pause(Math.max(0, until - READY_MS - performance.now()));
    ready = await readiness(cluster.nodes());
    await pause(Math.max(0, until - performance.now()));
  }
  await running.end();
  const endedAt = performance.now();
  const okAfter = allOk(cluster.nodes(), endedAt);
  const alertMs = await during;
  await pause(Math.max(0, quake.at + APART_MS - Date.now()));
  const laterAlertMs = await follow(senders.quake(), viewers, zone);
  const okAfterMs = await okAfter;
  await senders.finish();
  const { counts } = senders;
  const { stored, alerts, head } = await settle(first, token, zone, counts.accepted);
  for (const viewer of viewers) await viewer.reach(head, PATIENCE_MS);
  const { rows, envelopes } = await countRows(cluster, zone);
  const report: FaultReport = {
    fault: faultName(fault),
    round,
    begunAfterMs: Math.round(struckAt - began),
    lastedMs: Math.round(endedAt - struckAt),
    gapMs: Math.round(gapOf(counts, running.surviving, struckAt)),
    accepted: counts.accepted,
    stored,
    rows,
    envelopes,
    retries: counts.retries,
    strange: counts.strange,
    alerts,
    seen: viewers.map((viewer) => viewer.channel().filter(isAlertOf(zone)).length),
    alertMs,
    laterAlertMs,
    ready,
    okAfterMs,
    viewerFaults: viewers.flatMap((viewer) => viewer.faults()),
    viewerConnections: viewers.reduce((sum, viewer) => sum + viewer.connections(), 0),
  };
  await Promise.all(viewers.map((viewer) => viewer.close()));
  return report;
}

function watch(bases: readonly string[], token: string): Promise<SteadyViewer> {
  const [first = '', ...others] = bases.map((base) => `${base.replace('http', 'ws')}/ws/alerts`);
  return connectSteadily([first, ...others], token, { silentMs: SILENT_MS });
}

function rotated<Item>(items: readonly Item[], by: number): Item[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

function isAlertOf(zone: string, onset?: number): (message: { type: string; data?: unknown }) => boolean {
  return ({ type, data }) => {
    const alert = data as { zoneId?: string; onset?: number } | undefined;
    return type === 'alert' && alert?.zoneId === zone && (onset === undefined || alert.onset === onset);
  };
}

/** From an earthquake until every viewer has its alert, ms; null: one never had it. */
async function follow(
  { at, accepted }: { readonly at: number; readonly accepted: Promise<void> },
  viewers: readonly SteadyViewer[],
  zone: string,
): Promise<number | null> {
  const began = performance.now();
  await accepted;
  const seen = await Promise.all(viewers.map((viewer) => viewer.sees(isAlertOf(zone, at), PATIENCE_MS)));
  return seen.includes(false) ? null : Math.round(performance.now() - began);
}

/** What a node's `ready` says. */
async function readyOf({ base }: ClusterNode): Promise<string> {
  const answer = await call(`${base}/health/ready`, { timeoutMs: READY_MS }).catch(() => null);
  if (answer === null) return 'silent';
  return answer.status === 200 ? String(answer.body?.['status']) : String(answer.status);
}

async function readiness(nodes: readonly ClusterNode[]): Promise<Record<string, string>> {
  return Object.fromEntries(await Promise.all(nodes.map(async (node) => [node.name, await readyOf(node)] as const)));
}

/** Until every node says `ok`, ms after `since`; null: not in time. */
async function allOk(nodes: readonly ClusterNode[], since: number): Promise<number | null> {
  for (;;) {
    const answers = await Promise.all(nodes.map(readyOf));
    const passed = performance.now() - since;
    if (answers.every((answer) => answer === 'ok')) return Math.round(passed);
    if (passed > PATIENCE_MS) return null;
    await pause(100);
  }
}

const ROWS = `
SELECT count(*)::integer AS rows, count(DISTINCT (r.device, r.envelope_id))::integer AS envelopes
FROM readings r JOIN zones z ON z.number = r.zone WHERE z.id = $1`;

async function countRows(cluster: ProcessCluster, zone: string): Promise<{ rows: number; envelopes: number }> {
  const db = openDatabase(cluster.postgres.url, { applicationName: 'testkit', maxConnections: 1 });
  try {
    const [counted] = await db.query<{ rows: number; envelopes: number }>(ROWS, [zone]);
    return counted ?? { rows: 0, envelopes: 0 };
  } finally {
    await db.close();
  }
}

function gapOf(counts: SenderCounts, surviving: readonly ClusterNode[], from: number): number {
  return longestGap(
    counts,
    surviving.map(({ base }) => base),
    from,
  );
}

/** Waits until as many are stored as were accepted (more would be wrong too, so it looks again), and reads what else counts. */
async function settle(
  base: string,
  token: string,
  zone: string,
  accepted: number,
): Promise<{ stored: number; alerts: number; head: number }> {
  const read = async (path: string): Promise<Record<string, unknown>> => {
    for (let tries = 0; ; tries += 1) {
      const answer = await call(base + path, { headers: { authorization: `Bearer ${token}` } });
      if (answer.status === 200 && answer.body !== null) return answer.body;
      if (answer.status !== 503 || tries >= 100) throw new Error(`${path}: ${answer.status}`);
      await pause(100);
    }
  };
  const count = async (): Promise<number> => Number((await read(`/v1/zones/${zone}/statistics`))['count']);
  for (let tries = 0; tries < 100 && (await count()) !== accepted; tries += 1) await pause(100);
  await pause(500);
  const stored = await count();
  const alerts = (await read(`/v1/alerts?zone=${zone}`))['items'] as { offset: number }[];
  return { stored, alerts: alerts.length, head: Math.max(0, ...alerts.map((alert) => alert.offset)) };
}
