/**
 * One throw-away cluster for each engine and run of vitest, shared by its worker processes.
 *
 * As vitest's globalSetup it listens on a Unix socket (nothing is started yet); a worker that needs a cluster asks
 * there, the first question starts it, and all end with the run. Outside of vitest a process starts its own.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cluster, clusterUrl, startCluster } from './clusters.ts';
import type { Engine } from './engines.ts';

const VARIABLE = 'TOCSIN_TEST_CLUSTERS';

/** vitest's globalSetup; answers its teardown. Run once for each project: only the first does anything. */
export default async function setup(): Promise<() => Promise<void>> {
  if (process.env[VARIABLE] !== undefined) return () => Promise.resolve();
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-clusters-'));
  const path = join(folder, 'ask');
  const clusters = new Map<Engine, Promise<Cluster>>();
  const answer = async (socket: Socket, engine: Engine): Promise<void> => {
    let cluster = clusters.get(engine);
    if (cluster === undefined) {
      cluster = startCluster(engine);
      clusters.set(engine, cluster);
    }
    const text = await cluster.then(
      ({ root }) => ({ root }),
      (error: unknown) => ({ error: String(error) }),
    );
    socket.end(JSON.stringify(text));
  };
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (data) => void answer(socket, data.toString() === 'postgis' ? 'postgis' : 'private'));
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  server.unref();
  process.env[VARIABLE] = path;
  return async () => {
    delete process.env[VARIABLE];
    server.close();
    for (const cluster of clusters.values()) await cluster.then((running) => running.stop()).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  };
}

/** The URL maker of the run's cluster of this engine, or of one of this process's own. */
export async function obtainCluster(engine: Engine): Promise<(database: string) => string> {
  const path = process.env[VARIABLE];
  if (path === undefined) return (await startCluster(engine)).url;
  const text = await new Promise<string>((resolve, reject) => {
    let heard = '';
    const socket = connect(path, () => socket.write(engine));
    socket.setEncoding('utf8').on('data', (data: string) => {
      heard += data;
    });
    socket.on('error', reject).on('end', () => resolve(heard));
  });
  const answer = JSON.parse(text) as { root?: string; error?: string };
  const { root } = answer;
  if (root === undefined) throw new Error(answer.error ?? 'no cluster for tests');
  return (database) => clusterUrl(root, database);
}
