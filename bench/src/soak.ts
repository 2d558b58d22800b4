/**
 * `npm run soak -- [--viewers n] [--minutes n] [--instances n] [--rate alerts/s]`: a long day in short. Viewers, each a user
 * of its own, are connected while alerts come at a steady pace; some are cut, some do not read for a while, all send
 * receipts and authenticate again. A line a minute; at the end a verdict.
 *
 * Exit code: 0, or 1 when a viewer lacks a message, had one twice or out of order, or memory grew steadily (the heap after
 * collections; in 20 minutes and more what is resident too); 64 wrong use.
 * Several instances share a PostgreSQL and a Redis of their own.
 */
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { histogramOf } from '@tocsin/device/simulate/histogram';
import { call } from '@tocsin/testkit/device';
import { startPostgres } from '@tocsin/testkit/postgres-server';
import { startRedis } from '@tocsin/testkit/redis-server';
import { type BenchServer, startBenchServer } from './bench-server.ts';
import { COLLECTS, MANY_VIEWERS } from './contenders.ts';
import { monotonicMs } from './frame-reader.ts';
import { type Helper, startHelper } from './helper.ts';
import type { SoakAsk, SoakCount } from './soak-process.ts';
import { growsSteadily } from './soak-verdict.ts';

const ISSUER = 'https://tocsin.soak';
const SECRET = 'soak-secret-of-more-than-thirty-two-characters';
const MINUTE_MS = 60_000;
const REACH_MS = 60_000;
/** Descriptors beside viewers' sockets. */
const SPARE_FILES = 500;
/** Looks at memory in a run, each after a collection; at most one in so many ms. */
const SAMPLES = 40;
const SAMPLE_LEAST_MS = 5000;
const COLLECT_MS = 300;
/** Resident memory takes this long to settle; a shorter run judges the heap alone. */
const RESIDENT_MINUTES = 20;

interface Plan {
  readonly viewers: number;
  readonly minutes: number;
  readonly instances: number;
  readonly rate: number;
}

/** Servers, and what they stand on. */
interface Stage {
  readonly servers: readonly BenchServer[];
  readonly users: Helper<SoakAsk>;
  stop(): Promise<void>;
}

function readPlan(args: readonly string[]): Plan {
  const number = { type: 'string' } as const;
  const options = { viewers: number, minutes: number, instances: number, rate: number } as const;
  const { values } = parseArgs({ args: [...args], options });
  const read = (text: string | undefined, otherwise: number): number => {
    const value = text === undefined ? otherwise : Number(text);
    if (!Number.isFinite(value) || value <= 0) throw new TypeError(`${text} is not a number above 0`);
    return value;
  };
  return {
    viewers: Math.round(read(values.viewers, 1000)),
    minutes: read(values.minutes, 5),
    instances: Math.round(read(values.instances, 1)),
    rate: read(values.rate, 2),
  };
}

/** Node has raised its limit to the hard one; children have the same. */
function refuseTooMany({ viewers }: Plan): void {
  const files = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
  if (files !== 'unlimited' && viewers + SPARE_FILES > Number(files))
    throw new RangeError(`a process may open ${files} files here (ulimit -Hn): too few for ${viewers} viewers`);
}

async function openStage({ minutes, instances }: Plan): Promise<Stage> {
  const ends: (() => unknown)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of ends.reverse()) await end();
  };
  try {
    const users = startHelper<SoakAsk>('soak-process.js');
    ends.push(() => users.stop());
    const jwksUrl = await users.ask<string>({ kind: 'provide', issuer: ISSUER });
    const environment: Record<string, string> = {
      ...MANY_VIEWERS,
      ...COLLECTS,
      JWT_ISSUER: ISSUER,
      JWKS_URL: jwksUrl,
      // Everybody authenticates again a few times, however short the run.
      WS_REAUTHENTICATE_SECONDS: String(Math.max(30, Math.min(900, Math.round(minutes * 15)))),
      ACCESS_TOKEN_MINUTES: '1440',
    };
    if (instances > 1) {
      const [postgres, redis] = [await startPostgres(), await startRedis()];
      ends.push(
        () => postgres.stop(),
        () => redis.stop(),
      );
      Object.assign(environment, { DATABASE_URL: postgres.url, REDIS_URL: redis.url, CLUSTER_SECRET: SECRET });
    }
    const servers: BenchServer[] = [];
    for (let i = 0; i < instances; i += 1) {
      const server = await startBenchServer(environment);
      ends.push(() => server.stop());
      servers.push(server);
    }
    return { servers, users, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Raises exercises at a steady pace, by the instances in turn. */
function keepRaising({ servers }: Stage, rate: number): { end(): Promise<number>; readonly failed: () => number } {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  let raised = 0;
  let failed = 0;
  let over = false;
  const one = async (due: number, { server, token }: BenchServer): Promise<void> => {
    const body = JSON.stringify({
      severity: 'minor',
      headline: `bench ${due.toFixed(3)}`,
      description: 'x'.repeat(200),
    });
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
    const request = { method: 'POST', headers, body, agent, timeoutMs: 20_000 };
    const status = await call(`${server.base}/v1/alerts`, request).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 201) raised += 1;
    else failed += 1;
  };
  const running = (async () => {
    const open: Promise<void>[] = [];
    const began = monotonicMs();
    for (let n = 0; !over; n += 1) {
      const due = began + (n * 1000) / rate;
      await pause(Math.max(0, due - monotonicMs()));
      const turn = servers[n % servers.length];
      if (turn !== undefined) open.push(one(due, turn));
      if (open.length > 1000) await Promise.all(open.splice(0, 500));
    }
    await Promise.all(open);
    agent.destroy();
  })();
  return {
    failed: () => failed,
    end: async () => {
      over = true;
      await running;
      return raised;
    },
  };
}

/** What a server holds, in MB, and how late its loop is, in ms. */
interface Health {
  readonly resident: number;
  readonly heap: number;
  readonly lateMs: number;
}

/** After a collection, so that the heap is what is held. */
async function healthOf({ server }: BenchServer): Promise<Health> {
  server.child.kill('SIGUSR2');
  await pause(COLLECT_MS);
  const text = await (await fetch(`${server.base}/metrics`)).text();
  const gauge = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1] ?? Number.NaN);
  const status = await readFile(`/proc/${server.child.pid}/status`, 'utf8');
  return {
    resident: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024,
    heap: gauge('nodejs_heap_size_used_bytes') / 1e6,
    lateMs: gauge('nodejs_eventloop_lag_p99_seconds') * 1000,
  };
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** A line for the time since the last one. */
function lineOf(minute: number, count: SoakCount, healths: readonly Health[]): string {
  const latency = histogramOf(count.latency);
  const each = (of: keyof Health): string => healths.map((health) => health[of].toFixed(0)).join('/');
  return [
    `minute ${minute.toFixed(1)}`,
    `${count.open} connected`,
    `${count.reconnects} came back, ${count.slow} slow, ${count.authenticated} authenticated, ${count.receipts} receipts`,
    `${count.deliveries} deliveries, ${count.missing} missing, ${count.duplicates} doubled`,
    `p50 ${latency.quantile(0.5).toFixed(0)}, p99 ${latency.quantile(0.99).toFixed(0)} ms`,
    `RSS ${each('resident')} MB, heap ${each('heap')} MB, loop p99 ${each('lateMs')} ms`,
    ...(Object.keys(count.refused).length === 0 ? [] : [JSON.stringify(count.refused)]),
  ].join('; ');
}

