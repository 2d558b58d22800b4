/**
 * Live waveforms: what it costs to take stations' packets from the log at the pace of the ground, one packet of 31
 * samples a second each, with the states of their detectors kept in the store; against the same without detectors.
 * Packets are appended to the log by the same process, as a gateway would; signatures are not checked here.
 */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { partitionOf } from '@tocsin/server/lib/partition';
import { silentLogger } from '@tocsin/server/ops/logging';
import { openStore } from '@tocsin/server/store/open';
import type { Database } from '@tocsin/server/store/ports/database';
import type { EnvelopeAppend } from '@tocsin/server/store/ports/log';
import { createLog } from '@tocsin/server/store/postgres/log';
import { cpuSeconds } from './bench-server.ts';
import type { BenchResult } from './table.ts';
import { createWorkOnly } from './work-only.ts';

const RATE = 31;
const SECONDS = 40;
/** Appends a second: the gateways' group commits. */
const SLICES = 20;
const COUNTS: readonly number[] = [1000, 5000];

/** What a run took. Processor time as a share of one core; `behindMs`: age of the oldest packet that waits at the end. */
interface Cost {
  readonly node: number;
  readonly postgres: number;
  readonly walMb: number;
  readonly behindMs: number;
  readonly worstLagMs: number;
  readonly stateBytes: number;
}

/** Runs it. */
export async function benchLive(): Promise<BenchResult> {
  const rows: BenchResult['rows'][number][] = [];
  const notes: string[] = [];
  for (const stations of COUNTS) {
    const plain = await run(stations, false);
    const live = await run(stations, true);
    const row = (what: string, key: keyof Cost, unit: string): void => {
      rows.push({
        what: `${stations} stations, ${what}`,
        ours: live[key],
        unit,
        limit: plain[key],
        limitIs: 'stored without detectors',
        aim: '',
      });
    };
    row('worker and appends', 'node', 'cores');
    row('PostgreSQL', 'postgres', 'cores');
    row('written ahead', 'walMb', 'MB/s');
    row('worst lag', 'worstLagMs', 'ms');
    row('lag at the end', 'behindMs', 'ms');
    notes.push(`${stations} stations: ${live.stateBytes} bytes of state on average, JSON`);
  }
  notes.push(
    `${SECONDS} s at one packet of ${RATE} samples on 3 axes a second and station, fsync on, ${SLICES} appends/s`,
  );
  return { name: 'live', rows, notes };
}

async function run(stations: number, detect: boolean): Promise<Cost> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-bench-'));
  await chmod(folder, 0o755);
  const store = await openStore({ dataDir: join(folder, 'data'), log: silentLogger });
  const { db } = store;
  const worker = createWorkOnly(db, detect);
  try {
    const log = createLog(db);
    const bodies = packets();
    const second = async (n: number, until: number): Promise<void> => {
      for (let slice = 0; slice < SLICES; slice += 1) {
        const wait = until - 1000 + (slice * 1000) / SLICES - Date.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        const now = Date.now();
        const list: EnvelopeAppend[] = [];
        for (let i = slice; i < stations; i += SLICES) list.push(envelope(i, n, now, bodies));
        for (let from = 0; from < list.length; from += 500) await log.append(list.slice(from, from + 500));
        worker.wake(list.map(({ partition }) => partition));
      }
    };
    let worstLagMs = 0;
    const lag = async (): Promise<number> => {
      const [row] = await db.query<{ lag: number }>(LAG, [Date.now()]);
      return Math.max(0, row?.lag ?? 0);
    };
    const began = Date.now();
    await second(0, began + 1000);
    await second(1, began + 2000);
    const postmaster = await postmasterOf(db);
    const [cpu, pg, wal] = [process.cpuUsage(), await cpuSeconds(postmaster), await walBytes(db)];
    const from = performance.now();
    for (let n = 2; n < SECONDS + 2; n += 1) {
      await second(n, began + (n + 1) * 1000);
      worstLagMs = Math.max(worstLagMs, await lag());
    }
    const behindMs = await lag();
    const seconds = (performance.now() - from) / 1000;
    const used = process.cpuUsage(cpu);
    const [state] = await db.query<{ bytes: number }>(
      "SELECT coalesce(avg(length(state)), 0)::double precision AS bytes FROM detector_states WHERE detector = 'station'",
    );
    return {
      node: (used.user + used.system) / 1e6 / seconds,
      postgres: ((await cpuSeconds(postmaster)) - pg) / seconds,
      walMb: ((await walBytes(db)) - wal) / 1e6 / seconds,
      behindMs,
      worstLagMs,
      stateBytes: Math.round(state?.bytes ?? 0),
    };
  } finally {
    await worker.stop();
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const LAG = `
SELECT $1::bigint - min(r.received_at) AS lag FROM log_positions p
JOIN log_records r ON r.partition = p.partition AND r."offset" = p.position + 1`;

async function walBytes(db: Database): Promise<number> {
  const [row] = await db.query<{ bytes: number }>(
    "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::double precision AS bytes",
  );
  return row?.bytes ?? 0;
}

/** The parent of our connection's backend. */
async function postmasterOf(db: Database): Promise<number> {
  const [row] = await db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const stat = await readFile(`/proc/${row?.pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

/** Readings of some packets of noise, without their times. */
function packets(): readonly string[] {
  const axis = (): number[] =>
    Array.from({ length: RATE }, () =>
      Number(((Math.random() + Math.random() + Math.random() - 1.5) / 200).toFixed(5)),
    );
  return Array.from({ length: 64 }, () => JSON.stringify({ x: axis(), y: axis(), z: axis() }).slice(1));
}

function envelope(i: number, n: number, now: number, bodies: readonly string[]): EnvelopeAppend {
  const deviceId = `s${i}`;
  const id = `${n}`;
  const at = now - 1000;
  const reading = `{"at":${at},"rate":${RATE},${bodies[(i * 7 + n) % bodies.length]}`;
  const payload = Buffer.from(`{"id":"${id}","at":${now},"profile":"seismic","readings":[${reading}]}`);
  return {
    deviceId,
    envelopeId: id,
    digest: createHash('sha256').update(`${deviceId} ${id}`).digest(),
    partition: partitionOf(deviceId, 16),
    kind: 'envelope',
    receivedAt: now,
    traceparent: null,
    context: {
      ...{ device: i + 1, zone: 1, zoneId: 'z' },
      place: { latitude: 15 + (i % 70) / 10, longitude: -105 + Math.floor(i / 70) / 10 },
    },
    body: `header.${payload.toString('base64url')}.${'s'.repeat(86)}`,
  };
}
