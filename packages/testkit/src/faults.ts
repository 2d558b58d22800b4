/**
 * The faults of the matrix: what is done to a cluster of processes, and how it ends. A table; `fault-matrix.ts` runs it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Role } from './cluster-app.ts';
import type { ClusterNode, ProcessCluster } from './cluster-processes.ts';
import type { Proxy } from './proxy.ts';
import type { RedisSentinel, RedisServer } from './redis-server.ts';

/** What it happens to. */
export type Victim =
  | 'gateway'
  | 'worker'
  | 'gateway on a slow link'
  | 'worker on a slow link'
  | 'PostgreSQL'
  | 'Redis'
  | 'Redis replica'
  | 'Redis master, promoted by Sentinel'
  | 'node of Redis Cluster'
  | 'subscription'
  | 'everything'
  | 'link gateway - Redis'
  | 'link worker - Redis'
  | 'link gateway - PostgreSQL'
  | 'link worker - PostgreSQL';

/** What happens to it. */
export type Way = 'killed' | 'frozen' | 'ended' | 'cut' | 'half-open';

/** On what it happens: how Redis is set up, and where the log is (`streams`: in a durable Redis, else in the store). */
export const BENCHES = ['single', 'sentinel', 'cluster', 'streams'] as const;
/** One of {@link BENCHES}. */
export type Bench = (typeof BENCHES)[number];

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
  readonly bench: Bench;
  /** What is killed is restarted at once, as by a supervisor: with it away there would be nothing to see. */
  readonly atOnce?: true;
  /** `round` picks among several: first one node, then the other. */
  begin(cluster: ProcessCluster, round: number): Promise<RunningFault>;
}

