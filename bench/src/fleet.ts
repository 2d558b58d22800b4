/**
 * 5,000 hosts of three fields each, signed, with the rule on `cpu_percent` on and fsync on, against the same two cores that
 * also sign and send for them: first at the rate that ThingsBoard publishes for two cores, then faster until it no longer
 * keeps up. Open loop: latencies count from the moment at which each envelope was due.
 */
import { FLEET_DEFAULTS, type FleetOptions } from '@tocsin/device/simulate/fleet';
import { runFleetProcesses } from '@tocsin/device/simulate/fleet-processes';
import type { FleetReport } from '@tocsin/device/simulate/fleet-report';
import { createHistogram, type Histogram } from '@tocsin/device/simulate/histogram';
import { type Network, planNetwork, registerNetwork, storedReadings } from '@tocsin/device/simulate/network';
import { openOperator, type Operator } from '@tocsin/device/simulate/operator';
import { createRandom } from '@tocsin/device/simulate/random';
import { call } from '@tocsin/testkit/device';
import { CREDENTIALS } from '@tocsin/testkit/server-process';
import { type BenchServer, cpuOf, type Cpu, startBenchServer } from './bench-server.ts';
import { bareVerifications } from './ingest.ts';
import type { BenchResult, ResultRow } from './table.ts';

const DEVICES = 5000;
/** https://thingsboard.io/docs/reference/performance-aws-instances: smart meters of three data points, an alarm rule on one. */
const PUBLISHED = 5000;
const SECONDS = 60;
const CLIMB = { seconds: 12, from: 3000, step: 1000, most: 12_000 } as const;
/** What a rate must keep to be one that the server keeps up with. */
const KEEPS_UP = { share: 0.999, p99Ms: 1000 } as const;
/** One host after the other is over the threshold, for eight seconds of each twenty. */
const HOT = { everyMs: 20_000, lastingMs: 8000 } as const;

/** One rate, measured. */
interface Measured {
  readonly rate: number;
  readonly report: FleetReport;
  readonly latency: Histogram;
  readonly cpu: Cpu;
}

/** Hosts registered with a server, and the operator who did it. */
export interface RegisteredFleet {
  readonly network: Network;
  readonly operator: Operator;
}

/** Registers `hosts` simulated hosts. */
export async function registerHosts(bench: BenchServer, hosts: number): Promise<RegisteredFleet> {
  const { email, password } = CREDENTIALS;
  const operator = await openOperator({ origin: bench.server.base, email, password });
  const shape = { prefix: 'bench', name: 'Bench', seismic: 0, hosts, zones: 0, waveform: false };
  const network = planNetwork(shape, createRandom('bench/places'));
  await registerNetwork(operator, network);
  return { network, operator };
}

/** What is measured at any rate: everything but how fast and how long. */
export function fleetOptions(bench: BenchServer, { network }: RegisteredFleet, run: string): FleetOptions {
  return {
    ...FLEET_DEFAULTS,
    origin: bench.server.base,
    apiKey: CREDENTIALS.apiKey,
    devices: network.devices,
    run,
    seed: run,
    hot: HOT,
    connections: 512,
  };
}

/** Runs the benchmark. */
export async function benchFleet(): Promise<BenchResult> {
  const bench = await startBenchServer();
  try {
    const fleet = await registerHosts(bench, DEVICES);
    await measure(bench, fleet, 2000, 5);
    const limit = await bareVerifications(4);
    const published = await measure(bench, fleet, PUBLISHED, SECONDS);
    const climbed: Measured[] = [];
    for (let rate: number = CLIMB.from; rate <= CLIMB.most; rate += CLIMB.step) {
      const next = await measure(bench, fleet, rate, CLIMB.seconds);
      climbed.push(next);
      if (!keepsUp(next)) break;
    }
    const best =
      [...climbed, published]
        .filter(keepsUp)
        .sort((a, b) => a.rate - b.rate)
        .at(-1) ?? published;
    const stored = await storedReadings(fleet.operator, fleet.network);
    const alerts = await countAlerts(bench);
    fleet.operator.close();
    return {
      name: 'fleet',
      rows: rowsOf(published, best, limit),
      notes: [
        `${DEVICES} registered hosts, 3 fields, Poisson arrivals, ${SECONDS} s; rule on cpu_percent on: ${alerts} alerts host.cpu; fsync on`,
        `readings stored in all: ${stored}`,
        ...[published, ...climbed].map(note),
        'ThingsBoard’s figure is the one it publishes (smart meters, three data points, an alarm rule, no signatures); it was not run here',
      ],
    };
  } finally {
    await bench.stop();
  }
}

