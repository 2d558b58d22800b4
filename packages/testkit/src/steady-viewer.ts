/** A viewer that comes back: reconnects after every cut and resumes, and keeps all that it was ever sent. */
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
  close(): Promise<void>;
}

const PAUSE_MS = 50;

/** Connects for the first time; rejects when that fails. */
export async function connectSteadily(url: string, token: string): Promise<SteadyViewer> {
  let current = await connectViewer(url, { token });
  const ended: ScriptedViewer[] = [];
  let over = false;
  const faults: string[] = [];
  const keep = async (): Promise<void> => {
    while (!over) {
      await current.closed;
      if (over) return;
      const resume = current.resumePoint();
      ended.push(current);
      for (;;) {
        const next = await connectViewer(url, { token, resume }).catch(() => null);
        if (next !== null) {
          if (next.welcome['recovered'] !== true) faults.push(`not recovered at ${resume.offset}`);
          current = next;
          break;
        }
        if (over) return;
        await pause(PAUSE_MS);
      }
    }
  };
  const keeping = keep();
  const all = (): ScriptedViewer[] => (ended.includes(current) ? ended : [...ended, current]);
  const channel = (): ViewerMessage[] => all().flatMap((viewer) => viewer.channel());
  return {
    channel,
    faults: () => {
      const offsets = channel().map((message) => message.offset ?? -1);
      const between = offsets.flatMap((offset, i) =>
        i > 0 && offset <= (offsets[i - 1] ?? 0) ? [`offset ${offset} after ${offsets[i - 1]}`] : [],
      );
      return [...faults, ...between, ...all().flatMap((viewer) => viewer.faults)];
    },
    connections: () => all().length,
    reach: async (offset, timeoutMs) => {
      const until = Date.now() + timeoutMs;
      while (current.offset() < offset) {
        if (Date.now() > until) throw new Error(`the viewer is at ${current.offset()}, not ${offset}`);
        await pause(PAUSE_MS);
      }
    },
    close: async () => {
      over = true;
      current.cut();
      await keeping;
    },
  };
}
