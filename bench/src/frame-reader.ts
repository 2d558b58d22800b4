/**
 * Reads what a server sends on a WebSocket, as cheaply as a receiver of half a million messages a second must: of a
 * message of the channel only its offset is looked at, everything else is handed over whole.
 *
 * Guarantees: whole, unmasked, unfragmented frames (all that the servers measured here send); a frame that a chunk cuts in
 * two is joined. The chunk may be used again as soon as `read` returns.
 */

/** The monotonic clock of the machine in ms: the same in every process. */
export const monotonicMs: () => number = (() => {
  const shift = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  return () => performance.now() + shift;
})();

/** Who hears of frames. */
export interface FrameListener {
  /** A message of the channel. `text`: its JSON, only while `wants(offset)` said yes. */
  message(offset: number, text: string | null): void;
  /** True when the whole text of this message is wanted. */
  wants(offset: number): boolean;
  /** Any other text. */
  text(text: string): void;
  /** A ping, a close (`code`), or something that was not expected. */
  control(kind: 'ping' | 'close' | 'other', code: number): void;
}

/** The reader of one connection. */
export interface FrameReader {
  /** The next bytes from the socket. */
  read(chunk: Buffer, from: number, to: number): void;
}

/** `{"type":"alert","offset":`, and the longer form of `alert-update`: where the digits begin. */
const ALERT_DIGITS = 25;
const UPDATE_DIGITS = 32;
/** Digits of an offset, with what stands before them. */
const PEEK = 56;
const A = 0x61;
const L = 0x6c;
const QUOTE = 0x22;
const ZERO = 0x30;
const TWO = 0x32;
const NINE = 0x39;
const TEXT = 1;
const CLOSE = 8;
const PING = 9;

/** Creates a reader. `shift`: characters before the JSON of a message (Socket.IO has some). */
export function createFrameReader(listener: FrameListener, shift: number): FrameReader {
  let skip = 0;
  let carry: Buffer | null = null;

  function offsetAt(chunk: Buffer, payload: number, length: number): number {
    if (length < shift + UPDATE_DIGITS) return -1;
    const start = payload + shift;
    // Socket.IO: `42[` is an event; its hellos hold ids that may look like anything.
    if (shift > 0 && chunk[payload + 1] !== TWO) return -1;
    // `{"type":"a`: only alerts begin like this (`authenticated` has a `u` behind it).
    if (chunk[start + 9] !== A || chunk[start + 10] !== L) return -1;
    let at = start + (chunk[start + 14] === QUOTE ? ALERT_DIGITS : UPDATE_DIGITS);
    let offset = 0;
    for (let digit = chunk[at] ?? 0; digit >= ZERO && digit <= NINE; digit = chunk[at] ?? 0) {
      offset = offset * 10 + digit - ZERO;
      at += 1;
    }
    return offset;
  }

  /** Reads the frame at `from`; answers where the next begins, or -1 when it is not there yet. */
  function frame(chunk: Buffer, from: number, to: number): number {
    if (to - from < 2) return -1;
    const opcode = (chunk[from] ?? 0) & 0x0f;
    let length = chunk[from + 1] ?? 0;
    let payload = from + 2;
    if (length === 126) {
      if (to - from < 4) return -1;
      length = chunk.readUInt16BE(from + 2);
      payload = from + 4;
    } else if (length === 127) {
      if (to - from < 10) return -1;
      length = Number(chunk.readBigUInt64BE(from + 2));
      payload = from + 10;
    }
    const end = payload + length;
    if (opcode === TEXT && to - payload >= Math.min(length, PEEK)) {
      const offset = offsetAt(chunk, payload, length);
      if (offset >= 0) {
        if (!listener.wants(offset)) listener.message(offset, null);
        else if (end > to) return -1;
        else listener.message(offset, chunk.toString('latin1', payload + shift, end));
        if (end > to) skip = end - to;
        return Math.min(end, to);
      }
    }
    if (end > to) return -1;
    if (opcode === TEXT) listener.text(chunk.toString('utf8', payload, end));
    else if (opcode === PING) listener.control('ping', 0);
    else if (opcode === CLOSE) listener.control('close', length >= 2 ? chunk.readUInt16BE(payload) : 1005);
    else listener.control('other', opcode);
    return end;
  }

  function read(chunk: Buffer, from: number, to: number): void {
    if (carry !== null) {
      const joined = Buffer.concat([carry, chunk.subarray(from, to)]);
      carry = null;
      return read(joined, 0, joined.length);
    }
    let at = from;
    if (skip > 0) {
      const passed = Math.min(skip, to - from);
      skip -= passed;
      at += passed;
    }
    while (at < to) {
      const next = frame(chunk, at, to);
      if (next < 0) {
        carry = Buffer.from(chunk.subarray(at, to));
        return;
      }
      at = next;
    }
  }
  return { read };
}

/** A client's text frame. The mask is zero: the bytes need no changing, and any server takes it. */
export function clientFrame(text: string, opcode: number = TEXT): Buffer {
  const payload = Buffer.from(text);
  if (payload.length > 0xffff) throw new RangeError('a longer frame is not needed here');
  const short = payload.length < 126;
  const head = short
    ? Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0])
    : Buffer.from([0x80 | opcode, 0x80 | 126, payload.length >> 8, payload.length & 0xff, 0, 0, 0, 0]);
  return Buffer.concat([head, payload]);
}
