/**
 * A dashboard that comes back: watches live hosts on `/ws/devices` or in the raw form of `WS_PORT`, reconnects after every
 * cut to the next of its servers, and keeps the picture of its present connection. A connection on which nothing comes for
 * a while, not even a ping, counts as cut.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { longestBetween } from './host-crowd.ts';

/** A host's frame as it was shown. */
export type ShownFrame = Readonly<Record<string, unknown>>;

/** What it sees. */
export interface LiveWatch {
  /** By host: the last frame that it was shown on the present connection. */
  picture(): ReadonlyMap<string, ShownFrame>;
  /** The longest time between two messages with frames since `since` (`performance.now()`), ms. */
  longestGap(since: number): number;
  connections(): number;
  /** What it should not have been sent, in words. */
  faults(): readonly string[];
  close(): void;
}

const PAUSE_MS = 50;
const SILENT_MS = 3000;
const HANDSHAKE_MS = 2000;

/** Reads a message: the frames in it by host, null for one without any. Throws when it is none of its form. */
type Read = (text: string) => Readonly<Record<string, ShownFrame>> | null;

/** The two forms. */
export const LIVE_FORMS: Readonly<Record<'devices' | 'raw', Read>> = {
  devices: (text) => {
    const { type, data } = JSON.parse(text) as { type: string; data?: Record<string, ShownFrame> };
    if (type === 'snapshot' || type === 'metrics') return data ?? {};
    if (['welcome', 'watermark', 'moving'].includes(type)) return null;
    throw new Error(`a message ${type}`);
  },
  raw: (text) => JSON.parse(text) as Record<string, ShownFrame>,
};

/** Watches the first of `urls` that answers; resolves once it is connected. */
export async function watchLive(
  urls: readonly string[],
  form: keyof typeof LIVE_FORMS,
  ca?: string,
): Promise<LiveWatch> {
  const shownAt: number[] = [];
  const faults: string[] = [];
  let picture = new Map<string, ShownFrame>();
  let connections = 0;
  let over = false;
  let socket: WebSocket | undefined;
  const once = (url: string, opened: () => void): Promise<void> =>
    new Promise((resolve) => {
      const current = new WebSocket(url, { handshakeTimeout: HANDSHAKE_MS, ...(ca === undefined ? {} : { ca }) });
      socket = current;
      const timer = setTimeout(() => current.terminate(), SILENT_MS);
      current.on('ping', () => timer.refresh());
      current.on('error', () => undefined);
      current.on('open', () => {
        connections += 1;
        picture = new Map();
        opened();
      });
      current.on('message', (data: Buffer) => {
        timer.refresh();
        try {
          const frames = Object.entries(LIVE_FORMS[form](data.toString()) ?? {});
          if (frames.length > 0) shownAt.push(performance.now());
          for (const [id, frame] of frames) picture.set(id, frame);
        } catch (error) {
          faults.push(String(error));
        }
      });
      current.on('close', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  await new Promise<void>((opened) => {
    void (async () => {
      for (let turn = 0; !over; turn += 1) {
        await once(urls[turn % urls.length] ?? '', opened);
        await pause(PAUSE_MS);
      }
    })();
  });
  return {
    picture: () => picture,
    longestGap: (since) => longestBetween(shownAt, since),
    connections: () => connections,
    faults: () => faults,
    close: () => {
      over = true;
      socket?.terminate();
    },
  };
}