async function measure(bench: BenchServer, fleet: RegisteredFleet, rate: number, seconds: number): Promise<Measured> {
  const pid = bench.server.child.pid ?? 0;
  const before = await cpuOf(pid);
  const options = { ...fleetOptions(bench, fleet, `r${rate}-${seconds}`), ratePerSecond: rate, seconds };
  const report = await runFleetProcesses(options, 1);
  const after = await cpuOf(pid);
  const latency = createHistogram();
  for (const row of report.rows) if (row.answer === '202') latency.merge(row.latency);
  return { rate, report, latency, cpu: { own: after.own - before.own, children: after.children - before.children } };
}

function keepsUp({ report, latency }: Measured): boolean {
  return report.accepted >= KEEPS_UP.share * report.planned && latency.quantile(0.99) < KEEPS_UP.p99Ms;
}

function rowsOf(published: Measured, best: Measured, limit: number): ResultRow[] {
  const row = (what: string, ours: number, unit: string, aim = ''): ResultRow => ({
    ...{ what, ours, unit, aim },
    limit: null,
    limitIs: '',
  });
  return [
    {
      what: `accepted, ${PUBLISHED} /s offered`,
      ours: published.report.accepted / published.report.seconds,
      unit: '/s',
      limit: PUBLISHED,
      limitIs: 'ThingsBoard, published: two cores, unsigned',
      aim: 'as much, signed and durable',
    },
    row('the same, p50', published.latency.quantile(0.5), 'ms'),
    row('the same, p99', published.latency.quantile(0.99), 'ms'),
    {
      what: 'most that it keeps up with',
      ours: best.report.accepted / best.report.seconds,
      unit: '/s',
      limit,
      limitIs: 'bare P-256 verify, all cores, nothing else running',
      aim: '',
    },
    row('the same, p99', best.latency.quantile(0.99), 'ms'),
  ];
}

function note({ rate, report, latency, cpu }: Measured): string {
  const each = (seconds: number): string => `${((seconds / Math.max(1, report.accepted)) * 1e6).toFixed(0)} µs`;
  const cores = (seconds: number): string => (seconds / report.seconds).toFixed(2);
  const answers = report.rows.map(({ answer, count }) => `${count} x ${answer}`).join(', ');
  return [
    `${rate} /s: ${answers}${report.unsent > 0 ? `, ${report.unsent} unsent` : ''}`,
    `p50 ${latency.quantile(0.5).toFixed(1)}, p99 ${latency.quantile(0.99).toFixed(1)}, most ${latency.greatest.toFixed(0)} ms`,
    `an envelope: server ${each(cpu.own)}, PostgreSQL ${each(cpu.children)}, generator ${each(report.cpuSeconds)}`,
    `cores: ${cores(cpu.own)} + ${cores(cpu.children)} + generator ${cores(report.cpuSeconds)}`,
  ].join('; ');
}

/** Alerts `host.cpu` so far. */
async function countAlerts({ server, token }: BenchServer): Promise<number> {
  let count = 0;
  let cursor: string | null = null;
  do {
    const page: Record<string, unknown> | null = (
      await call(
        `${server.base}/v1/alerts?kind=host.cpu&limit=500${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
        { headers: { authorization: `Bearer ${token}` } },
      )
    ).body;
    const items = page?.['items'];
    count += Array.isArray(items) ? items.length : 0;
    const next: unknown = page?.['next'];
    cursor = typeof next === 'string' ? next : null;
  } while (cursor !== null);
  return count;
}