/** The name of a row, for tests and for `FAULT_ROWS`. */
export function faultName(fault: Fault): string {
  return `${fault.bench === 'streams' ? 'log on Redis Streams: ' : ''}${fault.victim}, ${fault.way}`;
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

/** Every way for a victim. */
function rows(
  bench: Bench,
  victim: Victim,
  begin: (cluster: ProcessCluster, way: Way, round: number) => Promise<RunningFault>,
  { restartedAtOnce = false }: { readonly restartedAtOnce?: boolean } = {},
): Fault[] {
  return (['killed', 'frozen'] as const).map((way) => ({
    victim,
    way,
    bench,
    ...(restartedAtOnce && way === 'killed' ? { atOnce: true } : {}),
    begin: (cluster, round) => begin(cluster, way, round),
  }));
}

/** SIGTERM, as in a rolling update: it lets everybody go, ends with 0, and is started again at once. */
function endedRow(role: Role): Fault {
  return {
    victim: role,
    way: 'ended',
    bench: 'single',
    atOnce: true,
    begin: async (cluster, round) => {
      const node = pick(role === 'gateway' ? cluster.gateways() : cluster.workers(), round);
      const ended = node.end();
      const end = async (): Promise<void> => {
        const code = await ended;
        if (code !== 0) throw new Error(`${node.name} ended with ${code}`);
        await node.restart();
      };
      return Promise.resolve({ surviving: others(cluster, node), end });
    },
  };
}

/** Long enough that a node spends most of its time between two statements of a transaction, each way, ms. */
const SLOW_MS = 40;

/** Frozen while its link to PostgreSQL is slow, it most likely sits in the middle of a transaction and holds locks. */
function slowRow(role: Role): Fault {
  return {
    victim: `${role} on a slow link`,
    way: 'frozen',
    bench: 'single',
    begin: async (cluster, round) => {
      const node = pick(role === 'gateway' ? cluster.gateways() : cluster.workers(), round);
      node.links.postgres.slow(SLOW_MS);
      await pause(1000);
      const running = await strike(node, 'frozen', others(cluster, node));
      const end = async (): Promise<void> => {
        await running.end();
        node.links.postgres.heal();
      };
      return { ...running, end };
    },
  };
}

/** One node loses its way to Redis or to PostgreSQL. */
function linkRows(role: Role, to: 'Redis' | 'PostgreSQL'): Fault[] {
  return (['cut', 'half-open'] as const).map((way) => ({
    victim: `link ${role} - ${to}`,
    way,
    bench: 'single',
    begin: (cluster, round) => {
      const node = pick(role === 'gateway' ? cluster.gateways() : cluster.workers(), round);
      const link = to === 'Redis' ? node.links.redis : node.links.postgres;
      const lost = to === 'PostgreSQL' ? node : undefined;
      return Promise.resolve(strikeLink(link, way, others(cluster, lost)));
    },
  }));
}

function others(cluster: ProcessCluster, lost: ClusterNode | undefined): ClusterNode[] {
  return cluster.gateways().filter((gateway) => gateway !== lost);
}

function strikeGateway(cluster: ProcessCluster, way: Way, round: number): Promise<RunningFault> {
  const victim = pick(cluster.gateways(), round);
  return strike(victim, way, others(cluster, victim));
}

function strikeWorker(cluster: ProcessCluster, way: Way, round: number): Promise<RunningFault> {
  return strike(pick(cluster.workers(), round), way, cluster.gateways());
}

function strikePostgres(cluster: ProcessCluster, way: Way): Promise<RunningFault> {
  return strike(cluster.postgres, way, cluster.gateways());
}

function strikeRedis(cluster: ProcessCluster, way: Way): Promise<RunningFault> {
  return strike(singleOf(cluster), way, cluster.gateways());
}

async function strikeReplica(cluster: ProcessCluster, way: Way): Promise<RunningFault> {
  const [, replica] = await placesOf(sentinelOf(cluster));
  return strike(replica, way, cluster.gateways());
}

/** Its end rejects when nobody was promoted meanwhile: then it was another fault. */
async function strikeMaster(cluster: ProcessCluster, way: Way): Promise<RunningFault> {
  const [master, replica] = await placesOf(sentinelOf(cluster));
  const running = await strike(master, way, cluster.gateways());
  const end = async (): Promise<void> => {
    const [promoted] = await placesOf(sentinelOf(cluster));
    await running.end();
    if (promoted !== replica) throw new Error('the replica was not promoted');
  };
  return { ...running, end };
}

/** As when the power fails: every node, PostgreSQL and Redis at one moment. */
async function strikeAll(cluster: ProcessCluster): Promise<RunningFault> {
  const redis = singleOf(cluster);
  const all: readonly Mortal[] = [...cluster.nodes(), cluster.postgres, redis];
  await Promise.all(all.map((victim) => victim.kill()));
  const end = async (): Promise<void> => {
    await Promise.all([cluster.postgres.restart(), redis.restart()]);
    await Promise.all(cluster.nodes().map((node) => node.restart()));
  };
  return { surviving: cluster.gateways(), end };
}

function strikeClusterNode(cluster: ProcessCluster, way: Way, round: number): Promise<RunningFault> {
  const nodes = cluster.redis.kind === 'cluster' ? cluster.redis.cluster.nodes : [];
  const node = nodes[round % nodes.length];
  if (node === undefined) throw new Error('needs a Redis Cluster');
  return strike(node, way, cluster.gateways());
}

/** Every row. */
export const FAULTS: readonly Fault[] = [
  ...rows('single', 'gateway', strikeGateway),
  endedRow('gateway'),
  ...rows('single', 'worker', strikeWorker),
  endedRow('worker'),
  slowRow('gateway'),
  slowRow('worker'),
  ...rows('single', 'PostgreSQL', strikePostgres, { restartedAtOnce: true }),
  ...rows('single', 'Redis', strikeRedis),
  {
    victim: 'subscription',
    way: 'killed',
    bench: 'single',
    begin: (cluster) => Promise.resolve({ surviving: cluster.gateways(), end: killSubscriptions(singleOf(cluster)) }),
  },
  { victim: 'everything', way: 'killed', bench: 'single', atOnce: true, begin: strikeAll },
  ...linkRows('gateway', 'Redis'),
  ...linkRows('worker', 'Redis'),
  ...linkRows('gateway', 'PostgreSQL'),
  ...linkRows('worker', 'PostgreSQL'),
  ...rows('sentinel', 'Redis replica', strikeReplica),
  ...rows('sentinel', 'Redis master, promoted by Sentinel', strikeMaster),
  ...rows('cluster', 'node of Redis Cluster', strikeClusterNode),
  ...rows('streams', 'gateway', strikeGateway),
  ...rows('streams', 'worker', strikeWorker),
  ...rows('streams', 'PostgreSQL', strikePostgres, { restartedAtOnce: true }),
  ...rows('streams', 'Redis', strikeRedis, { restartedAtOnce: true }),
  { victim: 'everything', way: 'killed', bench: 'streams', atOnce: true, begin: strikeAll },
];
