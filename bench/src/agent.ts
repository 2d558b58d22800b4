/**
 * What the agent costs on the machine that it watches: processor time and resident memory of the real process over some
 * minutes, at a frame in 5 s, as `npx tocsin agent` starts it, with the flags of the systemd unit, and signing over TLS;
 * beside them, in the same minutes, a Node that does nothing and one that only keeps a connection with mqtt.js.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { FRAME_BYTES, KEEP } from '@tocsin/device/agent/agent';
import { openOutbox } from '@tocsin/device/outbox';
import { createAuthority, LOCAL_NAMES } from '@tocsin/testkit/certificates';
import { guardChild } from '@tocsin/testkit/guard';
import { startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { COMMAND, freePort } from '@tocsin/testkit/server-process';
import type { BenchResult, ResultRow } from './table.ts';

/** Starting is not measured: it happens once. */
const WARM_SECONDS = 20;
const SECONDS = 180;
/** A day of frames, one in 5 s. */
const BACKLOG = 17_280;
/** Those of `deploy/systemd/tocsin-agent.service`. */
const UNIT_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=48', '--v8-pool-size=0'];
/** Ticks of /proc/<pid>/stat a second (USER_HZ). */
const TICKS = 100;

interface Cost {
  /** Percent of one core. */
  readonly cpu: number;
  /** MiB: the most while it was measured, and the most ever. */
  readonly resident: number;
  readonly peak: number;
}

/** Runs the benchmark. */
export async function benchAgent(): Promise<BenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-bench-agent-'));
  const authority = createAuthority();
  const of = authority.issue({ names: LOCAL_NAMES });
  const plain = await startMosquitto();
  const secure = await startMosquitto((where) => {
    // Started by root the broker becomes another user, who must read its key.
    for (const [name, text] of [['b.pem', of.cert] as const, ['b.key', of.key] as const]) {
      writeFileSync(join(where, name), text, { mode: 0o644 });
    }
    return ['allow_anonymous true', `certfile ${where}/b.pem`, `keyfile ${where}/b.key`];
  });
  try {
    await fillOutbox(join(folder, 'late'));
    const agent = (name: string, url: string, flags: readonly string[], more: readonly string[] = []): ChildProcess =>
      start([...flags, COMMAND, 'agent', '--server', url, '--id', name, '--folder', join(folder, name), ...more]);
    const near = `mqtt://127.0.0.1:${plain.port}`;
    const signing = ['--key', '--ca', authority.caFile];
    const children = {
      asNpx: agent('npx', near, []),
      asUnit: agent('unit', near, UNIT_FLAGS),
      signing: agent('signed', `mqtts://127.0.0.1:${secure.port}`, UNIT_FLAGS, signing),
      late: agent('late', `mqtt://127.0.0.1:${await freePort()}`, UNIT_FLAGS),
      mqttJs: start(['--input-type=module', '-e', MQTT_JS, near]),
      node: start(['-e', 'setInterval(() => undefined, 1000)']),
    };
    const measured = await Promise.all(
      Object.entries(children).map(async ([name, child]) => [name, await measure(child)] as const),
    );
    return resultOf(Object.fromEntries(measured) as Record<keyof typeof children, Cost>);
  } finally {
    await Promise.all([plain.stop(), secure.stop()]);
    authority.remove();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A bare connection, as its README shows it; it sends nothing but its keep-alive. */
const MQTT_JS = `import mqtt from 'mqtt'; mqtt.connect(process.argv[1]).on('error', () => process.exit(1));`;

function start(args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, args, { stdio: 'ignore', cwd: new URL('.', import.meta.url) });
  guardChild(child);
  return child;
}

/** The outbox of a host that was a day without its server. */
async function fillOutbox(folder: string): Promise<void> {
  await mkdir(folder, { mode: 0o700 });
  await writeFile(join(folder, 'device-id'), 'late');
  const outbox = await openOutbox({
    folder,
    bytes: KEEP.value * FRAME_BYTES,
    envelopes: KEEP.value,
    dropped: () => undefined,
  });
  const numbers = { cpu_percent: 12.3, mem_percent: 45.6, disk_percent: 78.9, gpu_percent: null };
  const reports = Array.from({ length: BACKLOG }, (_, place) => ({
    ...{ profile: 'host' as const, urgent: false, count: 1 },
    readings: JSON.stringify([
      { at: 1_795_000_000_000 + place * 5000, ...numbers, agent_cpu_percent: 0.1, agent_mem_mb: 50.5 },
    ]),
  }));
  for (let from = 0; from < BACKLOG; from += 1000) await outbox.put(reports.slice(from, from + 1000), Date.now());
  await outbox.close();
}

async function measure(child: ChildProcess): Promise<Cost> {
  const pid = child.pid ?? 0;
  try {
    await pause(WARM_SECONDS * 1000);
    const [before, begun] = [await cpuSeconds(pid), performance.now()];
    let resident = 0;
    for (let second = 0; second < SECONDS; second += 1) {
      await pause(1000);
      resident = Math.max(resident, await memory(pid, 'VmRSS'));
    }
    const cpu = ((await cpuSeconds(pid)) - before) / ((performance.now() - begun) / 1000);
    return { cpu: cpu * 100, resident, peak: await memory(pid, 'VmHWM') };
  } finally {
    child.kill('SIGKILL');
  }
}

async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

async function memory(pid: number, name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'latin1');
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) / 1024;
}

type Costs = Readonly<Record<'asNpx' | 'asUnit' | 'signing' | 'late' | 'mqttJs' | 'node', Cost>>;

function resultOf(costs: Costs): BenchResult {
  const named: readonly (readonly [string, Cost])[] = [
    ['as npx starts it', costs.asNpx],
    ['with the flags of the unit', costs.asUnit],
    ['signing, over TLS', costs.signing],
    [`server away, ${BACKLOG.toLocaleString('en-US')} frames wait`, costs.late],
  ];
  const row = (what: string, ours: number, unit: string, limit: number, aim: string): ResultRow => {
    return { what, ours, unit, limit, limitIs: 'mqtt.js connected, nothing else', aim };
  };
  return {
    name: 'agent',
    rows: [
      ...named.map(([what, { cpu }]) => row(`${what}: processor`, cpu, '% of a core', costs.mqttJs.cpu, 'at most 1 %')),
      ...named.map(([what, { resident }]) =>
        row(`${what}: memory`, resident, 'MiB', costs.mqttJs.resident, 'at most 60 MB (57.2 MiB)'),
      ),
    ],
    notes: [
      `a frame in 5 s, ${SECONDS} s after ${WARM_SECONDS} s of warming up, all processes in the same minutes, Node ${process.version}`,
      `memory: the most of VmRSS, once a second; pages of Node's own program are in it (a Node that does nothing: ${costs.node.resident.toFixed(1)} MiB, ${costs.node.cpu.toFixed(2)} %)`,
      `peaks since the start (VmHWM), MiB: ${named.map(([what, { peak }]) => `${what} ${peak.toFixed(1)}`).join(', ')}, mqtt.js ${costs.mqttJs.peak.toFixed(1)}`,
    ],
  };
}