/** Runs it; answers what went wrong, in words. */
async function soak(plan: Plan): Promise<string[]> {
  const stage = await openStage(plan);
  try {
    const { servers, users } = stage;
    const began = performance.now();
    const ports = servers.map(({ port }) => port);
    await users.ask({ kind: 'connect', ports, viewers: plan.viewers });
    say(
      `${plan.viewers} viewers on ${plan.instances} instances after ${((performance.now() - began) / 1000).toFixed(1)} s`,
    );
    await users.ask({ kind: 'trouble', on: true });
    const raising = keepRaising(stage, plan.rate);
    const heaps: number[][] = servers.map(() => []);
    const residents: number[][] = servers.map(() => []);
    const start = performance.now();
    let nextLine = MINUTE_MS;
    const sampleMs = Math.max(SAMPLE_LEAST_MS, Math.min(MINUTE_MS, (plan.minutes * MINUTE_MS) / SAMPLES));
    for (let at = 0; at < plan.minutes * MINUTE_MS; at = performance.now() - start) {
      await pause(Math.min(sampleMs, plan.minutes * MINUTE_MS - at));
      const healths = await Promise.all(servers.map(healthOf));
      healths.forEach(({ heap, resident }, i) => {
        heaps[i]?.push(heap);
        residents[i]?.push(resident);
      });
      if (performance.now() - start < nextLine) continue;
      nextLine += MINUTE_MS;
      say(lineOf((performance.now() - start) / MINUTE_MS, await users.ask<SoakCount>({ kind: 'count' }), healths));
    }
    await users.ask({ kind: 'trouble', on: false });
    const raised = await raising.end();
    const behind = await users.ask<number>({ kind: 'reach', offset: raised, giveUpMs: REACH_MS });
    const last = await users.ask<SoakCount>({ kind: 'count' });
    say(lineOf((performance.now() - start) / MINUTE_MS, last, await Promise.all(servers.map(healthOf))));
    say(
      `${raised} alerts raised (${raising.failed()} refused), ${raised * plan.viewers} deliveries wanted, ${last.deliveries} made`,
    );
    const faults: string[] = [];
    if (behind > 0) faults.push(`${behind} viewers lack messages`);
    if (last.missing > 0) faults.push(`${last.missing} messages were missing on the way`);
    if (last.duplicates > 0) faults.push(`${last.duplicates} came twice or out of order`);
    if (last.deliveries !== raised * plan.viewers) faults.push('the number of deliveries is not what it must be');
    if (heaps.some(growsSteadily)) faults.push('the heap grows steadily');
    if (plan.minutes >= RESIDENT_MINUTES && residents.some(growsSteadily))
      faults.push('resident memory grows steadily');
    return faults;
  } finally {
    await stage.stop();
  }
}

/** The command. */
async function main(): Promise<void> {
  let plan: Plan;
  try {
    plan = readPlan(process.argv.slice(2));
    refuseTooMany(plan);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.stderr.write('usage: npm run soak -- [--viewers n] [--minutes n] [--instances n] [--rate alerts/s]\n');
    process.exit(64);
  }
  const faults = await soak(plan);
  say(
    faults.length === 0
      ? 'PASSED: every viewer has every alert once, in order; memory is flat'
      : `FAILED: ${faults.join('; ')}`,
  );
  process.exit(faults.length === 0 ? 0 : 1);
}

await main();
