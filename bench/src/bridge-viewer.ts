/**
 * Dashboards of the bridge benchmark, in a process of their own: they read `{"<deviceId>":<frame>}` as the original's do, count
 * frames, and know from a frame's `agent_mem_mb` how late it is.
 */
import { createHistogram, type HistogramRecord } from '@tocsin/device/simulate/histogram';
import { WebSocket } from 'ws';
import { monotonicMs } from './frame-reader.ts';
import { serveParent } from './helper.ts';

/** What the viewers can be asked. */
export type ViewerAsk =
  | { readonly kind: 'connect'; readonly url: string; readonly viewers: number }
  | { readonly kind: 'begin' }
  /** Answers a {@link Seen} once each viewer has `frames`, or nothing more came for `quietMs`. */
  | { readonly kind: 'count'; readonly frames: number; readonly quietMs: number };

/** What was seen since `begin`. */
export interface Seen {
  /** Of the viewer that saw the fewest. */
  readonly frames: number;
  readonly lastAt: number;
  readonly latency: HistogramRecord;
  readonly cpu: number;
}

/** A frame's due time, wherever it stands in the text. */
const DUE = /"agent_mem_mb":([0-9.]+)/;
let sockets: WebSocket[] = [];
let counts: number[] = [];
let latency = createHistogram();
let lastAt = 0;
let cpu = process.cpuUsage();

function open(url: string, viewers: number): Promise<unknown> {
  counts = Array.from({ length: viewers }, () => 0);
  return Promise.all(
    counts.map(
      (_, index) =>
        new Promise<void>((resolve, reject) => {
          const socket = new WebSocket(url, { perMessageDeflate: false });
          sockets.push(socket);
          socket.once('open', () => resolve());
          socket.once('error', reject);
          socket.on('message', (data: Buffer) => {
            counts[index] = (counts[index] ?? 0) + 1;
            const now = monotonicMs();
            lastAt = now;
            const due = Number(DUE.exec(data.toString('latin1'))?.[1] ?? 0);
            if (due > 0) latency.add(Math.max(0, now - due));
          });
        }),
    ),
  );
}

async function count(frames: number, quietMs: number): Promise<Seen> {
  const fewest = (): number => Math.min(...counts);
  for (let seen = -1, quiet = 0; fewest() < frames && quiet < quietMs; quiet += 10) {
    const all = counts.reduce((sum, one) => sum + one, 0);
    if (all !== seen) quiet = 0;
    seen = all;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const used = process.cpuUsage(cpu);
  return { frames: fewest(), lastAt, latency: latency.record(), cpu: (used.user + used.system) / 1e6 };
}

serveParent<ViewerAsk>(async (ask) => {
  if (ask.kind === 'connect') {
    for (const socket of sockets) socket.terminate();
    sockets = [];
    await open(ask.url, ask.viewers);
    return null;
  }
  if (ask.kind === 'count') return count(ask.frames, ask.quietMs);
  counts = counts.map(() => 0);
  latency = createHistogram();
  cpu = process.cpuUsage();
  return null;
});
