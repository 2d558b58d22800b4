/** A crowd in a process of its own (`crowd.ts`), told what to do by its parent. */
import { createHistogram, type HistogramRecord } from '@tocsin/device/simulate/histogram';
import { type Crowd, createCrowd, type CrowdTarget } from './crowd.ts';
import { serveParent, tellParent } from './helper.ts';

/** What a crowd can be asked. */
export type CrowdAsk =
  | { readonly kind: 'target'; readonly target: CrowdTarget }
  /** Connects so many more, at most `at once` waiting; answers a {@link CrowdOpened}. */
  | { readonly kind: 'connect'; readonly viewers: number; readonly atOnce: number }
  /** Cuts all but so many. */
  | { readonly kind: 'shrink'; readonly viewers: number }
  /** Begins to count anew; answers nothing. */
  | { readonly kind: 'begin' }
  /** Answers a {@link CrowdCount} once nothing more came for `quietMs`, or `messages` messages reached everybody. */
  | { readonly kind: 'count'; readonly messages: number; readonly quietMs: number };

/** Told when a message has reached everybody. */
export interface CrowdComplete {
  readonly complete: number;
}

/** After connecting. */
export interface CrowdOpened {
  readonly seconds: number;
  readonly refused: number;
}

/** What was counted since `begin`. Times are ms of the monotonic clock. */
export interface CrowdCount {
  readonly deliveries: number;
  readonly duplicates: number;
  readonly missing: number;
  readonly lastAt: number;
  readonly latency: HistogramRecord;
  /** Processor seconds of this process. */
  readonly cpu: number;
  readonly open: number;
}

const LOOK_MS = 10;
const CONNECT_MS = 60_000;
let crowd: Crowd | null = null;
let before = { deliveries: 0, duplicates: 0, missing: 0 };
let cpu = process.cpuUsage();
let complete = 0;
let waiting: { left: number; refused: number; resolve(): void } | null = null;
let next = 0;

function onOpened(): void {
  if (waiting === null) return;
  waiting.left -= 1;
  if (waiting.left === 0) waiting.resolve();
  else connectNext();
}

function connectNext(): void {
  const viewer = crowd?.viewers[next];
  if (viewer === undefined) return;
  next += 1;
  crowd?.connect(viewer, false);
}

async function connectMore(viewers: number, atOnce: number): Promise<CrowdOpened> {
  if (crowd === null) throw new Error('no target');
  const began = performance.now();
  crowd.add(Array.from({ length: viewers }, () => null));
  await new Promise<void>((resolve, reject) => {
    setTimeout(() => {
      const { left = 0, refused = 0 } = waiting ?? {};
      reject(new Error(`${left} of ${viewers} viewers have no connection, ${refused} tries failed`));
    }, CONNECT_MS).unref();
    waiting = { left: viewers, refused: 0, resolve };
    for (let i = 0; i < Math.min(atOnce, viewers); i += 1) connectNext();
  });
  const refused = waiting?.refused ?? 0;
  waiting = null;
  return { seconds: (performance.now() - began) / 1000, refused };
}

function shrink(viewers: number): void {
  crowd?.shrink(viewers);
  next = Math.min(next, crowd?.viewers.length ?? 0);
}

function begin(): void {
  if (crowd === null) return;
  before = { ...crowd.tally };
  crowd.latency = createHistogram();
  cpu = process.cpuUsage();
  complete = 0;
}

async function count(messages: number, quietMs: number): Promise<CrowdCount> {
  if (crowd === null) throw new Error('no target');
  const { tally } = crowd;
  for (let seen = -1, quiet = 0; complete < messages && quiet < quietMs; quiet += LOOK_MS) {
    if (tally.deliveries !== seen) quiet = 0;
    seen = tally.deliveries;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  const used = process.cpuUsage(cpu);
  return {
    deliveries: tally.deliveries - before.deliveries,
    duplicates: tally.duplicates - before.duplicates,
    missing: tally.missing - before.missing,
    lastAt: tally.lastAt,
    latency: crowd.latency.record(),
    cpu: (used.user + used.system) / 1e6,
    open: crowd.open(),
  };
}

serveParent<CrowdAsk>((ask) => {
  if (ask.kind === 'connect') return connectMore(ask.viewers, ask.atOnce);
  if (ask.kind === 'shrink') return shrink(ask.viewers);
  if (ask.kind === 'begin') return begin();
  if (ask.kind === 'count') return count(ask.messages, ask.quietMs);
  crowd = createCrowd(ask.target, {
    opened: onOpened,
    ended(viewer) {
      if (waiting === null) return;
      waiting.refused += 1;
      setTimeout(() => crowd?.connect(viewer, false), 100);
    },
    complete(offset) {
      complete += 1;
      tellParent({ complete: offset } satisfies CrowdComplete);
    },
  });
  return null;
});
