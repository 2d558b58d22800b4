/**
 * Keeps packets that are too large out of a stream of MQTT, before anybody puts them together: the library buffers a packet
 * of any length that the broker announces (up to 256 MiB), and a connection that ended for it would get it again for ever.
 *
 * Guarantee: a PUBLISH of more than `most` bytes becomes one with the same topic, QoS and packet id, no payload, and the
 * retain flag: nothing else looks so (a retained message without payload is none). Everything else passes as it is.
 * Bounds: at most the topic (64 KiB) of one packet is kept.
 * Failure: a packet of another kind that is too large, or one that has no length, is not MQTT: null. Pure.
 */
import type { MqttVersion } from './link-version.ts';

/** Takes the next bytes of the stream; answers what is to be passed on, null when it cannot be. */
export type FrameFilter = (chunk: Buffer) => readonly Buffer[] | null;

/** The length of a packet has at most so many bytes (MQTT 3.1.1 section 2.2.3). */
const LENGTH_BYTES_MOST = 4;
const PUBLISH = 3;
const RETAIN = 1;

/** A PUBLISH that is being cut: what is left of it, and what of its beginning is here. */
interface Cut {
  readonly first: number;
  left: number;
  start: Buffer;
}

/** Filters packets of more than `most` bytes after their fixed header. */
export function createFrameFilter(most: number, version: MqttVersion): FrameFilter {
  /** Of the packet that is being passed. */
  let left = 0;
  let cut: Cut | null = null;
  /** A header whose end has not come yet. */
  let header: Buffer = Buffer.alloc(0);
  return (chunk) => {
    const parts: Buffer[] = [];
    /** What comes from here on is not passed yet. */
    let from = 0;
    let at = 0;
    while (at < chunk.length) {
      if (cut !== null) {
        const step = Math.min(cut.left, chunk.length - at);
        if (!cutMore(cut, chunk.subarray(at, at + step), version, parts)) return null;
        at += step;
        from = at;
        if (cut.left === 0) cut = null;
        continue;
      }
      if (left > 0) {
        const step = Math.min(left, chunk.length - at);
        at += step;
        left -= step;
        continue;
      }
      const known = header.length;
      const read = readHeader(
        known === 0
          ? chunk.subarray(at, at + 1 + LENGTH_BYTES_MOST)
          : Buffer.concat([header, chunk.subarray(at, at + 1 + LENGTH_BYTES_MOST)]),
      );
      if (read === null) return null;
      if (read === 'more') {
        if (at > from) parts.push(chunk.subarray(from, at));
        header = Buffer.concat([header, chunk.subarray(at)]);
        return parts;
      }
      const begun = at;
      at += read.bytes - known;
      if (read.length <= most) {
        if (known > 0) parts.push(header);
        left = read.length;
      } else {
        if (read.first >> 4 !== PUBLISH) return null;
        if (begun > from) parts.push(chunk.subarray(from, begun));
        from = at;
        cut = { first: read.first, left: read.length, start: Buffer.alloc(0) };
      }
      header = Buffer.alloc(0);
    }
    if (at > from) parts.push(chunk.subarray(from, at));
    return parts;
  };
}

interface Header {
  readonly first: number;
  readonly length: number;
  /** Of the header itself. */
  readonly bytes: number;
}

function readHeader(bytes: Buffer): Header | 'more' | null {
  let length = 0;
  for (let digit = 0; digit < LENGTH_BYTES_MOST; digit += 1) {
    const byte = bytes[1 + digit];
    if (byte === undefined) return 'more';
    length += (byte & 0x7f) * 128 ** digit;
    if ((byte & 0x80) === 0) return { first: bytes[0] ?? 0, length, bytes: 2 + digit };
  }
  return null;
}

/** Takes more of a packet that is too large; false when it is none. */
function cutMore(cut: Cut, bytes: Buffer, version: MqttVersion, parts: Buffer[]): boolean {
  cut.left -= bytes.length;
  const idBytes = (cut.first & 0x06) === 0 ? 0 : 2;
  const needed = (): number => (cut.start.length < 2 ? 2 : 2 + cut.start.readUInt16BE(0) + idBytes);
  const before = cut.start.length;
  if (before >= 2 && before >= needed()) return true;
  cut.start = Buffer.concat([cut.start, bytes.subarray(0, 2 + 0xffff + idBytes - before)]);
  const whole = needed();
  if (cut.start.length < Math.max(2, whole)) return cut.left > 0;
  cut.start = cut.start.subarray(0, whole);
  const rest = version === 5 ? Buffer.from([0]) : Buffer.alloc(0);
  const length = whole + rest.length;
  const digits: number[] = [];
  for (let value = length; digits.length === 0 || value > 0; value = Math.floor(value / 128)) {
    digits.push((value % 128) + (value >= 128 ? 128 : 0));
  }
  parts.push(Buffer.concat([Buffer.from([cut.first | RETAIN, ...digits]), cut.start, rest]));
  return true;
}
