/**
 * Two minutes of ten times what the server can take, over 8,000 connections, while an earthquake shakes fifty sensors of a
 * zone every three seconds: is memory flat, is what was accepted stored, and how late are the alerts? Draws
 * `docs/overload.png`.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { createPrivateKey } from 'node:crypto';
import { createSigner } from '@tocsin/device/envelope';
import { createHttpPool, type HttpOutcome, type HttpPool } from '@tocsin/device/simulate/http-pool';
import { type Network, planNetwork, registerNetwork, storedReadings } from '@tocsin/device/simulate/network';
import { createRandom } from '@tocsin/device/simulate/random';
import { call } from '@tocsin/testkit/device';
import { checkoutPath } from '@tocsin/testkit/machine';
import { CREDENTIALS } from '@tocsin/testkit/server-process';
import { watchAlerts } from './alert.ts';
import { type BenchServer, cpuOf, type Prepared, prepareChild, startBenchServer } from './bench-server.ts';
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
      unique: 120_000,
      ratePerSecond: 1e6,
      seconds: 10,
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
    const pool = await openSensors(bench);
    const shaking = shake(bench, sensors, pool);
    const newcomers = knock(bench);
    const report = await main.go();
    const waits = newcomers.end();
    const after = await cpuOf(pid);
    const shed = await shedReasons(bench);
    const megabytes = memory.end();
    const { alerts, answers } = await shaking;
    const stored = (await settled(fleet)) - before;
    fleet.operator.close();
    await writeFile(checkoutPath('docs', 'overload.png'), drawOverload(report, megabytes, alerts, capacity));
    return resultOf({
      shed,
      answers,
      waits,
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

function prepareFlood(
  { server }: BenchServer,
  { network }: RegisteredFleet,
  shape: Pick<Flood, 'unique' | 'ratePerSecond' | 'seconds' | 'connections'>,
): Promise<Prepared<FloodReport>> {
  const order: Flood = {
    ...shape,
    origin: server.base,
    apiKey: CREDENTIALS.apiKey,
    devices: network.devices.map(({ id, privateKeyPem }) => ({ id, privateKeyPem })),
    run: `f${shape.seconds}`,
  };
  return prepareChild<FloodReport>('flood.js', order);
}

async function registerSensors({ operator }: RegisteredFleet): Promise<Network> {
  const shape = { prefix: 'quake', name: 'Quake', seismic: SENSORS * EVENTS, hosts: 0, zones: EVENTS, waveform: false };
  const network = planNetwork(shape, createRandom('bench/quakes'));
  await registerNetwork(operator, network);
  return network;
}

/** What sensors went through. */
interface Shaken {
  readonly alerts: readonly ShakenAlert[];
  readonly answers: Readonly<Record<string, number>>;
}

/** Sensors hold their connections, as those that stream do. */
async function openSensors({ server }: BenchServer): Promise<HttpPool> {
  const pool = createHttpPool({ origin: server.base, connections: 2 * SENSORS, timeoutMs: 15_000 });
  const hello = `GET /health/live HTTP/1.1\r\nhost: bench\r\n\r\n`;
  await Promise.all(
    Array.from({ length: 2 * SENSORS }, () => new Promise((resolve) => pool.send(() => hello, resolve))),
  );
  return pool;
}

/** An earthquake in one zone after the other, every three seconds; sensors send again as they are told, like real ones. */
async function shake(bench: BenchServer, network: Network, pool: HttpPool): Promise<Shaken> {
  const viewer = await watchAlerts(bench.server.base, bench.token);
  const answers: Record<string, number> = {};
  const began = performance.now();
  const events = network.zones.map(async ({ id }, n): Promise<ShakenAlert> => {
    await new Promise((resolve) => setTimeout(resolve, (n + 1) * EVENT_MS));
    const shaken = performance.now();
    const at = Date.now();
    for (const { id: deviceId, privateKeyPem } of network.devices.filter(({ zoneId }) => zoneId === id)) {
      const signer = createSigner(deviceId, createPrivateKey(privateKeyPem));
      const body = signer.seal({ id: 'quake', at, profile: 'seismic', readings: [{ at, value: 100 }] });
      sendUntilTaken(pool, bench, body, (answer) => {
        answers[answer] = (answers[answer] ?? 0) + 1;
      });
    }
    while (!viewer.seen.has(id) && performance.now() - began < (SECONDS + 20) * 1000)
      await new Promise((resolve) => setTimeout(resolve, 5));
    const seen = viewer.seen.get(id);
    return { second: (shaken - began) / 1000, ms: seen === undefined ? null : seen - shaken };
  });
  const alerts = await Promise.all(events);
  viewer.close();
  pool.close();
  return { alerts, answers };
}

