/**
 * Readings that a worker takes from the log into the store per second (position, detectors and findings included),
 * against a bare COPY of the same rows into the same table.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { partitionOf } from '@tocsin/server/lib/partition';
import { silentLogger } from '@tocsin/server/ops/logging';
import { createWorkOnly } from './work-only.ts';
import { openStore } from '@tocsin/server/store/open';
import type { EnvelopeAppend } from '@tocsin/server/store/ports/log';
import type { ReadingRow } from '@tocsin/server/store/ports/readings';
import { createLog } from '@tocsin/server/store/postgres/log';
import { createWorkStore } from '@tocsin/server/store/postgres/readings';
import type { BenchResult } from './table.ts';

const DEVICES = 1000;

/** The i-th envelope of a run, as ingest would append it. */
export function envelope(i: number, readings: number, at: number, run: string): EnvelopeAppend {
  const device = i % DEVICES;
  const id = `${run}-${i}`;
  const list = Array.from({ length: readings }, (_, j) => ({ at: at - j * 10, value: (i * 31 + j) % 100 }));
  const payload = Buffer.from(JSON.stringify({ id, at, profile: 'seismic', readings: list })).toString('base64url');
  return {
    deviceId: `d${device}`,
    envelopeId: id,
    digest: createHash('sha256').update(id).digest(),
    partition: partitionOf(`d${device}`, 16),
    kind: 'envelope',
    receivedAt: at,
    traceparent: null,
    context: { device, zone: device % 20, zoneId: `z${device % 20}` },
    body: `header.${payload}.${'s'.repeat(86)}`,
  };
}

/** Runs the benchmark. */
export async function benchPersist(): Promise<BenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-bench-'));
  // Open to traverse, so that the cluster stays inside it when this runs as root.
  await chmod(folder, 0o755);
  const store = await openStore({ dataDir: join(folder, 'data'), log: silentLogger });
  const { db } = store;
  const log = createLog(db);
  const bare = async (readings: number): Promise<number> => {
    const work = createWorkStore(db);
    const at = Date.now();
    const rows: ReadingRow[] = Array.from({ length: 200_000 }, (_, i) => ({
      receivedAt: at,
      at: at - (i % readings) * 10,
      device: Math.floor(i / readings) % DEVICES,
      zone: i % 20,
      value: i % 100,
      envelopeId: `bare-${Math.floor(i / readings)}`,
      fields: null,
    }));
    const began = performance.now();
    for (let from = 0; from < rows.length; from += 20_000) {
      await db.transaction((sql) => work.insertReadings(sql, rows.slice(from, from + 20_000)));
    }
    return (rows.length * 1000) / (performance.now() - began);
  };
  const ours = async (readings: number, envelopes: number, run: string): Promise<number> => {
    const at = Date.now();
    for (let from = 0; from < envelopes; from += 500) {
      await log.append(
        Array.from({ length: Math.min(500, envelopes - from) }, (_, i) => envelope(from + i, readings, at, run)),
      );
    }
    const began = performance.now();
    const worker = createWorkOnly(db);
    await worker.caughtUp(AbortSignal.timeout(120_000));
    const seconds = (performance.now() - began) / 1000;
    await worker.stop();
    return (envelopes * readings) / seconds;
  };
  try {
    await bare(100);
    const rows = [];
    for (const [readings, envelopes] of [
      [100, 4000],
      [1, 60_000],
    ] as const) {
      const limit = await bare(readings);
      const rate = await ours(readings, envelopes, `r${readings}`);
      rows.push({
        what: `readings, ${readings} an envelope`,
        ours: rate,
        unit: 'rows/s',
        limit,
        limitIs: 'bare COPY, same table and indexes',
        aim: '60 %',
      });
    }
    return { name: 'persist', rows, notes: ['fsync on; bare COPY in transactions of 20,000 rows on one connection'] };
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}
