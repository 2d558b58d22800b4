/**
 * The faults of the matrix of hosts and notifications: what is done to two whole processes, their broker, Redis, PostgreSQL
 * and Slack, and how it ends. A table; `bridge-matrix.ts` runs it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { ClusterNode, ProcessCluster } from './cluster-processes.ts';
import type { MosquittoServer } from './mosquitto-server.ts';
import type { PostReceiver } from './post-receiver.ts';

/** What a fault happens to. */
export interface BridgeParts {
  readonly cluster: ProcessCluster;
  readonly broker: MosquittoServer;
  readonly slack: PostReceiver;
}

/** A fault that lasts. */
export interface RunningBridgeFault {
  /** Once alerts are raised and the first post is out; only for faults that hit posts. */
  readonly posted?: () => Promise<void>;
  /** Ends it; resolves once everything is there again. */
  end(): Promise<void>;
}

/** A row of the matrix. */
export interface BridgeFault {
  readonly name: string;
  /** Whether the two processes share the messages of the broker, or one is connected and the other stands by. */
  readonly shared: boolean;
  /** It may fall between a post and the commit of its position: then that post, and no other, comes again. */
  readonly mayRepeat?: true;
  /** It takes as long as it takes, and is not kept up. */
  readonly atOnce?: true;
  /** `round` picks among several. */
  begin(parts: BridgeParts, round: number, lastsMs: number): Promise<RunningBridgeFault>;
}

/** `Retry-After` of the faults of Slack, s. */
export const RETRY_AFTER_SECONDS = 2;

const OK = { status: 200, body: 'ok' };
const LOOK_MS = 50;
const CONNECTED_MS = 30_000;

function wholeOf({ cluster }: BridgeParts, round: number): ClusterNode {
  const nodes = cluster.wholes();
  const node = nodes[round % nodes.length];
  if (node === undefined) throw new Error('no such process');
  return node;
}

async function isConnected({ base }: ClusterNode): Promise<boolean> {
  const text = await fetch(`${base}/metrics`, { signal: AbortSignal.timeout(2000) })
    .then((answer) => answer.text())
    .catch(() => '');
  return /^tocsin_mqtt_link_connected 1$/m.test(text);
}

/** The processes that messages of the broker come in at; resolves once there are `least`. */
export async function connectedNodes(cluster: ProcessCluster, least: number): Promise<ClusterNode[]> {
  for (const until = performance.now() + CONNECTED_MS; ; await pause(LOOK_MS)) {
    const nodes = cluster.wholes();
    const answers = await Promise.all(nodes.map(isConnected));
    const found = nodes.filter((_, i) => answers[i]);
    if (found.length >= least) return found;
    if (performance.now() > until) throw new Error(`${found.length} processes are connected to the broker`);
  }
}

/** The one that made this post: each has a path of its own. */
function posterOf({ cluster, slack }: BridgeParts): ClusterNode {
  const path = slack.posts.at(-1)?.path ?? '';
  const node = cluster.wholes().find(({ name }) => path.endsWith(`/${name}`));
  if (node === undefined) throw new Error(`nobody posts to ${path}`);
  return node;
}

const frozen = (node: ClusterNode): RunningBridgeFault => {
  node.freeze();
  return { end: () => Promise.resolve(node.thaw()) };
};

/** Posts hang from the next on, until whoever made it was struck. */
function inTheAir(parts: BridgeParts, strike: (node: ClusterNode) => Promise<() => Promise<void>>): RunningBridgeFault {
  parts.slack.script('hang');
  let undo: (() => Promise<void>) | undefined;
  return {
    posted: async () => {
      undo = await strike(posterOf(parts));
    },
    end: async () => undo?.(),
  };
}

const killed = async (node: ClusterNode): Promise<() => Promise<void>> => {
  await node.kill();
  return () => node.restart();
};

