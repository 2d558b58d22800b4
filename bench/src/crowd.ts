/**
 * Many viewers in one process, over bare sockets: connects them, counts what each gets, notices what is missing, doubled or
 * out of order, and how late it is.
 *
 * A message's text says when it was due (`"headline":"bench <ms>"`, monotonic clock); it is read once, from the first
 * viewer that gets the message, so that a receiver's work for all the others is reading an offset.
 */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { createHistogram, type Histogram } from '@tocsin/device/simulate/histogram';
import { clientFrame, createFrameReader, monotonicMs } from './frame-reader.ts';

/** What a server speaks beyond WebSocket. */
export type Dialect = 'plain' | 'tocsin' | 'socket.io';

/** Where viewers go. */
export interface CrowdTarget {
  readonly port: number;
  readonly path: string;
  readonly dialect: Dialect;
}

/** A viewer. */
export interface CrowdViewer {
  readonly id: number;
  /** The offset that comes next; 0: none was seen yet. */
  next: number;
  epoch: string | null;
  state: 'closed' | 'connecting' | 'open';
  socket: Socket | null;
  /** Credential, `Sec-WebSocket-Protocol: bearer.<this>`. */
  readonly token: string | null;
  /** When the last try to connect began. */
  beganAt: number;
  tries: number;
  /** Up to this offset nothing is late: it was missed while the connection was gone or not read. */
  replayTo: number;
}

/** What happens to viewers. */
export interface CrowdEvents {
  /** Its first message came (`welcome`), or the dialect's hello is over. */
  opened(viewer: CrowdViewer, welcome: Readonly<Record<string, unknown>> | null): void;
  /** The connection ended, or never opened: HTTP status (0: none), close code (0: none). */
  ended(viewer: CrowdViewer, status: number, code: number): void;
  /** A text that is no message of the channel. */
  text(viewer: CrowdViewer, text: string): void;
  /** The viewer has a message now. */
  message(viewer: CrowdViewer, offset: number): void;
  /** Everybody has this message. */
  complete(offset: number): void;
}

/** What was counted. */
export interface Tally {
  deliveries: number;
  duplicates: number;
  /** Offsets that a viewer was not given before a later one. */
  missing: number;
  lastAt: number;
}

/** The viewers of a process. */
export interface Crowd {
  readonly viewers: readonly CrowdViewer[];
  readonly tally: Tally;
  /** Of deliveries: from when the message was due. Replace it to begin anew. */
  latency: Histogram;
  open(): number;
  /** Adds viewers; they are not connected yet. */
  add(tokens: readonly (string | null)[]): CrowdViewer[];
  /** Cuts and forgets all but the first `viewers`. */
  shrink(viewers: number): void;
  /** Connects one, resuming after what it has seen when `resume`. */
  connect(viewer: CrowdViewer, resume: boolean): void;
  /** Resets its connection. */
  cut(viewer: CrowdViewer): void;
  send(viewer: CrowdViewer, text: string): void;
  /** Stops and goes on to read: a slow viewer. */
  pause(viewer: CrowdViewer): void;
  resume(viewer: CrowdViewer): void;
}

/** Offsets whose times and holders are kept. */
const KEPT = 20_000;
const CHUNK_BYTES = 262_144;
const HEAD_END = Buffer.from('\r\n\r\n');
/** `42["alert",` */
const SOCKET_IO_SHIFT = 11;
const PONG = clientFrame('', 10);
const DUE = /"headline":"bench ([0-9.]+)/;

