/**
 * One viewer of a crowd: light, so that hundreds live in one process, and strict.
 *
 * It sees every message of the channel, so each must have the offset after the one before: on a connection, and over all
 * of its connections together. It does what the SDK does: resumes after every end, gives up a connection on which nothing
 * comes, and when it is told to move it opens the next connection before it lets go of the old one.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket } from 'ws';

/** What all viewers of a crowd share. */
export interface CrowdWatch {
  /** Called for a message that this viewer sees for the first time; false: other bytes than others saw at this offset. */
  saw(offset: number, text: string): boolean;
  /** A connection ended with this code, or a handshake was refused with this status. */
  ended(code: number): void;
  refused(status: number): void;
  connected(): void;
}

/** Where and as whom it connects. */
export interface CrowdPlace {
  /** `ws://…` of every instance, the first one first. */
  readonly urls: readonly string[];
  readonly token: string;
  /** As `X-Forwarded-For`. */
  readonly address: string;
  /** A connection on which nothing comes for so long is given up, ms. */
  readonly silentMs: number;
}

/** A viewer. Times are `performance.now()`. */
export interface CrowdViewer {
  /** The offset up to which it has everything. */
  offset(): number;
  /** What it should never have seen, in words; at most ten. */
  readonly faults: string[];
  /** Messages that it saw for the first time. */
  seen(): number;
  /** Its longest time between two watermarks since `calm`, the one that runs included, ms. */
  unprotectedMs(now: number): number;
  /** Forgets times of before. */
  calm(now: number): void;
  /** Ends its connections as `way` says; it comes back. */
  cut(way: CutWay): void;
  /** Gives up a silent connection. */
  sweep(now: number): void;
  close(): void;
}

/** Without a word, with a close frame, or by a reset. */
export type CutWay = 'end' | 'close' | 'reset';

