/**
 * Users whose connections are cut all at once, in a process of its own: they come back at the same moment, or spread as the
 * SDK does it, resume, and are counted until each has everything once.
 */
import { createHistogram, type HistogramRecord } from '@tocsin/device/simulate/histogram';
import { type Crowd, createCrowd, type CrowdViewer } from './crowd.ts';
import { monotonicMs } from './frame-reader.ts';
import { serveParent } from './helper.ts';

/** How users come back. */
export type ComeBack = 'at-once' | 'sdk';

/** What can be asked. */
export type StormAsk =
  /** Connects a user for each token; answers seconds. */
  | { readonly kind: 'connect'; readonly port: number; readonly tokens: readonly string[] }
  | { readonly kind: 'cut' }
  /** Everybody comes back; `missed`: the last offset that was raised meanwhile. Answers a {@link StormReport}. */
  | { readonly kind: 'back'; readonly how: ComeBack; readonly missed: number; readonly giveUpMs: number }
  /** Waits until everybody has this offset; answers a {@link StormTally}. */
  | { readonly kind: 'reach'; readonly offset: number; readonly giveUpMs: number };

/** A storm. Times in ms from the moment at which everybody may come back. */
export interface StormReport {
  /** Until the last had its `welcome`, and the last everything it had missed. */
  readonly backMs: number;
  readonly caughtUpMs: number;
  /** Users that were not back when patience ended. */
  readonly leftOut: number;
  /** Tries that failed, by HTTP status (0: no answer). */
  readonly failed: Readonly<Record<number, number>>;
  /** From the TCP connect of the try that succeeded to the last missed message. */
  readonly replay: HistogramRecord;
  /** From the same to `welcome`. */
  readonly welcome: HistogramRecord;
  /** Users whom the server could not resume. */
  readonly unrecovered: number;
  readonly cpu: number;
}

/** What everybody has. */
export interface StormTally {
  readonly behind: number;
  readonly duplicates: number;
  readonly missing: number;
  readonly deliveries: number;
}

/** The client's habit after a cut: full jitter, doubling (`packages/client`, a loss of the network). */
const NETWORK = { firstMs: 500, mostMs: 5000 } as const;
const LOOK_MS = 10;
const CONNECT_MS = 20_000;

let crowd: Crowd | null = null;
let missed = Number.POSITIVE_INFINITY;
let how: ComeBack | 'stay' = 'stay';
let failed: Record<number, number> = {};
let unrecovered = 0;
let caughtUp = 0;
let lastBack = 0;
let lastCaughtUp = 0;
let replay = createHistogram();
let welcome = createHistogram();

function need(): Crowd {
  if (crowd === null) throw new Error('nobody is connected');
  return crowd;
}

function noteCaughtUp(viewer: CrowdViewer, now: number): void {
  caughtUp += 1;
  lastCaughtUp = now;
  replay.add(now - viewer.beganAt);
}

function again(viewer: CrowdViewer, attempt: number): void {
  const wait = Math.random() * Math.min(NETWORK.mostMs, NETWORK.firstMs * 2 ** Math.min(attempt, 10));
  setTimeout(() => crowd?.connect(viewer, true), wait);
}

function open(port: number): Crowd {
  return createCrowd(
    { port, path: '/ws/alerts', dialect: 'tocsin' },
    {
      opened(viewer, said) {
        const now = monotonicMs();
        viewer.tries = 0;
        if (how === 'stay') return;
        lastBack = now;
        welcome.add(now - viewer.beganAt);
        if (said?.['recovered'] !== true) unrecovered += 1;
        if (viewer.next > missed) noteCaughtUp(viewer, now);
      },
      ended(viewer, status) {
        if (how === 'stay' && crowd !== null && viewer.epoch !== null) return;
        failed[status] = (failed[status] ?? 0) + 1;
        again(viewer, viewer.tries);
      },
      message(viewer, offset) {
        if (offset === missed) noteCaughtUp(viewer, monotonicMs());
      },
    },
  );
}

const until = async (done: () => boolean, giveUpMs: number): Promise<void> => {
  const end = monotonicMs() + giveUpMs;
  while (!done() && monotonicMs() < end) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
};

async function connectAll(port: number, tokens: readonly string[]): Promise<number> {
  const began = monotonicMs();
  crowd = open(port);
  const users = crowd.add(tokens);
  for (let from = 0; from < users.length; from += 100) {
    for (const user of users.slice(from, from + 100)) crowd.connect(user, false);
    await until(() => need().open() >= Math.min(from + 50, users.length), CONNECT_MS);
    if (crowd.open() === 0) break;
  }
  await until(() => need().open() === users.length, CONNECT_MS);
  if (crowd.open() < users.length)
    throw new Error(`${crowd.open()} of ${users.length} connected: ${JSON.stringify(failed)}`);
  return (monotonicMs() - began) / 1000;
}

async function comeBack(ask: Extract<StormAsk, { kind: 'back' }>): Promise<StormReport> {
  const all = need();
  ({ missed } = ask);
  [how, failed, unrecovered, caughtUp] = [ask.how, {}, 0, 0];
  [replay, welcome] = [createHistogram(), createHistogram()];
  const cpu = process.cpuUsage();
  const began = monotonicMs();
  for (const viewer of all.viewers) {
    viewer.tries = 0;
    if (how === 'at-once') all.connect(viewer, true);
    else again(viewer, 0);
  }
  await until(() => caughtUp === all.viewers.length, ask.giveUpMs);
  const used = process.cpuUsage(cpu);
  return {
    backMs: lastBack - began,
    caughtUpMs: lastCaughtUp - began,
    leftOut: all.viewers.length - caughtUp,
    failed,
    replay: replay.record(),
    welcome: welcome.record(),
    unrecovered,
    cpu: (used.user + used.system) / 1e6,
  };
}

function cut(): void {
  how = 'stay';
  for (const viewer of need().viewers) need().cut(viewer);
}

async function reach(offset: number, giveUpMs: number): Promise<StormTally> {
  const { viewers, tally } = need();
  const behind = (): number => viewers.filter(({ next }) => next <= offset).length;
  await until(() => behind() === 0, giveUpMs);
  const { duplicates, missing, deliveries } = tally;
  return { behind: behind(), duplicates, missing, deliveries };
}

serveParent<StormAsk>((ask) => {
  if (ask.kind === 'connect') return connectAll(ask.port, ask.tokens);
  if (ask.kind === 'cut') return cut();
  if (ask.kind === 'back') return comeBack(ask);
  return reach(ask.offset, ask.giveUpMs);
});
