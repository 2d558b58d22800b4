/**
 * Hundreds of viewers that are cut at random while alerts flow, and what all of them together saw.
 *
 * Guarantee of the count: a viewer that has no fault and stands at offset n has seen every message up to n once, in
 * order, with the same bytes as everybody else.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type CrowdViewer, type CutWay, joinCrowd } from './crowd-viewer.ts';

/** What happened since the last {@link Crowd.calm}. */
export interface CrowdCounts {
  /** Messages seen for the first time, over all viewers. */
  seen: number;
  /** Of these, seen more than a second after their `sentAt`. */
  late: number;
  /** The latest of them, ms. */
  latestMs: number;
  cuts: number;
  connects: number;
  /** Connections by close code, handshakes by HTTP status. */
  readonly closed: Record<number, number>;
  readonly refused: Record<number, number>;
}

/** A crowd. */
export interface Crowd {
  readonly size: number;
  readonly counts: CrowdCounts;
  /** The id of the alert at each offset, as the first who saw it read it. */
  readonly ids: ReadonlyMap<number, string>;
  /** Starts to cut each viewer every so many ms on average, at random; 0 ends it. */
  cutEvery(ms: number): void;
  /** Waits until all have everything up to `offset`; answers how many have not, after `timeoutMs`. */
  reach(offset: number, timeoutMs: number): Promise<number>;
  /** Faults of all viewers, with the viewer's number. */
  faults(): string[];
  /** The longest time of any viewer between two watermarks since the last `calm`, ms. */
  unprotectedMs(): number;
  /** Begins to count anew. */
  calm(): void;
  close(): void;
}

/** How it is made. */
export interface CrowdOptions {
  readonly size: number;
  /** `ws://…` of the instances. */
  readonly urls: readonly string[];
  /** Shared out evenly. */
  readonly tokens: readonly string[];
  /** A viewer gives up a silent connection after this, ms. */
  readonly silentMs: number;
}

const LATE_MS = 1000;
const SWEEP_MS = 100;
const TOGETHER = 25;
const WAYS: readonly CutWay[] = ['end', 'close', 'reset'];
/** Bytes of an offset are kept for so many offsets. */
const KEPT = 2000;

const nothing = (): CrowdCounts => ({ seen: 0, late: 0, latestMs: 0, cuts: 0, connects: 0, closed: {}, refused: {} });

/** What was seen first at each offset, and how late. */
function createLedger(counts: () => CrowdCounts): {
  readonly ids: Map<number, string>;
  saw(offset: number, text: string): boolean;
} {
  const ids = new Map<number, string>();
  const texts = new Map<number, { readonly text: string; readonly sentAt: number }>();
  return {
    ids,
    saw(offset, text) {
      let known = texts.get(offset);
      if (known === undefined) {
        const { data } = JSON.parse(text) as { data: { id: string; sentAt: number } };
        known = { text, sentAt: data.sentAt };
        texts.set(offset, known);
        texts.delete(offset - KEPT);
        ids.set(offset, data.id);
      }
      const lateMs = Date.now() - known.sentAt;
      const now = counts();
      now.seen += 1;
      now.latestMs = Math.max(now.latestMs, lateMs);
      if (lateMs > LATE_MS) now.late += 1;
      return known.text === text;
    },
  };
}

/** Connects them all, a few at a time. */
export async function gatherCrowd({ size, urls, tokens, silentMs }: CrowdOptions): Promise<Crowd> {
  let counts = nothing();
  const ledger = createLedger(() => counts);
  const count = (record: Record<number, number>, key: number): void => {
    record[key] = (record[key] ?? 0) + 1;
  };
  const watch = {
    saw: ledger.saw,
    ended: (code: number) => count(counts.closed, code),
    refused: (status: number) => count(counts.refused, status),
    connected: () => void (counts.connects += 1),
  };
  const placeOf = (i: number) => ({
    urls: [...urls.slice(i % urls.length), ...urls.slice(0, i % urls.length)],
    token: tokens[i % tokens.length] ?? '',
    address: `198.51.${i >>> 8}.${i & 255}`,
    silentMs,
  });
  const viewers: CrowdViewer[] = [];
  for (let from = 0; from < size; from += TOGETHER) {
    const numbers = Array.from({ length: Math.min(TOGETHER, size - from) }, (_, i) => from + i);
    viewers.push(...(await Promise.all(numbers.map((i) => joinCrowd(placeOf(i), watch)))));
  }
  let everyMs = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    for (const viewer of viewers) {
      viewer.sweep(now);
      if (everyMs === 0 || Math.random() >= SWEEP_MS / everyMs) continue;
      counts.cuts += 1;
      viewer.cut(WAYS[Math.floor(Math.random() * WAYS.length)] ?? 'end');
    }
  }, SWEEP_MS);
  return {
    size,
    get counts() {
      return counts;
    },
    ids: ledger.ids,
    cutEvery(ms) {
      everyMs = ms;
    },
    async reach(offset, timeoutMs) {
      const until = performance.now() + timeoutMs;
      const behind = (): number => viewers.filter((viewer) => viewer.offset() < offset).length;
      while (behind() > 0 && performance.now() < until) await pause(50);
      return behind();
    },
    faults: () => viewers.flatMap((viewer, i) => viewer.faults.map((fault) => `viewer ${i}: ${fault}`)),
    unprotectedMs() {
      const now = performance.now();
      return Math.round(Math.max(...viewers.map((viewer) => viewer.unprotectedMs(now))));
    },
    calm() {
      counts = nothing();
      const now = performance.now();
      for (const viewer of viewers) viewer.calm(now);
    },
    close() {
      clearInterval(timer);
      for (const viewer of viewers) viewer.close();
    },
  };
}
