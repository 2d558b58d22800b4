/**
 * Two minutes of ten times what the server can take, over 8,000 connections, while an earthquake shakes fifty sensors of a
 * zone every three seconds: is memory flat, is what was accepted stored, and how late are the alerts? Draws
 * `docs/overload.png`.
 */
import { fork } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { createPrivateKey } from 'node:crypto';
import { createSigner } from '@tocsin/device/envelope';
import { createHttpPool, type HttpOutcome, type HttpPool } from '@tocsin/device/simulate/http-pool';
import { type Network, planNetwork, registerNetwork, storedReadings } from '@tocsin/device/simulate/network';
import { createRandom } from '@tocsin/device/simulate/random';
import { checkoutPath } from '@tocsin/testkit/machine';
import { CREDENTIALS } from '@tocsin/testkit/server-process';
import { watchAlerts } from './alert.ts';
import { type BenchServer, cpuOf, startBenchServer } from './bench-server.ts';
import { registerHosts, type RegisteredFleet } from './fleet.ts';
import type { Flood, FloodReport } from './flood.ts';
import { drawOverload, type ShakenAlert } from './overload-picture.ts';
import type { BenchResult } from './table.ts';

const HOSTS = 5000;
const TIMES = 10;
const SECONDS = 120;
const CONNECTIONS = 8000;
const SENSORS = 50;
const EVENT_MS = 3000;
const EVENTS = 38;
const ROOM = 1.3;

/** Runs the benchmark. */
export async function benchOverload(): Promise<BenchResult> {
  const bench = await startBenchServer();
  try {
    const fleet = await registerHosts(bench, HOSTS);
    const sensors = await registerSensors(fleet);
    const probe = await prepareFlood(bench, fleet, {
      unique: 80_000,
      ratePerSecond: 1e6,
      seconds: 6,
      connections: 512,
    });
    const capacity = probed(await probe.go());
    const main = await prepareFlood(bench, fleet, {
      unique: Math.round(capacity * SECONDS * ROOM),
      ratePerSecond: capacity * TIMES,
      seconds: SECONDS,
      connections: CONNECTIONS,
    });
    const before = await storedReadings(fleet.operator, fleet.network);
    const pid = bench.server.child.pid ?? 0;
    const cpu = await cpuOf(pid);
    const memory = watchMemory(pid);
    const shaking = shake(bench, sensors);
    const report = await main.go();
    const after = await cpuOf(pid);
    const megabytes = memory.end();
    const alerts = await shaking;
    const stored = (await settled(fleet)) - before;
    fleet.operator.close();
    await writeFile(checkoutPath('docs', 'overload.png'), drawOverload(report, megabytes, alerts, capacity));
    return resultOf({
      capacity,
      report,
      megabytes,
      alerts,
      stored,
      cpu: [after.own - cpu.own, after.children - cpu.children],
    });
  } finally {
    await bench.stop();
  }
}

/** Accepted a second, without the first and the last second. */
function probed({ seconds }: FloodReport): number {
  const whole = seconds.slice(1, 6);
  return Math.round(whole.reduce((sum, { accepted }) => sum + accepted, 0) / whole.length);
}

async function prepareFlood(
  { server }: BenchServer,
  { network }: RegisteredFleet,
  shape: Pick<Flood, 'unique' | 'ratePerSecond' | 'seconds' | 'connections'>,
): Promise<{ go(): Promise<FloodReport> }> {
  const child = fork(fileURLToPath(new URL('flood.js', import.meta.url)), { stdio: 'inherit' });
  const next = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      child.once('message', (answer) => resolve(answer as T));
      child.once('exit', (code) => reject(new Error(`the flood ended (${code})`)));
    });
  const flood: Flood = {
    ...shape,
    origin: server.base,
    apiKey: CREDENTIALS.apiKey,
    devices: network.devices.map(({ id, privateKeyPem }) => ({ id, privateKeyPem })),
    run: `f${shape.seconds}`,
  };
  const prepared = next<'prepared'>();
  child.send(flood);
  await prepared;
  return {
    go: () => {
      const report = next<FloodReport>();
      child.send('go');
      return report;
    },
  };
}

async function registerSensors({ operator }: RegisteredFleet): Promise<Network> {
  const shape = { prefix: 'quake', name: 'Quake', seismic: SENSORS * EVENTS, hosts: 0, zones: EVENTS, waveform: false };
  const network = planNetwork(shape, createRandom('bench/quakes'));
  await registerNetwork(operator, network);
  return network;
}

