/**
 * A cluster of real processes: the built command as gateways and workers, a durable PostgreSQL, a Redis of its own.
 *
 * Between each node and PostgreSQL, and each node and a single Redis, lies a proxy of that node alone, so that one link
 * can be cut, swallowed or slowed. Everything is gone with this process, however it ends.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Role as PartialRole } from './cluster-app.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { type PostgresServer, startPostgres } from './postgres-server.ts';
import { type Proxy, startProxy } from './proxy.ts';
import {
  redisSettings,
  type RedisCluster,
  type RedisSentinel,
  type RedisServer,
  startRedis,
  startRedisCluster,
  startRedisSentinel,
} from './redis-server.ts';
import { freePort, type ServerProcess, signIn, startServer } from './server-process.ts';

/** What a process does; `whole`: all three roles of the product, with a `WS_PORT`. */
type Role = PartialRole | 'whole';

/** One process of the cluster; its ports and its links stay over restarts. */
export interface ClusterNode {
  readonly name: string;
  readonly role: Role;
  readonly base: string;
  /** Its `WS_PORT`: only of a whole one. */
  readonly livePort: number | null;
  readonly links: { readonly postgres: Proxy; readonly redis: Proxy | null };
  /** The process of now. */
  process(): ServerProcess;
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL; resolves once it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with its exit code, or the signal that ended it. */
  end(): Promise<number | string>;
  /** Starts it again, after killing what still runs; resolves once it is ready. */
  restart(): Promise<void>;
}

/** The Redis of a cluster. */
export type ClusterRedis =
  | { readonly kind: 'single'; readonly server: RedisServer }
  | { readonly kind: 'cluster'; readonly cluster: RedisCluster }
  | { readonly kind: 'sentinel'; readonly sentinel: RedisSentinel };

/** A running cluster. */
export interface ProcessCluster {
  readonly postgres: PostgresServer;
  readonly redis: ClusterRedis;
  /** Access token of the first operator, role admin. */
  readonly token: string;
  nodes(): readonly ClusterNode[];
  gateways(): readonly ClusterNode[];
  workers(): readonly ClusterNode[];
  wholes(): readonly ClusterNode[];
  /** One more node; resolves once it is ready. */
  add(role: Role, environment?: Readonly<Record<string, string>>): Promise<ClusterNode>;
  /** What all nodes wrote, for the message of a failed test. */
  output(): string;
  stop(): Promise<void>;
}

/** What a cluster consists of. */
export interface ProcessClusterOptions {
  readonly gateways?: number;
  readonly workers?: number;
  readonly wholes?: number;
  readonly redis: ClusterRedis['kind'];
  /** For a single Redis. */
  readonly redisArgs?: readonly string[];
  /** Settings for all. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Settings of the one of this name (`gateway-0`) on top. */
  readonly own?: (name: string) => Readonly<Record<string, string>>;
}

