/**
 * The faults of the matrix: what is done to a cluster of processes, and how it ends. A table; `fault-matrix.ts` runs it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { ClusterNode, ProcessCluster } from './cluster-processes.ts';
import type { Proxy } from './proxy.ts';
import type { RedisSentinel, RedisServer } from './redis-server.ts';

/** What it happens to. */
export type Victim =
  | 'gateway'
  | 'worker'
  | 'PostgreSQL'
  | 'Redis'
  | 'Redis replica'
  | 'Redis master, promoted by Sentinel'
  | 'subscription'
  | 'link gateway - Redis'
  | 'link worker - Redis'
  | 'link gateway - PostgreSQL'
  | 'link worker - PostgreSQL';

/** What happens to it. */
export type Way = 'killed' | 'frozen' | 'cut' | 'half-open';

/** A fault that lasts. */
export interface RunningFault {
  /** Gateways that devices and viewers can go on with. */
  readonly surviving: readonly ClusterNode[];
  /** Ends it: thawed, restarted, healed. Resolves once that is done. */
  end(): Promise<void>;
}

/** A row of the matrix. */
export interface Fault {
  readonly victim: Victim;
  readonly way: Way;
  readonly redis: 'single' | 'sentinel';
  /** What is killed is restarted at once, as by a supervisor: with it away there would be nothing to see. */
  readonly atOnce?: true;
  /** `round` picks among several: first one node, then the other. */
  begin(cluster: ProcessCluster, round: number): Promise<RunningFault>;
}

/** The name of a row, for tests and for `FAULT_ROWS`. */
export function faultName(fault: Fault): string {
  return `${fault.victim}, ${fault.way}`;
}

interface Mortal {
  freeze(): void;
  thaw(): void;
  kill(): Promise<void>;
  restart(): Promise<void>;
}

async function strike(victim: Mortal, way: Way, surviving: readonly ClusterNode[]): Promise<RunningFault> {
  if (way === 'frozen') {
    victim.freeze();
    return { surviving, end: () => Promise.resolve(victim.thaw()) };
  }
  await victim.kill();
  return { surviving, end: () => victim.restart() };
}

function strikeLink(link: Proxy | null, way: Way, surviving: readonly ClusterNode[]): RunningFault {
  if (link === null) throw new Error('no link of its own');
  if (way === 'cut') link.cut();
  else link.halfOpen();
  return { surviving, end: () => Promise.resolve(link.heal()) };
}

function pick(nodes: readonly ClusterNode[], round: number): ClusterNode {
  const node = nodes[round % nodes.length];
  if (node === undefined) throw new Error('no such node');
  return node;
}

function singleOf(cluster: ProcessCluster): RedisServer {
  if (cluster.redis.kind !== 'single') throw new Error('needs a single Redis');
  return cluster.redis.server;
}

function sentinelOf(cluster: ProcessCluster): RedisSentinel {
  if (cluster.redis.kind !== 'sentinel') throw new Error('needs Sentinels');
  return cluster.redis.sentinel;
}

/** Who is master and who replica now: rounds before may have swapped them. */
async function placesOf({ master, replica, sentinels, name }: RedisSentinel): Promise<[RedisServer, RedisServer]> {
  const told = await sentinels[0]?.cli('sentinel', 'get-master-addr-by-name', name);
  return told?.split('\n')[1] === String(replica.port) ? [replica, master] : [master, replica];
}

/** Kills all subscriptions again and again, so that a client that comes back at once is not spared. */
function killSubscriptions(redis: RedisServer): () => Promise<void> {
  let over = false;
  const killing = (async () => {
    while (!over) {
      await redis.cli('client', 'kill', 'type', 'pubsub').catch(() => undefined);
      await pause(250);
    }
  })();
  return async () => {
    over = true;
    await killing;
  };
}

const WAYS = ['killed', 'frozen'] as const;
const LINK_WAYS = ['cut', 'half-open'] as const;

/** Every row. */
export const FAULTS: readonly Fault[] = [
  ...WAYS.map(
    (way): Fault => ({
      victim: 'gateway',
      way,
      redis: 'single',
      begin: (cluster, round) => {
        const victim = pick(cluster.gateways(), round);
        const others = cluster.gateways().filter((node) => node !== victim);
        return strike(victim, way, others);
      },
    }),
  ),
  ...WAYS.map(
    (way): Fault => ({
      victim: 'worker',
      way,
      redis: 'single',
      begin: (cluster, round) => strike(pick(cluster.workers(), round), way, cluster.gateways()),
    }),
  ),
  ...WAYS.map(
    (way): Fault => ({
      victim: 'PostgreSQL',
      way,
      redis: 'single',
      ...(way === 'killed' ? { atOnce: true } : {}),
      begin: (cluster) => strike(cluster.postgres, way, cluster.gateways()),
    }),
  ),
  ...WAYS.map(
    (way): Fault => ({
      victim: 'Redis',
      way,
      redis: 'single',
      begin: (cluster) => strike(singleOf(cluster), way, cluster.gateways()),
    }),
  ),
  {
    victim: 'subscription',
    way: 'killed',
    redis: 'single',
    begin: async (cluster) => {
      const end = killSubscriptions(singleOf(cluster));
      return Promise.resolve({ surviving: cluster.gateways(), end });
    },
  },
  ...LINK_WAYS.flatMap((way): Fault[] =>
    (['gateway', 'worker'] as const).flatMap((role): Fault[] =>
      (['Redis', 'PostgreSQL'] as const).map((to) => ({
        victim: `link ${role} - ${to}`,
        way,
        redis: 'single',
        begin: async (cluster, round) => {
          const node = pick(role === 'gateway' ? cluster.gateways() : cluster.workers(), round);
          const link = to === 'Redis' ? node.links.redis : node.links.postgres;
          const lost = to === 'PostgreSQL' ? node : undefined;
          const surviving = cluster.gateways().filter((gateway) => gateway !== lost);
          return Promise.resolve(strikeLink(link, way, surviving));
        },
      })),
    ),
  ),
  ...WAYS.map(
    (way): Fault => ({
      victim: 'Redis replica',
      way,
      redis: 'sentinel',
      begin: async (cluster) => {
        const [, replica] = await placesOf(sentinelOf(cluster));
        return strike(replica, way, cluster.gateways());
      },
    }),
  ),
  ...WAYS.map(
    (way): Fault => ({
      victim: 'Redis master, promoted by Sentinel',
      way,
      redis: 'sentinel',
      begin: async (cluster) => {
        const [master] = await placesOf(sentinelOf(cluster));
        return strike(master, way, cluster.gateways());
      },
    }),
  ),
];
