/**
 * From the POST of the fiftieth sensor to the message at a viewer, while the server carries half of what it can.
 * Each event is a zone of its own; a viewer over `ws` notes when its message arrives.
 */
import { Agent } from 'node:http';
import WebSocket from 'ws';
import { post } from '@tocsin/testkit/device';
import { CREDENTIALS } from '@tocsin/testkit/server-process';
import { prepareGenerator, startBenchServer } from './bench-server.ts';
import { registerFleet } from '@tocsin/testkit/fleet';
import type { BenchResult } from './table.ts';

const EVENTS = 60;
const SENSORS = 50;

/** A viewer of all alerts: when the first message about each zone arrived, ms of `performance.now()`. */
export async function watchAlerts(base: string, token: string): Promise<{ seen: Map<string, number>; close(): void }> {
  const seen = new Map<string, number>();
  const socket = new WebSocket(`${base.replace('http', 'ws')}/ws/alerts`, ['tocsin.v1', `bearer.${token}`]);
  await new Promise<void>((resolve, reject) => {
    socket.once('message', () => resolve());
    socket.once('error', reject);
  });
  socket.on('message', (data: Buffer) => {
    const now = performance.now();
    const message = JSON.parse(data.toString('utf8')) as { type: string; data?: { zoneId: string } };
    if (message.type === 'alert' && message.data !== undefined) seen.set(message.data.zoneId, now);
  });
  return { seen, close: () => socket.terminate() };
}

/** Runs the benchmark. `capacity` in envelopes a second is measured first. */
export async function benchAlert(): Promise<BenchResult> {
  const bench = await startBenchServer();
  try {
    const fleet = await registerFleet(bench.server.base, bench.token, {
      name: 'bench',
      zones: EVENTS,
      perZone: SENSORS,
    });
    const background = (await registerBackground(bench)).flat();
    const probe = await prepareGenerator(bench, background, {
      envelopes: 60_000,
      readings: 1,
      connections: 128,
      seconds: 5,
      ratePerSecond: null,
      run: 'probe',
    });
    const probed = await probe.go();
    const capacity = (probed.answers['202'] ?? 0) / probed.seconds;
    const rate = Math.floor(capacity / 2);
    const seconds = 25;
    const load = await prepareGenerator(bench, background, {
      envelopes: rate * (seconds + 1),
      readings: 1,
      connections: 128,
      seconds,
      ratePerSecond: rate,
      run: 'half',
    });
    const viewer = await watchAlerts(bench.server.base, bench.token);
    const running = load.go();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const latencies: number[] = [];
    const agent = new Agent({ keepAlive: true, maxSockets: 64 });
    for (const [index, devices] of fleet.entries()) {
      const at = Date.now();
      const sealed = devices.map((device) => device.seal('event', { readings: [{ at, value: 100 }] }));
      const last = sealed.pop() ?? '';
      await Promise.all(sealed.map((jws) => post(bench.server.base, CREDENTIALS.apiKey, jws, agent)));
      const began = performance.now();
      await post(bench.server.base, CREDENTIALS.apiKey, last, agent);
      const arrived = await arrival(viewer.seen, `bench-${index}`);
      latencies.push(arrived - began);
    }
    agent.destroy();
    viewer.close();
    const report = await running;
    const sorted = latencies.sort((a, b) => a - b);
    const p = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
    return {
      name: 'alert',
      rows: [
        { what: 'POST to viewer, p50', ours: p(0.5), unit: 'ms', limit: null, limitIs: '', aim: '' },
        { what: 'POST to viewer, p99', ours: p(0.99), unit: 'ms', limit: null, limitIs: '', aim: 'under 50 ms' },
      ],
      notes: [
        `${EVENTS} swarms of ${SENSORS} sensors; latency from the POST of the last sensor, signed before`,
        `load ${rate} envelopes/s (half of ${Math.round(capacity)}), open loop, answers ${JSON.stringify(report.answers)}, p99 ${report.p99.toFixed(1)} ms`,
        'server, PostgreSQL, generator and viewer on the same cores, fsync on',
      ],
    };
  } finally {
    await bench.stop();
  }
}

/** Devices that load the server; their own zone alarms too, as it would when the ground shakes. */
async function registerBackground(
  bench: Awaited<ReturnType<typeof startBenchServer>>,
): ReturnType<typeof registerFleet> {
  return registerFleet(bench.server.base, bench.token, { name: 'background', zones: 1, perZone: 1000 });
}

async function arrival(seen: ReadonlyMap<string, number>, zone: string): Promise<number> {
  const until = performance.now() + 10_000;
  while (performance.now() < until) {
    const at = seen.get(zone);
    if (at !== undefined) return at;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`no alert for ${zone}`);
}
