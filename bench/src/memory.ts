/**
 * What it costs to know many: memory of the server, and processor time of an envelope, with 1,000, 10,000 and 100,000 registered
 * devices that have all spoken, with few and many zones, and with all devices in one partition of the log or in twelve.
 *
 * Devices are written into the store directly, beside the running server; everything else goes over HTTP.
 */
import { createPublicKey } from 'node:crypto';
import { createKey } from '@tocsin/device/key';
import { FLEET_DEFAULTS, type FleetDevice } from '@tocsin/device/simulate/fleet';
import { runFleetProcesses } from '@tocsin/device/simulate/fleet-processes';
import type { FleetReport } from '@tocsin/device/simulate/fleet-report';
import { devicePartitions, partitionOf } from '@tocsin/server/lib/partition';
import { silentLogger } from '@tocsin/server/ops/logging';
import { openStore } from '@tocsin/server/store/open';
import { CREDENTIALS } from '@tocsin/testkit/server-process';
import { type BenchServer, cpuOf, startBenchServer } from './bench-server.ts';
import type { BenchResult, ResultRow } from './table.ts';

const PARTITIONS = 16;
const RATE = 1500;
const SECONDS = 12;
const INSERT_ROWS = 5000;

/** A fleet to measure with. */
interface Shape {
  readonly what: string;
  readonly devices: number;
  readonly zones: number;
  /** Of those for devices. */
  readonly partitions: number;
  readonly profile: 'host' | 'seismic';
}

const ALL = devicePartitions(PARTITIONS);
const SHAPES: readonly Shape[] = [
  { what: '1,000 devices', devices: 1000, zones: 10, partitions: ALL, profile: 'host' },
  { what: '10,000 devices', devices: 10_000, zones: 10, partitions: ALL, profile: 'host' },
  { what: '100,000 devices', devices: 100_000, zones: 10, partitions: ALL, profile: 'host' },
  { what: '5,000 sensors, 10 zones', devices: 5000, zones: 10, partitions: ALL, profile: 'seismic' },
  { what: '5,000 sensors, 100 zones', devices: 5000, zones: 100, partitions: ALL, profile: 'seismic' },
  { what: '5,000 sensors, 1,000 zones', devices: 5000, zones: 1000, partitions: ALL, profile: 'seismic' },
  { what: '1,000 devices, 1 partition', devices: 1000, zones: 10, partitions: 1, profile: 'host' },
  { what: '1,000 devices, 4 partitions', devices: 1000, zones: 10, partitions: 4, profile: 'host' },
];

/** What one shape costs. */
interface Cost {
  readonly shape: Shape;
  /** MB: just started, and after every device has spoken and the load has ended. */
  readonly before: Memory;
  readonly after: Memory;
  /** µs an envelope. */
  readonly server: number;
  readonly postgres: number;
  readonly report: FleetReport;
}

interface Memory {
  readonly resident: number;
  readonly heap: number;
}

/** Runs the benchmark. */
export async function benchMemory(): Promise<BenchResult> {
  const costs: Cost[] = [];
  for (const shape of SHAPES) costs.push(await measure(shape));
  const [first] = costs;
  return {
    name: 'memory',
    rows: costs.flatMap((cost) => rowsOf(cost, first)),
    notes: [
      `${RATE} envelopes/s for ${SECONDS} s in each, a server of its own; every device has spoken before; ratios are to the first row`,
      ...costs.map(note),
      `bytes a device, from the 1,000 to the 100,000: ${bytesEach(costs[0], costs[2])}`,
    ],
  };
}

async function measure(shape: Shape): Promise<Cost> {
  // No swarm: alerts are another cost.
  const bench = await startBenchServer({ SWARM_SENSORS: '100000' });
  try {
    const before = await memoryOf(bench);
    const devices = makeDevices(shape);
    await insert(bench, shape, devices);
    const options = {
      ...FLEET_DEFAULTS,
      ...{ origin: bench.server.base, apiKey: CREDENTIALS.apiKey, devices: [...devices], arrival: 'regular' as const },
    };
    // Regular arrivals go round: each device speaks once.
    await runFleetProcesses(
      { ...options, run: 'hello', seed: 'hello', ratePerSecond: 3000, seconds: shape.devices / 3000 + 1 },
      1,
    );
    const pid = bench.server.child.pid ?? 0;
    const from = await cpuOf(pid);
    const report = await runFleetProcesses(
      { ...options, run: 'load', seed: 'load', ratePerSecond: RATE, seconds: SECONDS },
      1,
    );
    const to = await cpuOf(pid);
    const each = (seconds: number): number => (seconds / Math.max(1, report.accepted)) * 1e6;
    return {
      shape,
      before,
      after: await memoryOf(bench),
      server: each(to.own - from.own),
      postgres: each(to.children - from.children),
      report,
    };
  } finally {
    await bench.stop();
  }
}