/** Starts it; resolves once every node is ready. */
export async function startProcessCluster(options: ProcessClusterOptions): Promise<ProcessCluster> {
  const folder = guardedFolder('tocsin-cluster-');
  const ends: (() => Promise<unknown>)[] = [
    async () => {
      await rm(folder, { recursive: true, force: true });
      folderRemoved(folder);
    },
  ];
  const nodes: ClusterNode[] = [];
  const counts = { gateway: 0, worker: 0, whole: 0 };
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.kill()));
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    const [postgres, redis] = await Promise.all([startPostgres(), openRedis(options)]);
    ends.push(postgres.stop, partsOf(redis).stop);
    const common = {
      CLUSTER_SECRET: randomBytes(32).toString('base64url'),
      // The issuer of tokens: one for all, else a gateway refuses the tokens of another.
      PUBLIC_URL: 'http://tocsin.example',
      ...options.environment,
    };
    const add = async (role: Role, environment: Readonly<Record<string, string>> = {}): Promise<ClusterNode> => {
      const name = `${role}-${counts[role]}`;
      counts[role] += 1;
      const links = await openLinks(postgres, redis);
      ends.push(links.postgres.stop, async () => links.redis?.stop());
      const place =
        redis.kind === 'single' && links.redis !== null
          ? { REDIS_URL: links.redis.urlFor(redis.server.url) }
          : redisSettings(partsOf(redis));
      const node = await createNode(folder, name, role, links, {
        ...common,
        DATABASE_URL: links.postgres.urlFor(postgres.url),
        ...place,
        ...options.own?.(name),
        ...environment,
        ROLES: role === 'whole' ? 'gateway,worker,bridge' : role,
      });
      nodes.push(node);
      await node.process().ready();
      return node;
    };
    // The first migrates and makes the keys: the others would only wait for it on these two cores.
    const [first = 'gateway', ...rest] = rolesOf(options);
    await add(first);
    await Promise.all(rest.map((role) => add(role)));
    nodes.sort((a, b) => a.name.localeCompare(b.name));
    const ofRole = (role: Role) => (): readonly ClusterNode[] => nodes.filter((node) => node.role === role);
    return {
      postgres,
      redis,
      token: await signIn(nodes[0]?.base ?? ''),
      nodes: () => nodes,
      gateways: ofRole('gateway'),
      workers: ofRole('worker'),
      wholes: ofRole('whole'),
      add,
      output: () => nodes.map((node) => `--- ${node.name}\n${node.process().output()}`).join('\n'),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The first one answers HTTP. */
function rolesOf({ gateways = 0, workers = 0, wholes = 0 }: ProcessClusterOptions): Role[] {
  const some = (role: Role, count: number): Role[] => Array<Role>(count).fill(role);
  return [...some('gateway', gateways), ...some('whole', wholes), ...some('worker', workers)];
}

async function openRedis({ redis: kind, redisArgs: args = [] }: ProcessClusterOptions): Promise<ClusterRedis> {
  if (kind === 'single') return { kind, server: await startRedis({ args }) };
  if (kind === 'cluster') return { kind, cluster: await startRedisCluster() };
  return { kind, sentinel: await startRedisSentinel() };
}

function partsOf(redis: ClusterRedis): RedisServer | RedisCluster | RedisSentinel {
  if (redis.kind === 'single') return redis.server;
  return redis.kind === 'cluster' ? redis.cluster : redis.sentinel;
}

async function openLinks(postgres: PostgresServer, redis: ClusterRedis): Promise<ClusterNode['links']> {
  return {
    postgres: await startProxy({ port: postgres.port }),
    // Clients of a Cluster or of Sentinels are told the servers' own addresses.
    redis: redis.kind === 'single' ? await startProxy({ port: redis.server.port }) : null,
  };
}

async function createNode(
  parent: string,
  name: string,
  role: Role,
  links: ClusterNode['links'],
  environment: Readonly<Record<string, string>>,
): Promise<ClusterNode> {
  const folder = join(parent, name);
  mkdirSync(folder);
  const port = await freePort();
  const livePort = role === 'whole' ? await freePort() : null;
  const listeners = livePort === null ? {} : { WS_PORT: String(livePort) };
  const start = (): ServerProcess => {
    const begun = startServer(folder, port, { ...listeners, ...environment });
    guardChild(begun.child);
    return begun;
  };
  let current = start();
  const kill = async (): Promise<void> => {
    current.child.kill('SIGKILL');
    await current.exited;
  };
  return {
    name,
    role,
    base: current.base,
    livePort,
    links,
    process: () => current,
    freeze: () => void current.child.kill('SIGSTOP'),
    thaw: () => void current.child.kill('SIGCONT'),
    kill,
    end: () => {
      current.child.kill('SIGTERM');
      return current.exited;
    },
    restart: async () => {
      await kill();
      current = start();
      await current.ready();
    },
  };
}