const HANDSHAKE_MS = 2000;
const FAULTS_MOST = 10;
/** Between a lost connection and the next try: at least, and by chance up to this much more, ms. */
const BACK_LEAST_MS = 20;
const BACK_SPREAD_MS = 180;
const HEAD = /^\{"type":"([a-z-]+)"(?:,"offset":(\d+))?/;

interface Line {
  readonly socket: WebSocket;
  /** The last offset on this connection; -1 before `welcome`. */
  last: number;
  heardAt: number;
  /** `moving`: it was told to go, and the next one is not there yet. `leaving`: the next one is. */
  state: 'open' | 'moving' | 'leaving';
}

/** Connects for the first time; resolves at its `welcome`. */
export async function joinCrowd(place: CrowdPlace, watch: CrowdWatch): Promise<CrowdViewer> {
  const faults: string[] = [];
  const lines = new Set<Line>();
  let turn = 0;
  let point: { readonly epoch: string; offset: number } | null = null;
  let seen = 0;
  let provenAt = performance.now();
  let longest = 0;
  let over = false;
  let opening = 0;

  const fault = (words: string): void => void (faults.length < FAULTS_MOST && faults.push(words));

  function prove(now: number): void {
    longest = Math.max(longest, now - provenAt);
    provenAt = now;
  }

  function onWelcome(line: Line, text: string): void {
    const { epoch, offset, recovered } = JSON.parse(text) as { epoch: string; offset: number; recovered: boolean };
    if (!recovered) fault(`not recovered at ${point?.offset}`);
    line.last = offset;
    point ??= { epoch, offset };
  }

  function onAlert(line: Line, offset: number, text: string): void {
    if (offset !== line.last + 1) fault(`offset ${offset} after ${line.last} on one connection`);
    line.last = offset;
    if (point === null || offset <= point.offset) return;
    if (offset !== point.offset + 1) fault(`offset ${offset} after ${point.offset}`);
    point.offset = offset;
    seen += 1;
    if (!watch.saw(offset, text)) fault(`other bytes at offset ${offset}`);
  }

  function onMessage(line: Line, data: Buffer): void {
    const text = data.toString();
    const [, type, digits = '-1'] = HEAD.exec(text) ?? [];
    const offset = Number(digits);
    line.heardAt = performance.now();
    if ((line.last === -1) !== (type === 'welcome')) return fault(`${type} at a place that is not its own`);
    if (type === 'welcome') return onWelcome(line, text);
    if (type === 'alert' || type === 'alert-update') return onAlert(line, offset, text);
    if (type === 'watermark') {
      if (offset > line.last) return fault(`watermark ${offset}, but nothing after ${line.last} came`);
      return prove(line.heardAt);
    }
    if (type === 'moving') return void move(line, text);
    if (type === 'error') fault(text);
  }

  /** The next connection opens before the old one goes. */
  async function move(line: Line, text: string): Promise<void> {
    line.state = 'moving';
    await pause((JSON.parse(text) as { retryAfterMs: number }).retryAfterMs);
    if (over) return;
    turn += 1;
    await again();
    line.state = 'leaving';
    line.socket.close(1000);
  }

  /** Tries until it is connected; one at a time, whoever asks. */
  async function again(): Promise<void> {
    opening += 1;
    if (opening > 1) return;
    while (!over && !(await connect())) await pause(BACK_LEAST_MS + Math.random() * BACK_SPREAD_MS);
    opening = 0;
  }

  /** No connection, and nobody at work on one. */
  const alone = (): boolean => !over && opening === 0 && [...lines].every(({ state }) => state === 'leaving');

  function onClose(line: Line, code: number): void {
    const welcomed = line.last !== -1;
    lines.delete(line);
    if (welcomed) watch.ended(code);
    // Who was told to move comes back when it was told to; the first tries of `again` are its own.
    if (!welcomed || line.state === 'moving' || !alone()) return;
    turn += 1;
    void pause(BACK_LEAST_MS + Math.random() * BACK_SPREAD_MS).then(() => (alone() ? again() : undefined));
  }

  /** One try; true once it is welcomed. */
  function connect(): Promise<boolean> {
    const url = new URL(place.urls[turn % place.urls.length] ?? '');
    if (point !== null) {
      url.searchParams.set('epoch', point.epoch);
      url.searchParams.set('offset', String(point.offset));
    }
    const headers = { authorization: `Bearer ${place.token}`, 'x-forwarded-for': place.address };
    const options = { headers, handshakeTimeout: HANDSHAKE_MS, perMessageDeflate: false };
    const socket = new WebSocket(url, options);
    const line: Line = { socket, last: -1, heardAt: performance.now(), state: 'open' };
    lines.add(line);
    return new Promise((resolve) => {
      const failed = (): void => {
        turn += 1;
        resolve(false);
      };
      socket.on('message', (data) => {
        const first = line.last === -1;
        onMessage(line, data as Buffer);
        if (!first || line.last === -1) return;
        watch.connected();
        resolve(true);
      });
      socket.on('ping', () => {
        line.heardAt = performance.now();
      });
      socket.on('unexpected-response', (request, response) => {
        watch.refused(response.statusCode ?? 0);
        request.destroy();
        socket.terminate();
      });
      socket.on('error', () => undefined);
      socket.on('close', (code) => {
        onClose(line, code);
        if (line.last === -1) failed();
      });
    });
  }

  function cutLine({ socket }: Line, way: CutWay): void {
    if (way === 'close') socket.close(1000);
    else if (way === 'reset')
      (socket as unknown as { _socket?: { resetAndDestroy(): void } })._socket?.resetAndDestroy();
    else socket.terminate();
  }

  await again();
  return {
    offset: () => point?.offset ?? -1,
    faults,
    seen: () => seen,
    unprotectedMs: (now) => Math.max(longest, now - provenAt),
    calm(now) {
      longest = 0;
      provenAt = now;
    },
    cut(way) {
      for (const line of lines) if (line.last !== -1) cutLine(line, way);
    },
    sweep(now) {
      for (const line of lines) if (now - line.heardAt > place.silentMs) line.socket.terminate();
    },
    close() {
      over = true;
      for (const { socket } of lines) socket.terminate();
    },
  };
}
