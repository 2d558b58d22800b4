/**
 * Viewers as a long day has them, in a process of their own: some are cut, some stop reading for a while, all send receipts
 * and authenticate again in time, and each comes back and resumes until it is told to stop.
 */
import { createHistogram, type HistogramRecord } from '@tocsin/device/simulate/histogram';
import { type Crowd, createCrowd, type CrowdViewer } from './crowd.ts';
import { serveParent } from './helper.ts';
import { startOutsideUsers, type OutsideUsers } from './outside-users.ts';

/** What can be asked. */
export type SoakAsk =
  /** Starts the identity provider; answers the URL of its keys. */
  | { readonly kind: 'provide'; readonly issuer: string }
  /** Connects everybody; viewers go to the ports in turn. Answers nothing. */
  | { readonly kind: 'connect'; readonly ports: readonly number[]; readonly viewers: number }
  /** From now on cuts and slow readers (`true`), or only what is gone comes back. */
  | { readonly kind: 'trouble'; readonly on: boolean }
  /** Answers a {@link SoakCount} of the time since the last one. */
  | { readonly kind: 'count' }
  /** Waits until everybody has this offset; answers how many have not. */
  | { readonly kind: 'reach'; readonly offset: number; readonly giveUpMs: number };

/** What happened since the last count; the tally is of the whole time. */
export interface SoakCount {
  readonly open: number;
  readonly reconnects: number;
  readonly slow: number;
  readonly authenticated: number;
  readonly receipts: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly latency: HistogramRecord;
  readonly deliveries: number;
  readonly duplicates: number;
  readonly missing: number;
}

/** Each viewer, on average: cut so often, slow so often, a receipt so often, in ms. */
const CUT_EVERY_MS = 600_000;
const SLOW_EVERY_MS = 3_600_000;
const SLOW_MS = 20_000;
const RECEIPT_EVERY_MS = 30_000;
const COME_BACK_MS = 1000;
const TICK_MS = 200;
const AT_ONCE = 100;

/** One crowd for each instance, for its port belongs to it; who comes back stays with its instance. */
let crowds: Crowd[] = [];
let provider: OutsideUsers | null = null;
let trouble = false;
const due = new Map<CrowdViewer, number>();
const fresh = { reconnects: 0, slow: 0, authenticated: 0, receipts: 0, refused: {} as Record<string, number> };

function tokenOf(index: number): string {
  if (provider === null) throw new Error('no identity provider');
  return provider.token(index);
}

function openCrowd(port: number, indexOf: (viewer: CrowdViewer) => number): Crowd {
  const crowd: Crowd = createCrowd(
    { port, path: '/ws/alerts', dialect: 'tocsin' },
    {
      opened(viewer, welcome) {
        viewer.tries = 0;
        plan(viewer, Number(welcome?.['reauthenticateBy']));
      },
      ended(viewer, status, code) {
        due.delete(viewer);
        if (status !== 101 || code !== 0) {
          const why = status === 101 ? `closed ${code}` : `HTTP ${status}`;
          fresh.refused[why] = (fresh.refused[why] ?? 0) + 1;
        }
        setTimeout(
          () => {
            fresh.reconnects += 1;
            crowd.connect(viewer, true);
          },
          Math.random() * COME_BACK_MS * 2 ** Math.min(4, viewer.tries),
        );
      },
      text(viewer, text) {
        if (!text.startsWith('{"type":"authenticated"')) return;
        fresh.authenticated += 1;
        plan(viewer, (JSON.parse(text) as { reauthenticateBy: number }).reauthenticateBy);
      },
    },
  );
  /** Somewhere in the second half of the time that is left. */
  function plan(viewer: CrowdViewer, by: number): void {
    due.set(viewer, Date.now() + (by - Date.now()) * (0.5 + Math.random() * 0.35));
  }
  setInterval(() => tick(crowd, indexOf), TICK_MS);
  return crowd;
}

function tick(crowd: Crowd, indexOf: (viewer: CrowdViewer) => number): void {
  const now = Date.now();
  const often = (everyMs: number): boolean => Math.random() < TICK_MS / everyMs;
  for (const viewer of crowd.viewers) {
    if (viewer.state !== 'open') continue;
    if (now >= (due.get(viewer) ?? Number.POSITIVE_INFINITY)) {
      due.delete(viewer);
      crowd.send(viewer, JSON.stringify({ type: 'authenticate', token: tokenOf(indexOf(viewer)) }));
    }
    if (viewer.next > 1 && often(RECEIPT_EVERY_MS)) {
      fresh.receipts += 1;
      crowd.send(viewer, JSON.stringify({ type: 'received', offset: viewer.next - 1 }));
    }
    if (!trouble) continue;
    if (often(CUT_EVERY_MS)) crowd.cut(viewer);
    else if (often(SLOW_EVERY_MS)) {
      fresh.slow += 1;
      crowd.pause(viewer);
      setTimeout(() => crowd.resume(viewer), Math.random() * SLOW_MS);
    }
  }
}

async function until(done: () => boolean, giveUpMs: number): Promise<void> {
  const end = performance.now() + giveUpMs;
  while (!done() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function connectAll(ports: readonly number[], viewers: number): Promise<void> {
  crowds = ports.map((port, place) => openCrowd(port, (viewer) => viewer.id * ports.length + place));
  const waiting: (() => void)[] = [];
  for (const [place, crowd] of crowds.entries()) {
    const mine = Math.floor((viewers - place + ports.length - 1) / ports.length);
    const tokens = Array.from({ length: mine }, (_, n) => tokenOf(n * ports.length + place));
    for (const viewer of crowd.add(tokens)) waiting.push(() => crowd.connect(viewer, false));
  }
  const open = (): number => crowds.reduce((sum, crowd) => sum + crowd.open(), 0);
  for (let from = 0; from < waiting.length; from += AT_ONCE) {
    for (const begin of waiting.slice(from, from + AT_ONCE)) begin();
    await until(() => open() >= Math.min(from + AT_ONCE / 2, waiting.length), 20_000);
    if (open() === 0) throw new Error(`nobody gets in: ${JSON.stringify(fresh.refused)}`);
  }
  await until(() => open() === viewers, 60_000);
}

function count(): SoakCount {
  const latency = createHistogram();
  const sum = { open: 0, deliveries: 0, duplicates: 0, missing: 0 };
  for (const crowd of crowds) {
    latency.merge(crowd.latency.record());
    crowd.latency = createHistogram();
    sum.open += crowd.open();
    sum.deliveries += crowd.tally.deliveries;
    sum.duplicates += crowd.tally.duplicates;
    sum.missing += crowd.tally.missing;
  }
  const report: SoakCount = { ...fresh, ...sum, latency: latency.record() };
  Object.assign(fresh, { reconnects: 0, slow: 0, authenticated: 0, receipts: 0, refused: {} });
  return report;
}

async function reach(offset: number, giveUpMs: number): Promise<number> {
  const behind = (): number =>
    crowds.reduce((sum, { viewers }) => sum + viewers.filter(({ next }) => next <= offset).length, 0);
  await until(() => behind() === 0, giveUpMs);
  return behind();
}

serveParent<SoakAsk>(async (ask) => {
  if (ask.kind === 'provide') {
    provider = await startOutsideUsers(ask.issuer);
    return provider.jwksUrl;
  }
  if (ask.kind === 'connect') return connectAll(ask.ports, ask.viewers);
  if (ask.kind === 'count') return count();
  if (ask.kind === 'reach') return reach(ask.offset, ask.giveUpMs);
  trouble = ask.on;
  return null;
});