/** Ids are tried until they fall into the partitions wanted. */
function makeDevices({ devices, partitions, profile }: Shape): FleetDevice[] {
  const made: FleetDevice[] = [];
  for (let n = 0; made.length < devices; n += 1) {
    const id = `mem-${n}`;
    if (partitionOf(id, PARTITIONS) >= partitions) continue;
    const privateKeyPem = String(createKey().export({ type: 'pkcs8', format: 'pem' }));
    made.push({ id, profile, privateKeyPem, latitude: 19, longitude: -99 });
  }
  return made;
}

const INSERT = `
INSERT INTO devices (id, profile, zone_id, latitude, longitude, public_key, created_at, updated_at)
SELECT id, $1, zone, 19, -99, decode(key, 'hex'), now_ms(), now_ms() FROM unnest($2::text[], $3::text[], $4::text[]) AS t (id, zone, key)`;

async function insert(
  { dataDir }: BenchServer,
  { zones, profile }: Shape,
  devices: readonly FleetDevice[],
): Promise<void> {
  const store = await openStore({ dataDir, log: silentLogger, as: 'command' });
  try {
    const names = Array.from({ length: zones }, (_, i) => `z${i}`);
    await store.db.execute(
      'INSERT INTO zones (id, name, created_at) SELECT id, id, now_ms() FROM unnest($1::text[]) AS t (id)',
      [names],
    );
    for (let from = 0; from < devices.length; from += INSERT_ROWS) {
      const part = devices.slice(from, from + INSERT_ROWS);
      await store.db.execute(INSERT, [
        profile,
        part.map(({ id }) => id),
        part.map((_device, i) => `z${(from + i) % zones}`),
        part.map(({ privateKeyPem }) =>
          createPublicKey(privateKeyPem).export({ type: 'spki', format: 'der' }).toString('hex'),
        ),
      ]);
    }
  } finally {
    await store.close();
  }
}

/** The least of some looks: what is left when the collector has been. */
async function memoryOf({ server }: BenchServer): Promise<Memory> {
  let least: Memory = { resident: Infinity, heap: Infinity };
  for (let look = 0; look < 10; look += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const text = await (await fetch(`${server.base}/metrics`)).text();
    const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1] ?? 0) / 1e6;
    const [resident, heap] = [value('process_resident_memory_bytes'), value('nodejs_heap_size_used_bytes')];
    least = { resident: Math.min(least.resident, resident), heap: Math.min(least.heap, heap) };
  }

  return least;
}

function rowsOf({ shape, after, server, postgres }: Cost, first: Cost | undefined): ResultRow[] {
  const row = (what: string, ours: number, unit: string, limit: number | null): ResultRow => ({
    what: `${shape.what}: ${what}`,
    ours,
    unit,
    limit,
    limitIs: limit === null ? '' : '1,000 devices, 10 zones, 12 partitions',
    aim: '',
  });
  return [
    row('resident memory', after.resident, 'MB', first?.after.resident ?? null),
    row('an envelope, server', server, 'µs', first?.server ?? null),
    row('an envelope, PostgreSQL', postgres, 'µs', first?.postgres ?? null),
  ];
}

function note({ shape, before, after, report }: Cost): string {
  const answers = report.rows.map(({ answer, count }) => `${count} x ${answer}`).join(', ');
  return `${shape.what}: resident ${before.resident.toFixed(0)} -> ${after.resident.toFixed(0)} MB, heap ${before.heap.toFixed(0)} -> ${after.heap.toFixed(0)} MB; ${answers}`;
}

function bytesEach(small: Cost | undefined, large: Cost | undefined): string {
  if (small === undefined || large === undefined) return '-';
  const devices = large.shape.devices - small.shape.devices;
  const each = (of: keyof Memory): number => Math.round(((large.after[of] - small.after[of]) * 1e6) / devices);
  return `${each('resident')} resident, ${each('heap')} of heap`;
}
