/**
 * Redis servers for tests: alone, as a Cluster of three, or a master and a replica watched by three sentinels.
 *
 * Each has a temporary folder and a free port of 127.0.0.1, keeps nothing on disk unless `args` say so, and is gone
 * with this process however it ends, also when it is frozen (`guard.ts`).
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { programPath } from './machine.ts';
import { freePort } from './server-process.ts';

/** A running (or killed, or frozen) server. */
export interface RedisServer {
  readonly port: number;
  /** `redis://127.0.0.1:<port>`, `rediss://` with TLS; with the password of `--requirepass`. */
  readonly url: string;
  /** Process id of the running server. */
  readonly pid: () => number;
  /** SIGSTOP: connections stay open, nothing answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL; resolves once it is gone. */
  kill(): Promise<void>;
  /** Same port and folder; what still runs is killed first. Resolves once it answers. */
  restart(): Promise<void>;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
  /** Runs `redis-cli` against it; answers what it printed, trimmed. Rejects when it cannot connect within 5 s. */
  cli(...args: string[]): Promise<string>;
}

/** How a server is started. */
export interface RedisOptions {
  /** For `redis-server`; later ones win over `--save '' --appendonly no`. */
  readonly args?: readonly string[];
  /** Paths of PEM files, or PEM texts. The port then speaks TLS only; clients need no certificate. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
}

/** A Cluster of three masters without replicas. */
export interface RedisCluster {
  readonly nodes: readonly RedisServer[];
  /** `127.0.0.1:<port>` of each. */
  readonly addresses: readonly string[];
  stop(): Promise<void>;
}

/** A master and a replica; the sentinels call it down after 1 s and promote by a majority of two. */
export interface RedisSentinel {
  /** The first master; after a failover it is a replica once it is back. */
  readonly master: RedisServer;
  readonly replica: RedisServer;
  readonly sentinels: readonly RedisServer[];
  /** `127.0.0.1:<port>` of each sentinel. */
  readonly addresses: readonly string[];
  readonly name: string;
  stop(): Promise<void>;
}

const run = promisify(execFile);
const START_MS = 15_000;
const SENTINEL_NAME = 'tocsin';

/** Starts one server. Rejects with its log when it does not come up. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const folder = guardedFolder('tocsin-redis-');
  const port = await freePort();
  const tls = options.tls === undefined ? undefined : await tlsFiles(folder, options.tls);
  const args = [
    ...['--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no', '--daemonize', 'no'],
    ...(tls === undefined ? ['--port', String(port)] : tlsArgs(port, tls)),
    ...(options.args ?? []),
  ];
  return startProcess({ folder, port, args, tls, password: valueAfter(args, '--requirepass') });
}

/** Starts three servers and joins them. Takes about 3 s. */
export async function startRedisCluster(): Promise<RedisCluster> {
  const nodes = await Promise.all(
    Array.from({ length: 3 }, async () => {
      // The bus's own port: the default, port + 10000, may be no port at all.
      const bus = await freePort();
      const args = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '1500'];
      return startRedis({ args });
    }),
  );
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  const stop = (): Promise<void> => stopAll(nodes);
  try {
    await nodes[0]?.cli('--cluster', 'create', ...addresses, '--cluster-yes');
    for (const node of nodes) {
      await until('the cluster', async () => (await node.cli('cluster', 'info')).includes('cluster_state:ok'));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { nodes, addresses, stop };
}

/** Starts a master, its replica and three sentinels; resolves once they all know each other. Takes about 3 s. */
export async function startRedisSentinel(): Promise<RedisSentinel> {
  const running: RedisServer[] = [];
  const stop = (): Promise<void> => stopAll(running);
  try {
    const master = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] });
    running.push(master);
    const follow = ['--replicaof', '127.0.0.1', String(master.port), '--repl-diskless-sync-delay', '0'];
    const replica = await startRedis({ args: follow });
    running.push(replica);
    await until('the replica', async () =>
      (await replica.cli('info', 'replication')).includes('master_link_status:up'),
    );
    const sentinels = await Promise.all(Array.from({ length: 3 }, () => startSentinel(master.port)));
    running.push(...sentinels);
    for (const sentinel of sentinels) {
      await until('the sentinels', async () => knowsAll(await sentinel.cli('sentinel', 'master', SENTINEL_NAME)));
    }
    const addresses = sentinels.map(({ port }) => `127.0.0.1:${port}`);
    return { master, replica, sentinels, addresses, name: SENTINEL_NAME, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The settings that make a server use it as its bus. */
export function redisSettings(redis: RedisServer | RedisCluster | RedisSentinel): Readonly<Record<string, string>> {
  if ('url' in redis) return { REDIS_URL: redis.url };
  if ('nodes' in redis) return { REDIS_CLUSTER_NODES: redis.addresses.join(',') };
  return { REDIS_SENTINELS: redis.addresses.join(','), REDIS_SENTINEL_NAME: redis.name };
}

/** `sentinel master` prints names and values on lines of their own. */
function knowsAll(printed: string): boolean {
  const lines = printed.split('\n');
  return valueAfter(lines, 'num-slaves') === '1' && valueAfter(lines, 'num-other-sentinels') === '2';
}

async function startSentinel(masterPort: number): Promise<RedisServer> {
  const folder = guardedFolder('tocsin-sentinel-');
  const port = await freePort();
  const file = join(folder, 'sentinel.conf');
  const lines = [
    ...['bind 127.0.0.1', `port ${port}`, `dir ${folder}`, 'daemonize no'],
    `sentinel monitor ${SENTINEL_NAME} 127.0.0.1 ${masterPort} 2`,
    `sentinel down-after-milliseconds ${SENTINEL_NAME} 1000`,
    `sentinel failover-timeout ${SENTINEL_NAME} 3000`,
    `sentinel parallel-syncs ${SENTINEL_NAME} 1`,
  ];
  // Sentinel writes what it learns into this file, so a restart goes on from there.
  await writeFile(file, `${lines.join('\n')}\n`);
  return startProcess({ folder, port, args: [file, '--sentinel'], tls: undefined, password: undefined });
}

interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

interface ProcessOptions {
  readonly folder: string;
  readonly port: number;
  readonly args: readonly string[];
  readonly tls: TlsFiles | undefined;
  readonly password: string | undefined;
}

async function startProcess(options: ProcessOptions): Promise<RedisServer> {
  const { folder, port, args, tls, password } = options;
  const program = programPath('redis-server');
  if (program === null) throw new Error('redis-server is not installed');
  const log = join(folder, 'log');
  let child: ChildProcess | undefined;
  let exited: Promise<void> = Promise.resolve();
  const cli = (...rest: string[]): Promise<string> => runCli({ port, tls, password }, rest);
  const alive = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null;
  const start = async (): Promise<void> => {
    await mkdir(folder, { recursive: true });
    const begun = spawn(program, [...args, '--logfile', log], { cwd: folder, stdio: 'ignore' });
    child = begun;
    exited = new Promise((resolve) => {
      begun.once('exit', () => resolve()).once('error', () => resolve());
    });
    guardChild(begun);
    await until('redis-server', async () => {
      if (!alive()) throw new Error(`redis-server ended: ${await readFile(log, 'utf8').catch(() => 'no log')}`);
      // NOAUTH: users of its own, set by `args`.
      return /PONG|NOAUTH/.test(await cli('ping').catch(String));
    });
  };
  const signal = (name: NodeJS.Signals): void => {
    if (alive()) child?.kill(name);
  };
  const kill = async (): Promise<void> => {
    signal('SIGKILL');
    await exited;
  };
  const stop = async (): Promise<void> => {
    await kill();
    await rm(folder, { recursive: true, force: true });
    folderRemoved(folder);
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    port,
    url: `${tls === undefined ? 'redis' : 'rediss'}://${password === undefined ? '' : `:${encodeURIComponent(password)}@`}127.0.0.1:${port}`,
    pid: () => child?.pid ?? 0,
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    kill,
    restart: async () => {
      await kill();
      await start();
    },
    stop,
    cli,
  };
}

async function runCli(
  server: { readonly port: number; readonly tls: TlsFiles | undefined; readonly password: string | undefined },
  rest: readonly string[],
): Promise<string> {
  const secure = server.tls === undefined ? [] : ['--tls', '--cacert', server.tls.ca];
  const env = { ...process.env, ...(server.password === undefined ? {} : { REDISCLI_AUTH: server.password }) };
  // `--cluster` brings its own addresses.
  const place = rest[0] === '--cluster' ? [] : ['-h', '127.0.0.1', '-p', String(server.port)];
  const limit = rest[0] === '--cluster' ? START_MS * 2 : 5000;
  const { stdout } = await run('redis-cli', [...place, ...secure, ...rest], {
    env,
    timeout: limit,
    killSignal: 'SIGKILL',
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout.trim();
}

function tlsArgs(port: number, tls: TlsFiles): string[] {
  const files = ['--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-ca-cert-file', tls.ca];
  return ['--port', '0', '--tls-port', String(port), ...files, '--tls-auth-clients', 'no'];
}

async function tlsFiles(folder: string, tls: TlsFiles): Promise<TlsFiles> {
  const asFile = async (name: string, value: string): Promise<string> => {
    if (!value.includes('-----BEGIN')) return value;
    const path = join(folder, name);
    await writeFile(path, value, { mode: 0o600 });
    return path;
  };
  return {
    cert: await asFile('cert.pem', tls.cert),
    key: await asFile('key.pem', tls.key),
    ca: await asFile('ca.pem', tls.ca),
  };
}

function valueAfter(args: readonly string[], name: string): string | undefined {
  const at = args.lastIndexOf(name);
  return at < 0 ? undefined : args[at + 1];
}

/** Looks every 20 ms; an error of `test` ends it. */
async function until(what: string, test: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + START_MS;
  while (!(await test())) {
    if (Date.now() > deadline) throw new Error(`${what} did not come up in ${START_MS} ms`);
    await pause(20);
  }
}

async function stopAll(servers: readonly RedisServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop()));
}