/** How long somebody waits who has no connection yet, ms, one after the other. */
function knock({ server }: BenchServer): { end(): number[] } {
  const waits: number[] = [];
  let stopped = false;
  const one = async (): Promise<void> => {
    const began = performance.now();
    await call(`${server.base}/health/live`, { timeoutMs: 60_000 }).catch(() => undefined);
    if (stopped) return;
    waits.push(performance.now() - began);
    setTimeout(() => void one(), 1000);
  };
  setTimeout(() => void one(), 5000);
  return {
    end: () => {
      stopped = true;
      return waits.sort((a, b) => a - b);
    },
  };
}

function sendUntilTaken(pool: HttpPool, bench: BenchServer, body: string, onAnswer: (answer: string) => void): void {
  const head = `POST /v1/readings HTTP/1.1\r\nhost: bench\r\ncontent-type: application/jose\r\nx-api-key: ${CREDENTIALS.apiKey}`;
  const request = `${head}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const send = (): void => pool.send(() => request, answered);
  const answered = (outcome: HttpOutcome): void => {
    onAnswer(outcome.kind === 'answer' ? String(outcome.response.status) : outcome.kind);
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

/** Refusals for load by reason, as the server counts them. */
async function shedReasons({ server }: BenchServer): Promise<string> {
  const text = await (await fetch(`${server.base}/metrics`)).text();
  return [...text.matchAll(/^tocsin_shed_total\{reason="([^"]+)"\} (\d+)/gm)]
    .map(([, reason, n]) => `${n} x ${reason}`)
    .join(', ');
}

interface Seen {
  readonly answers: Readonly<Record<string, number>>;
  /** Of newcomers, ms, in order. */
  readonly waits: readonly number[];
  readonly shed: string;
  readonly capacity: number;
  readonly report: FloodReport;
  readonly megabytes: readonly number[];
  readonly alerts: readonly ShakenAlert[];
  readonly stored: number;
  /** Server, PostgreSQL. */
  readonly cpu: readonly [number, number];
}

function resultOf({ shed, answers, waits, capacity, report, megabytes, alerts, stored, cpu }: Seen): BenchResult {
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
      row('a new connection is answered, p50', waits[Math.floor((waits.length - 1) / 2)] ?? Number.NaN, 'ms'),
      row('a new connection is answered, worst', waits.at(-1) ?? Number.NaN, 'ms'),
      row('memory after 30 s', first, 'MB'),
      row('memory at the end', last, 'MB', 'flat'),
    ],
    notes: [
      `${SECONDS} s at ${Math.round(capacity * TIMES)} envelopes/s offered (${TIMES} x ${capacity}) over ${CONNECTIONS} connections, fsync on; refused ones come again after Retry-After`,
      `sent ${sum('sent')}, no connection free for ${sum('unsent')}; answers ${JSON.stringify(report.answers)}; uncertain at the end ${report.uncertain}; refused for load: ${shed}; sensors were answered ${JSON.stringify(answers)}`,
      `cores: server ${(cpu[0] / SECONDS).toFixed(2)}, PostgreSQL ${(cpu[1] / SECONDS).toFixed(2)}, flood ${(report.cpu / SECONDS).toFixed(2)}`,
      `memory of the server, most ${Math.max(...megabytes).toFixed(0)} MB; picture: docs/overload.png`,
    ],
  };
}
