/**
 * Envelopes accepted (202, so durable) per second over HTTP, against bare P-256 verification on all cores in the same
 * run. Server, PostgreSQL and generator share the cores; the generator's share is told.
 */
import { availableParallelism } from 'node:os';
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { cpuSeconds, prepareGenerator, startBenchServer, type BenchServer } from './bench-server.ts';
import { registerFleet } from '@tocsin/testkit/fleet';
import type { LoadReport } from './generator.ts';
import type { ScriptedDevice } from '@tocsin/testkit/device';
import type { BenchResult, ResultRow } from './table.ts';

/** P-256 verifications a second on the thread pool of this process, nothing else going on. */
export async function bareVerifications(seconds: number): Promise<number> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const data = Buffer.alloc(250, 0x61);
  const signature = sign('sha256', data, privateKey);
  let done = 0;
  const until = performance.now() + seconds * 1000;
  const began = performance.now();
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      verify('sha256', data, publicKey, signature, (error, good) =>
        error === null && good ? resolve() : reject(error ?? new Error('bad')),
      );
    });
  const lane = async (): Promise<void> => {
    while (performance.now() < until) {
      await one();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: 4 * availableParallelism() }, lane));
  return (done * 1000) / (performance.now() - began);
}

interface Measured {
  readonly perSecond: number;
  readonly report: LoadReport;
  readonly serverCpu: number;
}

async function measure(
  bench: BenchServer,
  devices: readonly ScriptedDevice[],
  readings: number,
  envelopes: number,
  run: string,
): Promise<Measured> {
  const seconds = 8;
  const generator = await prepareGenerator(bench, devices, {
    envelopes,
    readings,
    connections: 128,
    seconds,
    ratePerSecond: null,
    run,
  });
  const pid = bench.server.child.pid ?? 0;
  const before = await cpuSeconds(pid);
  const report = await generator.go();
  const serverCpu = ((await cpuSeconds(pid)) - before) / report.seconds;
  return { perSecond: (report.answers['202'] ?? 0) / report.seconds, report, serverCpu };
}

function note(name: string, { report, serverCpu }: Measured): string {
  const share = `server and PostgreSQL ${serverCpu.toFixed(2)} cores, generator ${report.cpu.toFixed(2)} cores`;
  return `${name}: answers ${JSON.stringify(report.answers)} in ${report.seconds.toFixed(1)} s; p50 ${report.p50.toFixed(1)} ms, p99 ${report.p99.toFixed(1)} ms at 128 connections; ${share}`;
}

/** Runs the benchmark. */
export async function benchIngest(): Promise<BenchResult> {
  const limit = await bareVerifications(4);
  const bench = await startBenchServer();
  try {
    const devices = (
      await registerFleet(bench.server.base, bench.token, { name: 'bench', zones: 10, perZone: 100 })
    ).flat();
    await measure(bench, devices, 1, 20_000, 'warm');
    const single = await measure(bench, devices, 1, 120_000, 'single');
    const batch = await measure(bench, devices, 100, 24_000, 'batch');
    const rows: ResultRow[] = [
      {
        what: 'envelopes of 1 reading',
        ours: single.perSecond,
        unit: '/s',
        limit,
        limitIs: 'bare P-256 verify, all cores',
        aim: '60 %',
      },
      {
        what: 'envelopes of 100 readings',
        ours: batch.perSecond,
        unit: '/s',
        limit,
        limitIs: 'bare P-256 verify, all cores',
        aim: '',
      },
      {
        what: 'readings in batches of 100',
        ours: batch.perSecond * 100,
        unit: '/s',
        limit: null,
        limitIs: '',
        aim: '100,000 /s',
      },
    ];
    return {
      name: 'ingest',
      rows,
      notes: [note('single', single), note('batch', batch), `${availableParallelism()} cores, fsync on`],
    };
  } finally {
    await bench.stop();
  }
}
