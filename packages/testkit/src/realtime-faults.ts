/**
 * What is done to three instances while viewers watch: a table; `realtime-matrix.ts` runs it. Each fault runs to its own
 * end: afterwards every instance, Redis and PostgreSQL are there again.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { ClusterNode, ProcessCluster } from './cluster-processes.ts';
import type { RedisServer } from './redis-server.ts';

/** A row. */
export interface RealtimeFault {
  readonly name: string;
  /** `lastsMs`: how long what can last does; `round` picks the victim. */
  run(cluster: ProcessCluster, lastsMs: number, round: number): Promise<void>;
}

/** Delay of a slow link each way, ms. */
const SLOW_POSTGRES_MS = 40;
const SLOW_REDIS_MS = 300;
/** Between two kills of subscriptions, and between two emptyings, ms. */
const AGAIN_MS = 250;

function pick(cluster: ProcessCluster, round: number): ClusterNode {
  const nodes = cluster.gateways();
  const node = nodes[round % nodes.length];
  if (node === undefined) throw new Error('no instance');
  return node;
}

function redisOf(cluster: ProcessCluster): RedisServer {
  if (cluster.redis.kind !== 'single') throw new Error('needs a single Redis');
  return cluster.redis.server;
}

async function repeat(lastsMs: number, work: () => Promise<unknown>): Promise<void> {
  for (const until = performance.now() + lastsMs; performance.now() < until; await pause(AGAIN_MS)) await work();
}

async function restartInTurn(cluster: ProcessCluster): Promise<void> {
  for (const node of cluster.gateways()) {
    const code = await node.end();
    if (code !== 0) throw new Error(`${node.name} ended with ${code}`);
    await node.restart();
  }
}

/** Every row. */
export const REALTIME_FAULTS: readonly RealtimeFault[] = [
  { name: 'none, only cuts of viewers', run: (_cluster, lastsMs) => pause(lastsMs) },
  {
    name: 'an instance, killed',
    async run(cluster, lastsMs, round) {
      const node = pick(cluster, round);
      await node.kill();
      await pause(lastsMs);
      await node.restart();
    },
  },
  {
    name: 'an instance, frozen',
    async run(cluster, lastsMs, round) {
      const node = pick(cluster, round);
      node.freeze();
      // Longer than the lease of 3 s and the silence that viewers bear.
      await pause(Math.max(6000, lastsMs));
      node.thaw();
    },
  },
  {
    name: 'subscriptions, killed again and again',
    run: (cluster, lastsMs) => repeat(lastsMs, () => redisOf(cluster).cli('client', 'kill', 'type', 'pubsub')),
  },
  {
    name: 'Redis, killed and started empty',
    async run(cluster, lastsMs) {
      await redisOf(cluster).kill();
      await pause(lastsMs);
      await redisOf(cluster).restart();
    },
  },
  {
    name: 'Redis, emptied again and again',
    run: (cluster, lastsMs) => repeat(lastsMs, () => redisOf(cluster).cli('flushall')),
  },
  {
    name: 'PostgreSQL, cut from all',
    async run(cluster, lastsMs) {
      for (const { links } of cluster.gateways()) links.postgres.cut();
      await pause(lastsMs);
      for (const { links } of cluster.gateways()) links.postgres.heal();
    },
  },
  {
    name: 'the links of an instance, slow',
    async run(cluster, lastsMs, round) {
      const { links } = pick(cluster, round);
      links.postgres.slow(SLOW_POSTGRES_MS);
      links.redis?.slow(SLOW_REDIS_MS);
      await pause(lastsMs);
      links.postgres.heal();
      links.redis?.heal();
    },
  },
  { name: 'all instances restarted in turn', run: restartInTurn },
];
