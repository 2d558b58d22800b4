/**
 * A viewer that comes back: reconnects after every cut, to the next of its servers, and resumes; it keeps all that it
 * was ever sent. A connection on which nothing comes for a while, not even a ping, counts as cut.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { connectViewer, type ScriptedViewer, type ViewerMessage } from './viewer.ts';

/** What it saw over all of its connections. */
export interface SteadyViewer {
  /** Messages of the channel, in the order of arrival. */
  channel(): ViewerMessage[];
  /** What broke the order within a connection or between two, in words. */
  faults(): string[];
  connections(): number;
  /** Waits until it has everything up to `offset`. */
  reach(offset: number, timeoutMs: number): Promise<void>;
  /** Waits for a message of the channel, looking every 20 ms; false when there is none in time. */
  sees(test: (message: ViewerMessage) => boolean, timeoutMs: number): Promise<boolean>;
  close(): Promise<void>;
}

const PAUSE_MS = 50;
const HANDSHAKE_MS = 2000;

/**
 * Connects for the first time, to the first of `urls`; rejects when that fails. Without `silentMs` a silent connection
 * is never given up.
 */
export async function connectSteadily(
  urls: string | readonly [string, ...string[]],
  token: string,
  { silentMs = Number.POSITIVE_INFINITY }: { readonly silentMs?: number } = {},
): Promise<SteadyViewer> {
  const all = typeof urls === 'string' ? [urls] : urls;
  let turn = 0;
  const client = { handshakeTimeout: HANDSHAKE_MS };
  const open = async (resume?: { epoch: string; offset: number }): Promise<ScriptedViewer> => {
    const url = all[turn % all.length] ?? '';
    const viewer = await connectViewer(url, { token, client, ...(resume === undefined ? {} : { resume }) });
    if (Number.isFinite(silentMs)) cutWhenSilent(viewer, silentMs);
    return viewer;
  };
  let current = await open();
  const past: ScriptedViewer[] = [];
  let over = false;
  const faults: string[] = [];
  const keep = async (): Promise<void> => {
    while (!over) {
      await current.closed;
      if (over) return;
      const resume = current.resumePoint();
      past.push(current);
      for (;;) {
        turn += 1;
        const next = await open(resume).catch(() => null);
        if (next !== null) {
          if (next.welcome['recovered'] !== true) faults.push(`not recovered at ${resume.offset}`);
          current = next;
          if (over) next.cut();
          break;
        }
        if (over) return;
        await pause(PAUSE_MS);
      }
    }
  };
  const keeping = keep();
  const viewers = (): ScriptedViewer[] => (past.includes(current) ? past : [...past, current]);
  const channel = (): ViewerMessage[] => viewers().flatMap((viewer) => viewer.channel());
  return {
    channel,
    faults: () => {
      const offsets = channel().map((message) => message.offset ?? -1);
      const between = offsets.flatMap((offset, i) =>
        i > 0 && offset <= (offsets[i - 1] ?? 0) ? [`offset ${offset} after ${offsets[i - 1]}`] : [],
      );
      return [...faults, ...between, ...viewers().flatMap((viewer) => viewer.faults)];
    },
    connections: () => viewers().length,
    reach: async (offset, timeoutMs) => {
      const until = Date.now() + timeoutMs;
      while (current.offset() < offset) {
        if (Date.now() > until) throw new Error(`the viewer is at ${current.offset()}, not ${offset}`);
        await pause(PAUSE_MS);
      }
    },
    sees: async (test, timeoutMs) => {
      const until = Date.now() + timeoutMs;
      while (!channel().some(test)) {
        if (Date.now() > until) return false;
        await pause(20);
      }
      return true;
    },
    close: async () => {
      over = true;
      current.cut();
      await keeping;
    },
  };
}

/** Cuts a connection on which neither a message nor a ping came for so long. */
function cutWhenSilent(viewer: ScriptedViewer, silentMs: number): void {
  const timer = setTimeout(() => viewer.cut(), silentMs);
  const heard = (): void => void timer.refresh();
  viewer.socket.on('message', heard).on('ping', heard);
  viewer.socket.once('close', () => clearTimeout(timer));
}
