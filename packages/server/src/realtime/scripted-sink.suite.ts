/** A sink for tests: keeps what is written, drains when told, and takes frames apart again. */
import type { ChannelHead, ChannelMessage, ChannelStore } from '../store/ports/channels.ts';
import type { Sink } from './sink.ts';

export interface SentMessage {
  readonly type: string;
  readonly offset?: number;
  readonly [member: string]: unknown;
}

export interface ScriptedSink extends Sink {
  /** Every write, joined while corked. */
  readonly writes: Buffer[];
  closed: { code: number; reason: string } | null;
  /** While true, bytes stay in the socket. */
  stuck: boolean;
  /** Lets everything out. */
  drain(): void;
  messages(): SentMessage[];
}

/** Takes server text frames apart (RFC 6455 section 5.2); throws on anything else. */
export function decodeFrames(bytes: Buffer): string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== 0x81) throw new Error('not a final text frame');
    const short = bytes.readUInt8(at + 1);
    if (short > 127) throw new Error('masked');
    const [length, header] =
      short < 126
        ? [short, 2]
        : short === 126
          ? [bytes.readUInt16BE(at + 2), 4]
          : [Number(bytes.readBigUInt64BE(at + 2)), 10];
    if (at + header + length > bytes.length) throw new Error('cut frame');
    texts.push(bytes.toString('utf8', at + header, at + header + length));
    at += header + length;
  }
  return texts;
}

export function createScriptedSink(stuck = false): ScriptedSink {
  let waiting = 0;
  let corks = 0;
  let held: Buffer[] = [];
  const callbacks: (() => void)[] = [];
  const sink: ScriptedSink = {
    writes: [],
    closed: null,
    stuck,
    get open() {
      return sink.closed === null;
    },
    get writableLength() {
      return waiting;
    },
    write(bytes) {
      if (sink.closed !== null) throw new Error('written after the close');
      if (sink.stuck) waiting += bytes.length;
      if (corks > 0) held.push(bytes);
      else sink.writes.push(bytes);
    },
    cork() {
      corks++;
    },
    uncork() {
      if (--corks > 0 || held.length === 0) return;
      sink.writes.push(held.length === 1 && held[0] !== undefined ? held[0] : Buffer.concat(held));
      held = [];
    },
    whenDrained(callback) {
      callbacks.push(callback);
      if (!sink.stuck) setImmediate(() => sink.drain());
    },
    close(code, reason) {
      if (sink.closed === null) sink.closed = { code, reason };
    },
    drain() {
      waiting = 0;
      for (const callback of callbacks.splice(0)) callback();
    },
    messages: () => decodeFrames(Buffer.concat(sink.writes)).map((text) => JSON.parse(text) as SentMessage),
  };
  return sink;
}

/** A channel in memory; `away` makes every read fail. */
export interface ScriptedStore extends ChannelStore {
  readonly rows: ChannelMessage[];
  epoch: string;
  away: boolean;
  reads: number;
  append(parts?: { zoneId?: string | null; severity?: number; body?: string }): ChannelMessage;
}

export function createScriptedStore(): ScriptedStore {
  const store: ScriptedStore = {
    rows: [],
    epoch: 'e1',
    away: false,
    reads: 0,
    async head(channel): Promise<ChannelHead> {
      await Promise.resolve();
      if (store.away) throw new Error('away');
      return { channel, epoch: store.epoch, head: store.rows.at(-1)?.offset ?? 0 };
    },
    async read(_channel, after, limit) {
      store.reads++;
      await Promise.resolve();
      if (store.away) throw new Error('away');
      return store.rows.filter((row) => row.offset > after).slice(0, limit);
    },
    append(parts = {}) {
      const offset = (store.rows.at(-1)?.offset ?? 0) + 1;
      const { zoneId = null, severity = 3, body = `{"n":${offset}}` } = parts;
      const row: ChannelMessage = { channel: 'alerts', offset, type: 'alert', zoneId, severity, createdAt: 0, body };
      store.rows.push(row);
      return row;
    },
  };
  return store;
}