/** All rows, in the order in which they run: those where one process is connected first. */
export const BRIDGE_FAULTS: readonly BridgeFault[] = [
  {
    name: 'none',
    shared: false,
    begin: () => Promise.resolve({ end: () => Promise.resolve() }),
  },
  {
    name: 'broker, killed and started again',
    shared: false,
    begin: async ({ broker }) => {
      await broker.kill();
      return { end: () => broker.restart() };
    },
  },
  {
    name: 'broker, ended and started again',
    shared: false,
    begin: async ({ broker }) => {
      await broker.end();
      return { end: () => broker.restart() };
    },
  },
  {
    name: 'broker, frozen',
    shared: false,
    begin: ({ broker }) => {
      broker.freeze();
      return Promise.resolve({ end: () => Promise.resolve(broker.thaw()) });
    },
  },
  {
    name: 'the connected process, frozen',
    shared: false,
    mayRepeat: true,
    begin: async (parts) => frozen((await connectedNodes(parts.cluster, 1))[0] ?? wholeOf(parts, 0)),
  },
  {
    name: 'the connected process, killed',
    shared: false,
    mayRepeat: true,
    begin: async ({ cluster }) => {
      const [node] = await connectedNodes(cluster, 1);
      await node?.kill();
      return { end: async () => node?.restart() };
    },
  },
  {
    name: 'Slack: 429, then 500',
    shared: false,
    begin: ({ slack }, _, lastsMs) => {
      slack.always({ status: 429, headers: { 'retry-after': String(RETRY_AFTER_SECONDS) } });
      const timer = setTimeout(() => slack.always({ status: 500 }), lastsMs / 2);
      return Promise.resolve({
        end: () => {
          clearTimeout(timer);
          slack.always(OK);
          return Promise.resolve();
        },
      });
    },
  },
  {
    name: 'the worker that posts, killed with a post in the air',
    shared: false,
    mayRepeat: true,
    begin: (parts) => Promise.resolve(inTheAir(parts, killed)),
  },
  {
    name: 'the worker that posts, frozen with a post in the air',
    shared: false,
    mayRepeat: true,
    begin: (parts) =>
      Promise.resolve(
        inTheAir(parts, (node) => {
          node.freeze();
          return Promise.resolve(() => Promise.resolve(node.thaw()));
        }),
      ),
  },
  {
    name: 'the worker that posts, killed while Slack puts it off',
    shared: false,
    begin: (parts) => {
      parts.slack.always({ status: 429, headers: { 'retry-after': String(RETRY_AFTER_SECONDS) } });
      let undo: (() => Promise<void>) | undefined;
      return Promise.resolve({
        posted: async () => {
          undo = await killed(posterOf(parts));
          parts.slack.always(OK);
        },
        end: async () => undo?.(),
      });
    },
  },
  {
    name: 'Redis, killed and started empty',
    shared: true,
    begin: async ({ cluster }) => {
      if (cluster.redis.kind !== 'single') throw new Error('needs a single Redis');
      const { server } = cluster.redis;
      await server.kill();
      return { end: () => server.restart() };
    },
  },
  {
    name: 'PostgreSQL, cut from both',
    shared: true,
    begin: ({ cluster }) => {
      for (const { links } of cluster.wholes()) links.postgres.cut();
      return Promise.resolve({
        end: () => {
          for (const { links } of cluster.wholes()) links.postgres.heal();
          return Promise.resolve();
        },
      });
    },
  },
  {
    name: 'PostgreSQL, killed and started again',
    shared: true,
    atOnce: true,
    begin: async ({ cluster }) => {
      await cluster.postgres.kill();
      return { end: () => cluster.postgres.restart() };
    },
  },
  {
    name: 'a process, killed',
    shared: true,
    mayRepeat: true,
    begin: async (parts, round) => {
      const node = wholeOf(parts, round);
      await node.kill();
      return { end: () => node.restart() };
    },
  },
  {
    name: 'a process, frozen',
    shared: true,
    mayRepeat: true,
    begin: (parts, round) => Promise.resolve(frozen(wholeOf(parts, round))),
  },
  {
    name: 'both, killed',
    shared: true,
    mayRepeat: true,
    atOnce: true,
    begin: async ({ cluster }) => {
      await Promise.all(cluster.wholes().map((node) => node.kill()));
      return { end: async () => void (await Promise.all(cluster.wholes().map((node) => node.restart()))) };
    },
  },
  {
    name: 'both, ended and started again in turn',
    shared: true,
    atOnce: true,
    begin: ({ cluster }) =>
      Promise.resolve({
        end: async () => {
          for (const node of cluster.wholes()) {
            const code = await node.end();
            if (code !== 0) throw new Error(`${node.name} ended with ${code}`);
            await node.restart();
          }
        },
      }),
  },
];
