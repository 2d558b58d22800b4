/**
 * A WebSocket client without rules: writes any bytes after (or instead of) a handshake, and reads the frames that come
 * back, by RFC 6455 section 5.2 alone. For tests of what a server does with peers that mean harm.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { handshakeText } from './contract-viewer.ts';

/** A frame as it came. */
export interface RawFrame {
  readonly fin: boolean;
  readonly rsv: number;
  readonly opcode: number;
  readonly payload: Buffer;
}

/** A message of the protocol, parsed. */
export interface RawMessage {
  readonly type: string;
  readonly [member: string]: unknown;
}

/** What a frame that is written looks like; whatever is absent is as it should be. */
export interface FrameShape {
  readonly fin?: boolean;
  /** RSV1 is 4, RSV2 is 2, RSV3 is 1. */
  readonly rsv?: number;
  readonly opcode?: number;
  readonly masked?: boolean;
  /** The length that the header claims. */
  readonly claims?: number | bigint;
  /** In how many bytes the header says the length, 1, 2 or 8; the shortest when absent. */
  readonly lengthBytes?: 1 | 2 | 8;
}

/** A connection. */
export interface RawWebSocket {
  readonly socket: Socket;
  /** Of the answer to the handshake. */
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** What came before the upgrade, of an answer that is none. */
  readonly body: string;
  /** Everything that came after the handshake. */
  readonly frames: readonly RawFrame[];
  /** True when what came after the handshake is not a row of whole frames, unmasked and without extension bits. */
  broken(): boolean;
  write(bytes: Buffer | string): void;
  /** Texts of whole text frames, parsed. */
  messages(): readonly RawMessage[];
  /** Waits until `test` holds, looking at every change; rejects after `timeoutMs`, or when the connection ended. */
  until(test: () => boolean, timeoutMs?: number): Promise<void>;
  /** The code of the server's close frame; null when it ended without one. Waits for it, or for the end. */
  closeCode(timeoutMs?: number): Promise<number | null>;
  /** Resolves once the connection is gone. */
  readonly ended: Promise<void>;
}

/** How it is opened. */
export interface RawOptions {
  readonly target?: string;
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** The whole request instead of one made of target and headers. */
  readonly request?: string | Buffer;
  /** Bytes right behind the request, in the same write. */
  readonly behind?: Buffer;
  /** Trusts this certificate and speaks TLS. */
  readonly ca?: string | Buffer;
}

const PATIENCE_MS = 15_000;
const MASK = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);

/** Builds a frame; a client's, so masked unless it says otherwise. */
export function frameOf(payload: Buffer | string, shape: FrameShape = {}): Buffer {
  const { fin = true, rsv = 0, opcode = 1, masked = true } = shape;
  const bytes = Buffer.from(payload);
  const claims = BigInt(shape.claims ?? bytes.length);
  const lengthBytes = shape.lengthBytes ?? (claims < 126n ? 1 : claims < 65_536n ? 2 : 8);
  const head = Buffer.alloc(lengthBytes === 1 ? 2 : 2 + lengthBytes);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const mark = lengthBytes === 1 ? Number(claims) : lengthBytes === 2 ? 126 : 127;
  head[1] = (masked ? 0x80 : 0) | mark;
  if (lengthBytes === 2) head.writeUInt16BE(Number(claims), 2);
  if (lengthBytes === 8) head.writeBigUInt64BE(claims, 2);
  if (!masked) return Buffer.concat([head, bytes]);
  return Buffer.concat([head, MASK, bytes.map((byte, i) => byte ^ (MASK[i % 4] ?? 0))]);
}

/** A close frame with this code and reason. */
export function closeFrame(code: number, reason: Buffer | string = ''): Buffer {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return frameOf(Buffer.concat([payload, Buffer.from(reason)]), { opcode: 8 });
}

