/** The servers that `fanout` compares, each in a process of its own, and what is asked of any of them. */
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { call } from '@tocsin/testkit/device';
import type { CrowdTarget, Dialect } from './crowd.ts';
import { alertText, newSigner } from './alert-text.ts';
import type { SourceAsk } from './alert-source.ts';
import { type BenchServer, startBenchServer } from './bench-server.ts';
import type { FanoutAsk, FanoutKind } from './fanout-server.ts';
import { startHelper } from './helper.ts';
import { startNchan } from './nchan.ts';

/** A server of the comparison. */
export interface Contender {
  readonly name: string;
  readonly target: CrowdTarget;
  /** Its process. */
  readonly pid: number;
  /** Tells everybody; `due`: when that was due (ms, monotonic). Resolves once the server has taken it. */
  publish(due: number): Promise<unknown>;
  /** Resident memory in KB, after a collection where there is a collector. */
  residentKb(): Promise<number>;
  stop(): Promise<void>;
}

/** Settings that put the limits of connections out of the way of many viewers on one address. */
export const MANY_VIEWERS: Readonly<Record<string, string>> = {
  WS_MAX_CONNECTIONS_PER_IP: '50000',
  WS_RECONNECTS_PER_MINUTE: '10000',
};

const COLLECT_MS = 400;
/** Makes a server process collect garbage at SIGUSR2. */
export const COLLECTS: Readonly<Record<string, string>> = {
  NODE_OPTIONS: `--import ${new URL('look-inside.js', import.meta.url).href}`,
};

async function rssOf(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
}

/** Node's collector gives pages back a moment later: looked at again and again, the least counts. */
async function settledRss(pid: number, collect: () => unknown): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 3; look += 1) {
    await collect();
    await pause(COLLECT_MS);
    least = Math.min(least, await rssOf(pid));
  }
  return least;
}

/** Starts one of `fanout-server.ts`. */
export async function startSimple(name: string, what: FanoutKind, redisUrl: string | null): Promise<Contender> {
  const helper = startHelper<FanoutAsk>('fanout-server.js');
  const port = await helper.ask<number>({ kind: 'start', what, redisUrl });
  const dialects: Partial<Record<FanoutKind, Dialect>> = {
    hub: 'tocsin',
    'socket.io': 'socket.io',
    'socket.io-redis': 'socket.io',
  };
  const dialect = dialects[what] ?? 'plain';
  const paths: Readonly<Record<Dialect, string>> = {
    plain: '/alerts',
    tocsin: '/ws/alerts',
    'socket.io': '/socket.io/?EIO=4&transport=websocket',
  };
  const signer = newSigner();
  let offset = 0;
  return {
    name,
    target: { port, path: paths[dialect], dialect },
    pid: helper.pid,
    publish(due) {
      offset += 1;
      return helper.ask({ kind: 'publish', offset, alert: alertText(offset, due, signer) });
    },
    residentKb: () => settledRss(helper.pid, () => helper.ask({ kind: 'collect' })),
    stop: () => helper.stop(),
  };
}

/** nginx with nchan. */
export async function startNchanContender(): Promise<Contender> {
  const nchan = await startNchan();
  const signer = newSigner();
  let offset = 0;
  return {
    name: 'nchan (nginx, C)',
    target: { port: nchan.port, path: '/alerts', dialect: 'plain' },
    pid: nchan.worker,
    publish(due) {
      offset += 1;
      return nchan.publish(`{"type":"alert","offset":${offset},"data":${alertText(offset, due, signer)}}`);
    },
    residentKb: () => settledRss(nchan.worker, () => undefined),
    stop: () => nchan.stop(),
  };
}

/** A Tocsin process, and how alerts come into it. */
export interface TocsinServer {
  readonly bench: BenchServer;
  /** Raises an alert; resolves once it is committed. */
  raise(due: number): Promise<unknown>;
  stop(): Promise<void>;
}

const CLUSTER_SECRET = 'bench-secret-of-more-than-thirty-two-characters';

/**
 * The whole server as users start it, with limits out of the way. With Redis alerts come from a second process, committed by
 * the ledger and told by Redis; without, as exercises over HTTP.
 */
export async function startTocsinServer(
  redisUrl: string | null,
  environment: Readonly<Record<string, string>> = {},
): Promise<TocsinServer> {
  const bench = await startBenchServer({
    ...MANY_VIEWERS,
    ...(redisUrl === null ? {} : { REDIS_URL: redisUrl }),
    CLUSTER_SECRET,
    ...COLLECTS,
    ...environment,
  });
  if (redisUrl === null) return withDrills(bench);
  const source = startHelper<SourceAsk>('alert-source.js');
  await source.ask({ kind: 'open', place: { dataDir: bench.dataDir, clusterSecret: CLUSTER_SECRET, redisUrl } });
  return {
    bench,
    raise: (due) => source.ask({ kind: 'raise', due }),
    stop: async () => {
      await source.stop();
      await bench.stop();
    },
  };
}

function withDrills(bench: BenchServer): TocsinServer {
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${bench.token}` };
  return {
    bench,
    async raise(due) {
      const body = JSON.stringify({
        severity: 'severe',
        headline: `bench ${due.toFixed(3)}`,
        description: 'x'.repeat(200),
      });
      const { status } = await call(`${bench.server.base}/v1/alerts`, { method: 'POST', headers, body, agent });
      if (status !== 201) throw new Error(`an exercise was answered ${status}`);
    },
    stop: async () => {
      agent.destroy();
      await bench.stop();
    },
  };
}

/** Tocsin as a contender. */
export async function startTocsin(redisUrl: string): Promise<Contender> {
  const { bench, raise, stop } = await startTocsinServer(redisUrl, { WS_PUBLIC_ALERTS: 'true' });
  const pid = bench.server.child.pid ?? 0;
  return {
    name: 'Tocsin',
    target: { port: bench.port, path: '/ws/alerts', dialect: 'tocsin' },
    pid,
    publish: raise,
    residentKb: () => settledRss(pid, () => bench.server.child.kill('SIGUSR2')),
    stop,
  };
}
