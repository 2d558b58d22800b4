/** A server process for benchmarks, and the generator's process. */
import { fork } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ScriptedDevice } from '@tocsin/testkit/device';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from '@tocsin/testkit/server-process';
import type { Load, LoadReport } from './generator.ts';

/** A server that is ready, with limits out of the way. */
export interface BenchServer {
  readonly server: ServerProcess;
  readonly port: number;
  /** Where the private database is. */
  readonly dataDir: string;
  readonly token: string;
  /** SIGKILL, and the same again on the same data and port; resolves once it is ready. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts the server as users do: embedded PostgreSQL, fsync on. Only limits and freshness are widened. */
export async function startBenchServer(environment: Readonly<Record<string, string>> = {}): Promise<BenchServer> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-bench-'));
  // Open to traverse, so that the cluster stays inside it when this runs as root.
  await chmod(folder, 0o755);
  const port = await freePort();
  const settings = {
    LOG_LEVEL: 'warn',
    RATE_LIMIT_PER_KEY: '1000000',
    RATE_LIMIT_PER_DEVICE: '1000000',
    TIMESTAMP_TOLERANCE_SECONDS: '300',
    ...environment,
  };
  let server = startServer(folder, port, settings);
  await server.ready();
  const token = await signIn(server.base);
  return {
    get server() {
      return server;
    },
    port,
    dataDir: join(folder, 'data'),
    token,
    restart: async () => {
      server.child.kill('SIGKILL');
      await server.exited;
      server = startServer(folder, port, settings);
      await server.ready();
    },
    stop: async () => {
      server.child.kill('SIGTERM');
      await server.exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A process that has signed everything and waits for `go`. */
export interface Prepared<Report> {
  go(): Promise<Report>;
}

/** Starts the module `file` beside this one in a process of its own, which gets `order`, prepares, and reports after `go`. */
export async function prepareChild<Report>(file: string, order: object): Promise<Prepared<Report>> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { stdio: 'inherit' });
  const next = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      child.once('message', (answer) => resolve(answer as T));
      child.once('exit', (code) => reject(new Error(`${file} ended (${code})`)));
    });
  const prepared = next<'prepared'>();
  child.send(order);
  await prepared;
  return {
    go: () => {
      const report = next<Report>();
      child.send('go');
      return report;
    },
  };
}

/** Prepares a generator in a process of its own. */
export function prepareGenerator(
  bench: Pick<BenchServer, 'port'>,
  devices: readonly ScriptedDevice[],
  load: Pick<Load, 'envelopes' | 'readings' | 'connections' | 'seconds' | 'ratePerSecond' | 'run'>,
): Promise<Prepared<LoadReport>> {
  const order: Load = {
    ...load,
    port: bench.port,
    apiKey: CREDENTIALS.apiKey,
    devices: devices.map(({ id, privateKey }) => ({
      id,
      privateKeyPem: String(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    })),
  };
  return prepareChild<LoadReport>('generator.js', order);
}

/** Processor seconds, user and system: of a process, and of everything below it. */
export interface Cpu {
  readonly own: number;
  readonly children: number;
}

/** What the process `root` and its children have used so far, from /proc. */
export async function cpuOf(root: number): Promise<Cpu> {
  const { readdir, readFile } = await import('node:fs/promises');
  const children = new Map<number, number[]>();
  const used = new Map<number, number>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => null);
    if (stat === null) continue;
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const parent = Number(fields[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    used.set(Number(name), (Number(fields[11]) + Number(fields[12])) / 100);
  }
  const below = (pid: number): number =>
    (children.get(pid) ?? []).reduce((all, child) => all + (used.get(child) ?? 0) + below(child), 0);
  return { own: used.get(root) ?? 0, children: below(root) };
}

/** The same as one sum. */
export async function cpuSeconds(root: number): Promise<number> {
  const { own, children } = await cpuOf(root);
  return own + children;
}