/** The whole frame at the front, and how many bytes it takes; null when it is not there yet. */
function readFrame(
  bytes: Buffer,
): { readonly frame: RawFrame; readonly size: number; readonly masked: boolean } | null {
  if (bytes.length < 2) return null;
  const [first = 0, second = 0] = bytes;
  const mark = second & 127;
  const at = mark === 126 ? 4 : mark === 127 ? 10 : 2;
  if (bytes.length < at) return null;
  const length = mark === 126 ? bytes.readUInt16BE(2) : mark === 127 ? Number(bytes.readBigUInt64BE(2)) : mark;
  if (bytes.length < at + length) return null;
  const frame = {
    fin: first >= 128,
    rsv: (first >> 4) & 7,
    opcode: first & 15,
    payload: bytes.subarray(at, at + length),
  };
  return { frame, size: at + length, masked: second >= 128 };
}

function openSocket(base: string, ca: string | Buffer | undefined): Promise<Socket> {
  const { hostname: host, port: digits } = new URL(base);
  const port = Number(digits);
  return new Promise((resolve, reject) => {
    const socket: Socket =
      ca === undefined
        ? connectTcp({ host, port }, () => resolve(socket))
        : connectTls({ host, port, ca }, () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Connects, writes the handshake and waits for its answer, or for the end without one (status 0). */
export async function openRawWebSocket(base: string, options: RawOptions = {}): Promise<RawWebSocket> {
  const { target = '/ws/alerts', headers = {}, request = handshakeText(target, headers), behind } = options;
  const socket = await openSocket(base, options.ca);
  socket.on('error', () => undefined);
  const frames: RawFrame[] = [];
  const messages: RawMessage[] = [];
  const wakers = new Set<() => void>();
  let head: { status: number; headers: Record<string, string> } | null = null;
  let rest = Buffer.alloc(0);
  let strange = false;
  let over = false;

  const stir = (): void => {
    for (const wake of wakers) wake();
  };
  const take = (): void => {
    if (head === null) {
      const end = rest.indexOf('\r\n\r\n');
      if (end === -1) return;
      head = readHead(rest.toString('latin1', 0, end));
      rest = rest.subarray(end + 4);
    }
    if (head.status !== 101) return;
    for (let found = readFrame(rest); found !== null; found = readFrame(rest)) {
      frames.push(found.frame);
      if (found.frame.opcode === 1) messages.push(JSON.parse(found.frame.payload.toString('utf8')) as RawMessage);
      if (found.masked || found.frame.rsv !== 0) strange = true;
      rest = rest.subarray(found.size);
    }
  };
  const ended = new Promise<void>((resolve) => {
    socket.once('close', () => {
      over = true;
      stir();
      resolve();
    });
  });
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    take();
    stir();
  });
  const until = (test: () => boolean, timeoutMs = PATIENCE_MS): Promise<void> =>
    new Promise((resolve, reject) => {
      const finish = (error?: Error): void => {
        clearTimeout(timer);
        wakers.delete(look);
        if (error === undefined) resolve();
        else reject(error);
      };
      const look = (): void => {
        if (test()) finish();
        else if (over) finish(new Error('the connection ended before'));
      };
      const timer = setTimeout(() => finish(new Error(`not within ${timeoutMs} ms`)), timeoutMs);
      wakers.add(look);
      look();
    });
  const close = (): RawFrame | undefined => frames.find(({ opcode }) => opcode === 8);

  socket.write(Buffer.concat([Buffer.from(request), behind ?? Buffer.alloc(0)]));
  await until(
    () =>
      over || (head !== null && (head.status === 101 || rest.length >= Number(head.headers['content-length'] ?? 0))),
  );
  const answered = head as { status: number; headers: Record<string, string> } | null;
  return {
    socket,
    status: answered?.status ?? 0,
    headers: answered?.headers ?? {},
    body: answered?.status === 101 ? '' : rest.toString('utf8'),
    frames,
    broken: () => strange || (over && rest.length > 0),
    write: (bytes) => void socket.write(bytes),
    messages: () => messages,
    until,
    async closeCode(timeoutMs) {
      await until(() => over || close() !== undefined, timeoutMs);
      const frame = close();
      return frame === undefined || frame.payload.length < 2 ? null : frame.payload.readUInt16BE(0);
    },
    ended,
  };
}

function readHead(text: string): { status: number; headers: Record<string, string> } {
  const [first = '', ...lines] = text.split('\r\n');
  const pairs = lines.map((line): [string, string] => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  return { status: Number(first.split(' ')[1]), headers: Object.fromEntries(pairs) };
}
