/**
 * What an append to the log costs: the store (PostgreSQL, fsync on) against Redis Streams with the file synced each second
 * and at every append, in batches as ingest makes them, two under way at once.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LOG_COMMAND_TIMEOUT_MS, openRedisLog } from '@tocsin/server/bus/redis/log';
import { openRedisLink, type RedisLink } from '@tocsin/server/bus/redis/link';
import { silentLogger } from '@tocsin/server/ops/logging';
import { openStore } from '@tocsin/server/store/open';
import type { Database } from '@tocsin/server/store/ports/database';
import type { Log } from '@tocsin/server/store/ports/log';
import { createLog } from '@tocsin/server/store/postgres/log';
import { createLogBackendStore } from '@tocsin/server/store/postgres/log-backend';
import { startRedis } from '@tocsin/testkit/redis-server';
import { envelope } from './persist.ts';
import type { BenchResult, ResultRow } from './table.ts';

const UNDER_WAY = 2;
/** Envelopes of a batch under load and nearly idle, and how many are appended. */
const LOADS = [
  { batch: 500, envelopes: 60_000 },
  { batch: 20, envelopes: 12_000 },
] as const;
const READINGS = 1;

/** What one run came to. */
interface Figures {
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
}

/** A log and what it costs so far. */
interface Subject {
  readonly name: string;
  readonly log: Log;
  /** Bytes that came over the network, and that are held (memory; for the store on disk). */
  readonly cost: () => Promise<{ readonly wire: number; readonly held: number }>;
}

/** Runs the benchmark. */
export async function benchLog(): Promise<BenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-bench-'));
  // Open to traverse, so that the cluster stays inside it when this runs as root.
  await chmod(folder, 0o755);
  const store = await openStore({ dataDir: join(folder, 'data'), log: silentLogger });
  const ends: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true }), () => store.close()];
  try {
    const inStore: Subject = { name: 'store', log: createLog(store.db), cost: () => storeCost(store.db) };
    const subjects = [inStore];
    for (const sync of ['everysec', 'always']) {
      const args = ['--appendonly', 'yes', '--appendfsync', sync];
      const server = await startRedis({ args });
      ends.push(() => server.stop());
      const link = openRedisLink({
        place: { kind: 'single', url: server.url },
        name: 'bench',
        onError: () => undefined,
        commandTimeoutMs: LOG_COMMAND_TIMEOUT_MS,
      });
      ends.push(() => link.close());
      await link.ready(5000);
      const options = { link, store: inStore.log, backends: createLogBackendStore(store.db), generation: sync };
      subjects.push({ name: `Redis, ${sync}`, log: openRedisLog(options), cost: () => redisCost(link) });
    }
    for (const { log } of subjects) await appendAll(log, { batch: 100, envelopes: 2000 }, 'warm');
    const rows: ResultRow[] = [];
    const notes: string[] = [];
    for (const load of LOADS) {
      let limit: Figures | undefined;
      for (const subject of subjects) {
        const before = await subject.cost();
        const figures = await appendAll(subject.log, load, `b${load.batch}`);
        const after = await subject.cost();
        const each = (bytes: number): number => Math.round(bytes / load.envelopes);
        const held = each(after.held - before.held);
        notes.push(
          `${subject.name}, batches of ${load.batch}: ${each(after.wire - before.wire)} bytes in, ${held} held`,
        );
        if (limit === undefined) limit = figures;
        else rows.push(...compare(subject.name, load.batch, figures, limit));
      }
    }
    const body = envelope(0, READINGS, Date.now(), 'size').body.length;
    return {
      name: 'log',
      rows,
      notes: [
        `${UNDER_WAY} appends under way; bodies of ${body} bytes; 1,000 devices in 12 partitions; nobody reads meanwhile`,
        'bytes for each envelope, its id included; in: Redis’ network, for the store its WAL; held: memory, for the store on disk',
        ...notes,
      ],
    };
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

function compare(name: string, batch: number, ours: Figures, store: Figures): ResultRow[] {
  const row = (what: string, unit: string, of: keyof Figures): ResultRow => ({
    what: `${name}, batches of ${batch}: ${what}`,
    ours: ours[of],
    unit,
    limit: store[of],
    limitIs: 'the store, fsync on',
    aim: '-',
  });
  return [row('appended', 'envelopes/s', 'rate'), row('append p50', 'ms', 'p50'), row('append p99', 'ms', 'p99')];
}

async function appendAll(
  log: Log,
  { batch, envelopes }: { readonly batch: number; readonly envelopes: number },
  run: string,
): Promise<Figures> {
  const at = Date.now();
  const batches = Array.from({ length: envelopes / batch }, (_, b) =>
    Array.from({ length: batch }, (_unused, i) => envelope(b * batch + i, READINGS, at, run)).map((made) => ({
      ...made,
      partition: made.partition % 12,
    })),
  );
  const took: number[] = [];
  const began = performance.now();
  const line = async (): Promise<void> => {
    for (let next = batches.pop(); next !== undefined; next = batches.pop()) {
      const sent = performance.now();
      await log.append(next);
      took.push(performance.now() - sent);
    }
  };
  await Promise.all(Array.from({ length: UNDER_WAY }, line));
  const rate = (envelopes * 1000) / (performance.now() - began);
  took.sort((a, b) => a - b);
  const quantile = (share: number): number => took[Math.floor((took.length - 1) * share)] ?? 0;
  return { rate, p50: quantile(0.5), p99: quantile(0.99) };
}

async function storeCost(db: Database): Promise<{ wire: number; held: number }> {
  const [row] = await db.query<{ wire: number; held: number }>(
    `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS wire,
       (pg_total_relation_size('log_records') + pg_total_relation_size('envelope_ids'))::bigint AS held`,
  );
  return row ?? { wire: 0, held: 0 };
}

async function redisCost(link: RedisLink): Promise<{ wire: number; held: number }> {
  const value = async (section: string, name: string): Promise<number> =>
    Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await link.run('info', (client) => client.info(section)))?.[1] ?? 0);
  return { wire: await value('stats', 'total_net_input_bytes'), held: await value('memory', 'used_memory') };
}