/** An earthquake in one zone after the other, every three seconds; sensors send again as they are told, like real ones. */
async function shake(bench: BenchServer, network: Network): Promise<ShakenAlert[]> {
  const viewer = await watchAlerts(bench.server.base, bench.token);
  const pool = createHttpPool({ origin: bench.server.base, connections: 2 * SENSORS, timeoutMs: 15_000 });
  const began = performance.now();
  const events = network.zones.map(async ({ id }, n): Promise<ShakenAlert> => {
    await new Promise((resolve) => setTimeout(resolve, (n + 1) * EVENT_MS));
    const shaken = performance.now();
    const at = Date.now();
    for (const { id: deviceId, privateKeyPem } of network.devices.filter(({ zoneId }) => zoneId === id)) {
      const signer = createSigner(deviceId, createPrivateKey(privateKeyPem));
      const body = signer.seal({ id: 'quake', at, profile: 'seismic', readings: [{ at, value: 100 }] });
      sendUntilTaken(pool, bench, body);
    }
    while (!viewer.seen.has(id) && performance.now() - began < (SECONDS + 20) * 1000)
      await new Promise((resolve) => setTimeout(resolve, 5));
    const seen = viewer.seen.get(id);
    return { second: (shaken - began) / 1000, ms: seen === undefined ? null : seen - shaken };
  });
  const alerts = await Promise.all(events);
  viewer.close();
  pool.close();
  return alerts;
}

function sendUntilTaken(pool: HttpPool, bench: BenchServer, body: string): void {
  const head = `POST /v1/readings HTTP/1.1\r\nhost: bench\r\ncontent-type: application/jose\r\nx-api-key: ${CREDENTIALS.apiKey}`;
  const request = `${head}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const send = (): void => pool.send(() => request, answered);
  const answered = (outcome: HttpOutcome): void => {
    if (outcome.kind === 'answer' && [202, 409].includes(outcome.response.status)) return;
    if (bench.server.child.exitCode !== null) return;
    const text = outcome.kind === 'answer' ? /\r\nretry-after: (\d+)/i.exec(outcome.response.head)?.[1] : undefined;
    setTimeout(send, Number(text ?? 1) * 1000);
  };
  send();
}

/** Resident memory of a process, each second, in MB. */
function watchMemory(pid: number): { end(): number[] } {
  const seen: number[] = [];
  const timer = setInterval(() => {
    void readFile(`/proc/${pid}/status`, 'utf8').then((text) =>
      seen.push(Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024),
    );
  }, 1000);
  return {
    end: () => {
      clearInterval(timer);
      return seen;
    },
  };
}

/** Readings of the hosts, once there are no more coming. */
async function settled({ operator, network }: RegisteredFleet): Promise<number> {
  for (let before = -1; ; ) {
    const now = await storedReadings(operator, network);
    if (now === before) return now;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}

interface Seen {
  readonly capacity: number;
  readonly report: FloodReport;
  readonly megabytes: readonly number[];
  readonly alerts: readonly ShakenAlert[];
  readonly stored: number;
  /** Server, PostgreSQL. */
  readonly cpu: readonly [number, number];
}

function resultOf({ capacity, report, megabytes, alerts, stored, cpu }: Seen): BenchResult {
  const during = report.seconds.slice(5, SECONDS);
  const sum = (of: 'sent' | 'accepted' | 'refused' | 'unsent'): number =>
    report.seconds.reduce((all, second) => all + second[of], 0);
  const mean = (of: 'accepted' | 'p50' | 'p99'): number =>
    during.reduce((all, second) => all + second[of], 0) / Math.max(1, during.length);
  const latencies = alerts.flatMap(({ ms }) => (ms === null ? [] : [ms])).sort((a, b) => a - b);
  const quantile = (q: number): number => latencies[Math.floor((latencies.length - 1) * q)] ?? Number.NaN;
  const row = (what: string, ours: number, unit: string, aim = ''): BenchResult['rows'][number] => ({
    ...{ what, ours, unit, aim },
    limit: null,
    limitIs: '',
  });
  const [first = 0, last = 0] = [megabytes[30], megabytes.at(-1)];
  return {
    name: 'overload',
    rows: [
      {
        what: 'accepted during it',
        ours: mean('accepted'),
        unit: '/s',
        limit: capacity,
        limitIs: 'the same server, not overloaded',
        aim: '',
      },
      {
        what: 'readings stored',
        ours: stored,
        unit: '',
        limit: report.durable,
        limitIs: 'envelopes answered 202 or 409',
        aim: '100 %',
      },
      row('202 after, p50', mean('p50'), 'ms'),
      row('202 after, p99', mean('p99'), 'ms'),
      row('alert after the shaking, p50', quantile(0.5), 'ms'),
      row('alert after the shaking, worst', latencies.at(-1) ?? Number.NaN, 'ms'),
      row('alerts', latencies.length, '', `${alerts.length}`),
      row('memory after 30 s', first, 'MB'),
      row('memory at the end', last, 'MB', 'flat'),
    ],
    notes: [
      `${SECONDS} s at ${Math.round(capacity * TIMES)} envelopes/s offered (${TIMES} x ${capacity}) over ${CONNECTIONS} connections, fsync on; refused ones come again after Retry-After`,
      `sent ${sum('sent')}, no connection free for ${sum('unsent')}; answers ${JSON.stringify(report.answers)}; uncertain at the end ${report.uncertain}`,
      `cores: server ${(cpu[0] / SECONDS).toFixed(2)}, PostgreSQL ${(cpu[1] / SECONDS).toFixed(2)}, flood ${(report.cpu / SECONDS).toFixed(2)}`,
      `memory of the server, most ${Math.max(...megabytes).toFixed(0)} MB; picture: docs/overload.png`,
    ],
  };
}