/** The request that opens a WebSocket. */
function requestOf(target: CrowdTarget, viewer: CrowdViewer, resume: boolean): string {
  const asks = resume && viewer.epoch !== null ? `?epoch=${viewer.epoch}&offset=${viewer.next - 1}` : '';
  const protocol =
    target.dialect === 'tocsin' ? `tocsin.v1${viewer.token === null ? '' : `, bearer.${viewer.token}`}` : '';
  return [
    `GET ${target.path}${asks} HTTP/1.1`,
    `Host: 127.0.0.1:${target.port}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    ...(protocol === '' ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]),
    '\r\n',
  ].join('\r\n');
}

/** Creates a crowd without viewers. */
export function createCrowd(target: CrowdTarget, events: Partial<CrowdEvents>): Crowd {
  const viewers: CrowdViewer[] = [];
  const tally: Tally = { deliveries: 0, duplicates: 0, missing: 0, lastAt: 0 };
  const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  /** By offset: when it was due, how many have it. */
  const due = new Map<number, number>();
  const held = new Map<number, number>();
  let lastWanted = -1;
  let lastHeld = 0;
  let lastOffset = -1;
  let lastDue = 0;
  let now = 0;
  let open = 0;

  /** Most deliveries in a row are of one offset: the maps are asked when it changes. */
  function select(offset: number): void {
    if (lastOffset >= 0) held.set(lastOffset, lastHeld);
    lastOffset = offset;
    lastHeld = held.get(offset) ?? 0;
    lastDue = due.get(offset) ?? 0;
  }
  function count(viewer: CrowdViewer, offset: number): void {
    if (viewer.next !== 0 && offset !== viewer.next) {
      if (offset < viewer.next) {
        tally.duplicates += 1;
        return;
      }
      tally.missing += offset - viewer.next;
    }
    viewer.next = offset + 1;
    if (offset !== lastOffset) select(offset);
    lastHeld += 1;
    tally.deliveries += 1;
    if (lastDue !== 0 && offset > viewer.replayTo) crowd.latency.add(now - lastDue);
    if (lastHeld === viewers.length) events.complete?.(offset);
    events.message?.(viewer, offset);
  }

  function listen(
    viewer: CrowdViewer,
    socket: Socket,
    onClose: (code: number) => void,
  ): (from: number, to: number) => void {
    const reader = createFrameReader(
      {
        wants: (offset) => {
          if (offset <= lastWanted) return false;
          return !due.has(offset);
        },
        message(offset, text) {
          if (text !== null) {
            lastWanted = Math.max(lastWanted, offset);
            due.set(offset, Number(DUE.exec(text)?.[1] ?? 0));
            due.delete(offset - KEPT);
            held.delete(offset - KEPT);
          }
          count(viewer, offset);
        },
        text: (text) => onText(viewer, socket, text),
        control(kind, code) {
          if (kind === 'ping') socket.write(PONG);
          else if (kind === 'close') onClose(code);
        },
      },
      target.dialect === 'socket.io' ? SOCKET_IO_SHIFT : 0,
    );
    return (from, to) => reader.read(chunk, from, to);
  }

  function opened(viewer: CrowdViewer, welcome: Readonly<Record<string, unknown>> | null): void {
    viewer.state = 'open';
    open += 1;
    events.opened?.(viewer, welcome);
  }
  function onText(viewer: CrowdViewer, socket: Socket, text: string): void {
    if (target.dialect === 'socket.io') {
      if (text.startsWith('0')) socket.write(clientFrame('40'));
      else if (text.startsWith('40')) opened(viewer, null);
      else if (text === '2') socket.write(clientFrame('3'));
    } else if (viewer.state === 'connecting' && text.startsWith('{"type":"welcome"')) {
      const welcome = JSON.parse(text) as Readonly<Record<string, unknown>>;
      viewer.epoch = String(welcome['epoch']);
      const offset = Number(welcome['offset']);
      if (viewer.next === 0) viewer.next = offset + 1;
      else if (welcome['recovered'] !== true) {
        // What lies between is lost to this viewer.
        tally.missing += Math.max(0, offset + 1 - viewer.next);
        viewer.next = offset + 1;
      }
      viewer.replayTo = lastWanted;
      opened(viewer, welcome);
    } else events.text?.(viewer, text);
  }

  function connectOne(viewer: CrowdViewer, resume: boolean): void {
    viewer.state = 'connecting';
    viewer.beganAt = monotonicMs();
    viewer.tries += 1;
    let head: Buffer | null = Buffer.alloc(0);
    let status = 0;
    let code = 0;
    const onread = {
      buffer: chunk,
      callback(bytes: number): boolean {
        now = monotonicMs();
        tally.lastAt = now;
        if (head === null) {
          receive(0, bytes);
          return true;
        }
        head = Buffer.concat([head, chunk.subarray(0, bytes)]);
        const end = head.indexOf(HEAD_END);
        if (end < 0) return true;
        status = Number(head.toString('latin1', 9, 12));
        const rest = head.subarray(end + 4);
        head = null;
        if (status !== 101) return true;
        if (target.dialect === 'plain') opened(viewer, null);
        rest.copy(chunk);
        receive(0, rest.length);
        return true;
      },
    };
    const socket = connect({ host: '127.0.0.1', port: target.port, onread });
    const receive = listen(viewer, socket, (closed) => {
      code = closed;
      socket.end();
    });
    viewer.socket = socket;
    socket.on('error', () => undefined);
    socket.once('connect', () => socket.write(requestOf(target, viewer, resume)));
    socket.once('close', () => {
      if (viewer.socket !== socket) return;
      if (viewer.state === 'open') open -= 1;
      viewer.state = 'closed';
      viewer.socket = null;
      events.ended?.(viewer, status, code);
    });
  }

  const crowd: Crowd = {
    viewers,
    tally,
    latency: createHistogram(),
    open: () => open,
    add(tokens) {
      const added = tokens.map((token, index): CrowdViewer => {
        const id = viewers.length + index;
        return { id, next: 0, epoch: null, state: 'closed', socket: null, token, beganAt: 0, tries: 0, replayTo: 0 };
      });
      viewers.push(...added);
      return added;
    },
    shrink(left) {
      for (const viewer of viewers.splice(left)) viewer.socket?.resetAndDestroy();
    },
    connect: connectOne,
    cut: (viewer) => viewer.socket?.resetAndDestroy(),
    send: (viewer, text) => void viewer.socket?.write(clientFrame(text)),
    pause(viewer) {
      viewer.replayTo = Number.POSITIVE_INFINITY;
      viewer.socket?.pause();
    },
    resume(viewer) {
      viewer.replayTo = lastWanted;
      viewer.socket?.resume();
    },
  };
  return crowd;
}
