/**
 * A rolling restart of three instances as the log of one viewer: what it was told, on which connection, and when.
 *
 *     node packages/testkit/dist/src/rolling-log.js
 *
 * The settings are the defaults but for watermarks every 2 s: one connection for each user, so the next connection
 * replaces the old one; five connects a minute. The viewer is the SDK, and goes through a balancer, as behind nginx.
 */
import { argv, exit } from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startBalancer } from './balancer.ts';
import { startProcessCluster } from './cluster-processes.ts';
import { newPerson } from './contract-viewer.ts';
import { startDrills } from './drill-source.ts';
import { createStory } from './story.ts';
import { type ToldResult, watchTold } from './told-viewer.ts';

/** What the viewer went through. */
export interface RollingLog extends ToldResult {
  /** Its log, a line for each event; alerts in a row share a line. */
  readonly lines: readonly string[];
  /** Drills that were answered with 201. The channel begins at offset 1. */
  readonly made: number;
  /** Exit codes of the instances. */
  readonly exits: readonly (number | string)[];
}

const ALERTS_PER_SECOND = 5;
/** Before the first restart, between two, and after the last, ms. */
const BETWEEN_MS = 1500;
/** Longest wait for the last alert, ms. */
const PATIENCE_MS = 20_000;

/** Restarts three instances in turn under one viewer; `write` gets each line as it comes. */
export async function logRollingRestart(write: (line: string) => void = () => undefined): Promise<RollingLog> {
  const cluster = await startProcessCluster({
    gateways: 3,
    workers: 0,
    redis: 'single',
    environment: { WS_WATERMARK_SECONDS: '2', LOG_LEVEL: 'warn' },
  });
  const nodes = cluster.gateways();
  const nameOf = (base: string): string => nodes.find((node) => node.base === base)?.name ?? base;
  const balancer = await startBalancer(nodes.map(({ base }) => base));
  try {
    const { token } = await newPerson(nodes[0]?.base ?? '', cluster.token);
    const story = createStory(write);
    const viewer = await watchTold({
      url: balancer.base,
      token,
      where: () => nameOf(balancer.newest()),
      story,
    });
    const drills = startDrills(
      nodes.map(({ base }) => base),
      cluster.token,
      ALERTS_PER_SECOND,
    );
    const exits: (number | string)[] = [];
    await pause(BETWEEN_MS);
    const pending = [...nodes];
    while (pending.length > 0) {
      // The viewer's own instance first, so that it has to move as often as can be.
      const own = pending.findIndex((node) => node.name === viewer.at());
      const [node] = pending.splice(Math.max(0, own), 1);
      if (node === undefined) break;
      story.tell(`-- SIGTERM to ${node.name}`);
      exits.push(await node.end());
      story.tell(`-- ${node.name} has ended with ${exits.at(-1)}, and is started again`);
      await node.restart();
      story.tell(`-- ${node.name} is ready`);
      await pause(BETWEEN_MS);
    }
    await drills.stop();
    await viewer.told(drills.made.length, PATIENCE_MS);
    story.end();
    const log = { ...viewer.result(), lines: [...story.lines], made: drills.made.length, exits };
    viewer.close();
    return log;
  } finally {
    await balancer.stop();
    await cluster.stop();
  }
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const { made, seen, longestGapMs, states, connections } = await logRollingRestart((line) =>
    process.stdout.write(`${line}\n`),
  );
  const gap = `longest time between two alerts ${Math.round(longestGapMs)} ms (made each ${1000 / ALERTS_PER_SECOND} ms)`;
  process.stdout.write(
    `${made} alerts made, ${seen.length} told, each once; ${connections} connections; ${gap}; states: ${states.join(', ')}\n`,
  );
  // Everything that was begun has ended; what Node still holds of it is of no use.
  exit(0);
}
