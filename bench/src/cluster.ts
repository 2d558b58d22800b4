/**
 * Several gateways and workers on one machine, one PostgreSQL (15, fsync on) and one Redis between them: what a process
 * more brings, and what it costs. They share the cores with everything else, so more processes cannot mean more work
 * done here: the table shows the price of being several, not scaling.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { openDatabase } from '@tocsin/server/store/pool';
import { registerFleet } from '@tocsin/testkit/fleet';
import { startPostgres } from '@tocsin/testkit/postgres-server';
import { startRedis } from '@tocsin/testkit/redis-server';
import { freePort, type ServerProcess, signIn, startServer } from '@tocsin/testkit/server-process';
import { cpuSeconds, prepareGenerator } from './bench-server.ts';
import type { LoadReport } from './generator.ts';
import type { BenchResult, ResultRow } from './table.ts';

const SECONDS = 8;
/** To each gateway. */
const CONNECTIONS = 128;
const SIZES = [1, 2, 3] as const;
const SAMPLE_MS = 50;

/** What one size of cluster did. CPU in microseconds for each envelope accepted. */
interface Measured {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly gatewayCpu: number;
  readonly workerCpu: number;
  readonly postgresCpu: number;
  readonly redisCpu: number;
  /** Backends that waited, on average, by what for. */
  readonly waits: string;
  /** Records that workers had not worked off when the load ended. */
  readonly behind: number;
}

interface Ground {
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly databaseUrl: string;
  readonly postgresPid: number;
  readonly redisPid: number;
}

async function startNodes(
  ground: Ground,
  size: number,
): Promise<{ gateways: ServerProcess[]; workers: ServerProcess[] }> {
  const start = async (role: string): Promise<ServerProcess> => {
    const server = startServer(ground.folder, await freePort(), { ...ground.environment, ROLES: role });
    await server.ready();
    return server;
  };
  const gateways: ServerProcess[] = [];
  const workers: ServerProcess[] = [];
  for (let i = 0; i < size; i += 1) {
    gateways.push(await start('gateway'));
    workers.push(await start('worker'));
  }
  return { gateways, workers };
}

const WAITS = `
SELECT coalesce(wait_event_type || ':' || wait_event, 'running') AS event FROM pg_stat_activity
WHERE application_name = 'tocsin' AND state = 'active' AND pid <> pg_backend_pid()`;

/** Looks again and again at what backends wait for; answers the averages once ended. */
function sampleWaits(url: string): { end(): Promise<string> } {
  const db = openDatabase(url, { maxConnections: 1, applicationName: 'bench' });
  const counts = new Map<string, number>();
  let samples = 0;
  let over = false;
  const running = (async () => {
    while (!over) {
      for (const { event } of await db.query<{ event: string }>(WAITS)) counts.set(event, (counts.get(event) ?? 0) + 1);
      samples += 1;
      await pause(SAMPLE_MS);
    }
  })();
  return {
    end: async () => {
      over = true;
      await running;
      await db.close();
      const sorted = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4);
      return sorted.map(([event, count]) => `${event} ${(count / samples).toFixed(2)}`).join(', ');
    },
  };
}

async function cpuOf(pids: readonly number[]): Promise<number> {
  const all = await Promise.all(pids.map(cpuSeconds));
  return all.reduce((sum, one) => sum + one, 0);
}

async function measure(ground: Ground, size: number, envelopes: number, name = `c${size}`): Promise<Measured> {
  const { gateways, workers } = await startNodes(ground, size);
  try {
    const [first] = gateways;
    if (first === undefined) throw new Error('no gateway');
    const token = await signIn(first.base);
    const fleet = await registerFleet(first.base, token, { name, zones: 10, perZone: 60 });
    const loads = await Promise.all(
      gateways.map(({ base }, i) =>
        prepareGenerator({ port: Number(new URL(base).port) }, fleet.flat(), {
          envelopes: Math.ceil(envelopes / size),
          readings: 1,
          connections: CONNECTIONS,
          seconds: SECONDS,
          ratePerSecond: null,
          run: `g${i}`,
        }),
      ),
    );
    const groups = [
      gateways.map(({ child }) => child.pid ?? 0),
      workers.map(({ child }) => child.pid ?? 0),
      [ground.postgresPid],
      [ground.redisPid],
    ];
    const before = await Promise.all(groups.map(cpuOf));
    const waits = sampleWaits(ground.databaseUrl);
    const reports = await Promise.all(loads.map((load) => load.go()));
    const waited = await waits.end();
    const after = await Promise.all(groups.map(cpuOf));
    const accepted = reports.reduce((sum, report) => sum + (report.answers['202'] ?? 0), 0);
    const [gatewayCpu = 0, workerCpu = 0, postgresCpu = 0, redisCpu = 0] = after.map(
      (used, i) => ((used - (before[i] ?? 0)) * 1e6) / accepted,
    );
    return {
      ...summed(reports),
      perSecond: accepted / Math.max(...reports.map(({ seconds }) => seconds)),
      gatewayCpu,
      workerCpu,
      postgresCpu,
      redisCpu,
      waits: waited,
      behind: await backlog(ground.databaseUrl),
    };
  } finally {
    for (const { child } of [...gateways, ...workers]) child.kill('SIGTERM');
    await Promise.all([...gateways, ...workers].map(({ exited }) => exited));
  }
}

function summed(reports: readonly LoadReport[]): Pick<Measured, 'p50' | 'p99' | 'answers'> {
  const answers: Record<string, number> = {};
  for (const report of reports) {
    for (const [status, count] of Object.entries(report.answers)) answers[status] = (answers[status] ?? 0) + count;
  }
  return {
    answers,
    p50: Math.max(...reports.map(({ p50 }) => p50)),
    p99: Math.max(...reports.map(({ p99 }) => p99)),
  };
}

async function backlog(url: string): Promise<number> {
  const db = openDatabase(url, { maxConnections: 1, applicationName: 'bench' });
  const [row] = await db.query<{ n: number }>(
    'SELECT sum(h.head - p.position)::bigint AS n FROM log_heads h JOIN log_positions p USING (partition)',
  );
  await db.close();
  return row?.n ?? -1;
}

/** Runs the benchmark. */
export async function benchCluster(): Promise<BenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-bench-cluster-'));
  await chmod(folder, 0o755);
  const postgres = await startPostgres();
  const redis = await startRedis();
  const ground: Ground = {
    folder,
    databaseUrl: postgres.url,
    postgresPid: postgres.pid(),
    redisPid: redis.pid(),
    environment: {
      DATABASE_URL: postgres.url,
      REDIS_URL: redis.url,
      CLUSTER_SECRET: 'a secret of the benchmark, 32 long',
      LOG_LEVEL: 'warn',
      RATE_LIMIT_PER_KEY: '1000000',
      RATE_LIMIT_PER_DEVICE: '1000000',
      TIMESTAMP_TOLERANCE_SECONDS: '300',
    },
  };
  try {
    await measure(ground, 1, 10_000, 'warm');
    const all: Measured[] = [];
    for (const size of SIZES) all.push(await measure(ground, size, 80_000));
    const limit = all[0]?.perSecond ?? null;
    const rows = all.map(
      (one, i): ResultRow => ({
        what: `${SIZES[i]} gateway(s) and worker(s): accepted`,
        ours: one.perSecond,
        unit: '/s',
        limit: i === 0 ? null : limit,
        limitIs: i === 0 ? '' : 'one of each, same run',
        aim: '',
      }),
    );
    const notes = all.map((one, i) => describe(SIZES[i] ?? 0, one));
    return {
      name: 'cluster',
      rows,
      notes: [
        ...notes,
        `${availableParallelism()} cores for everything, generators too; PostgreSQL 15, fsync on; Redis 7`,
      ],
    };
  } finally {
    await redis.stop();
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function describe(size: number, one: Measured): string {
  const cost = `µs of CPU an envelope: gateways ${one.gatewayCpu.toFixed(0)}, workers ${one.workerCpu.toFixed(0)}, PostgreSQL ${one.postgresCpu.toFixed(0)}, Redis ${one.redisCpu.toFixed(0)}`;
  const times = `p50 ${one.p50.toFixed(0)} ms, p99 ${one.p99.toFixed(0)} ms at ${CONNECTIONS} connections to each gateway`;
  return `${size}+${size}: ${cost}; ${times}; backends waiting on average: ${one.waits}; behind at the end: ${one.behind} records; answers ${JSON.stringify(one.answers)}`;
}
