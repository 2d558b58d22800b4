/**
 * Bytes of a client to whole packets of MQTT 3.1.1, bounded and strictly checked, before anything else sees them.
 *
 * Why beside the library's own parser: that one (mqtt-packet 9.0.2) keeps whatever length a header claims, up to 256 MB, hands
 * over all packets of a chunk at once, and lets pass what the standard forbids (the identifier 0, texts that are no UTF-8).
 * Guarantees: a length over its bound is refused at the header, before a byte of the body is kept; what was received of a body
 * is kept once, in at most twice its size; a PUBLISH that is only too large to be taken is passed by without being kept.
 * Failure: {@link PacketFault}; the connection cannot go on.
 */
import { LIMITS } from '@tocsin/protocol/limits';

/** Types of packets (MQTT 3.1.1 table 2.1) that a client may send. */
export const TYPE = {
  connect: 1,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  unsubscribe: 10,
  pingreq: 12,
  disconnect: 14,
} as const;

/** The peer broke the protocol, or a bound of ours; `reason` is a metric's label. */
export class PacketFault extends Error {
  override readonly name = 'PacketFault';
  readonly reason: 'malformed' | 'too-large';

  constructor(reason: 'malformed' | 'too-large', message: string) {
    super(message);
    this.reason = reason;
  }
}

/** A packet as it was framed. `body` follows the fixed header; of a `skipped` PUBLISH only its beginning is there. */
export interface RawPacket {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
  readonly skipped: boolean;
}

/** The variable header of a PUBLISH, and where its payload begins in the body. */
export interface PublishHead {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  /** 0 with QoS 0. */
  readonly messageId: number;
  readonly payloadAt: number;
}

/** What may be before the payload of a PUBLISH that is taken. */
const HEAD_MOST = 2 + LIMITS.mqttTopicBytes.value + 2;
const PUBLISH_MOST = HEAD_MOST + LIMITS.bodyBytes.value;
const FIRST_BYTES = 4096;
const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const malformed = (message: string): PacketFault => new PacketFault('malformed', message);

/** Cuts a stream of bytes into packets: `feed` what came, then `next` until it answers null. */
export class PacketSplitter {
  readonly #inputs: Buffer[] = [];
  #at = 0;
  /** The first byte of the packet that is being read; -1 between packets. */
  #first = -1;
  #length = 0;
  #lengthBytes = 0;
  #lengthKnown = false;
  /** Of the body: what is wanted, what is here, and what is to be passed by after it. */
  #wanted = 0;
  #body: Buffer | null = null;
  #filled = 0;
  #skip = 0;
  #connected = false;
  /** Bytes of a body that is not whole yet. */
  get held(): number {
    return this.#filled;
  }

  /** From now on other packets than CONNECT are welcome. */
  connected(): void {
    this.#connected = true;
  }

  feed(chunk: Buffer): void {
    if (chunk.length > 0) this.#inputs.push(chunk);
  }

  /** The next whole packet, or null. Throws {@link PacketFault}. */
  next(): RawPacket | null {
    if (!this.#lengthKnown && !this.#readHeader()) return null;
    const body = this.#readBody();
    if (body === null || !this.#passBy()) return null;
    const packet = {
      type: this.#first >> 4,
      flags: this.#first & 0x0f,
      body,
      skipped: this.#length > this.#wanted,
    };
    this.#first = -1;
    this.#length = 0;
    this.#lengthBytes = 0;
    this.#lengthKnown = false;
    this.#body = null;
    this.#filled = 0;
    return packet;
  }

  #readHeader(): boolean {
    for (let byte = this.#readByte(); byte !== -1; byte = this.#readByte()) {
      if (this.#first === -1) {
        this.#first = byte;
        checkFirst(byte, this.#connected);
        continue;
      }
      this.#length += (byte & 0x7f) << (7 * this.#lengthBytes);
      this.#lengthBytes += 1;
      if (byte >= 0x80) {
        if (this.#lengthBytes === 4) throw malformed('the remaining length has no end');
        continue;
      }
      this.#lengthKnown = true;
      this.#wanted = wantedOf(this.#first >> 4, this.#length);
      this.#skip = this.#length - this.#wanted;
      return true;
    }
    return false;
  }

  #readByte(): number {
    const input = this.#inputs[0];
    if (input === undefined) return -1;
    const byte = input[this.#at] ?? -1;
    this.#advance(1);
    return byte;
  }

  #readBody(): Buffer | null {
    const input = this.#inputs[0];
    // Usually the whole packet came at once, and is not copied.
    if (this.#body === null && (input?.length ?? 0) - this.#at >= this.#wanted) {
      const whole = input?.subarray(this.#at, this.#at + this.#wanted) ?? Buffer.alloc(0);
      this.#body = whole;
      this.#filled = this.#wanted;
      this.#advance(this.#wanted);
      return whole;
    }
    while (this.#filled < this.#wanted) {
      const chunk = this.#inputs[0];
      if (chunk === undefined) return null;
      const taken = Math.min(chunk.length - this.#at, this.#wanted - this.#filled);
      this.#body = grown(this.#body, this.#filled, this.#filled + taken, this.#wanted);
      chunk.copy(this.#body, this.#filled, this.#at, this.#at + taken);
      this.#filled += taken;
      this.#advance(taken);
    }
    return this.#body?.subarray(0, this.#wanted) ?? Buffer.alloc(0);
  }

  #passBy(): boolean {
    while (this.#skip > 0) {
      const chunk = this.#inputs[0];
      if (chunk === undefined) return false;
      const taken = Math.min(chunk.length - this.#at, this.#skip);
      this.#skip -= taken;
      this.#advance(taken);
    }
    return true;
  }

  #advance(bytes: number): void {
    this.#at += bytes;
    if (this.#at < (this.#inputs[0]?.length ?? 0)) return;
    this.#inputs.shift();
    this.#at = 0;
  }
}

/** A buffer with room for `needed` of at most `most` bytes, holding the first `filled` of `before`. */
function grown(before: Buffer | null, filled: number, needed: number, most: number): Buffer {
  if (before !== null && before.length >= needed) return before;
  const next = Buffer.allocUnsafeSlow(Math.min(most, Math.max(needed, FIRST_BYTES, 2 * (before?.length ?? 0))));
  before?.copy(next, 0, 0, filled);
  return next;
}

const CLIENT_TYPES: ReadonlySet<number> = new Set(Object.values(TYPE));
/** MQTT 3.1.1 table 2.2: these have the flags 0010, all others but PUBLISH 0000. */
const FLAGGED: ReadonlySet<number> = new Set([TYPE.pubrel, TYPE.subscribe, TYPE.unsubscribe]);

function checkFirst(byte: number, connected: boolean): void {
  const type = byte >> 4;
  const flags = byte & 0x0f;
  if ((type === TYPE.connect) === connected || !CLIENT_TYPES.has(type))
    throw malformed('a packet that does not belong here');
  if (type === TYPE.publish) {
    if ((flags & 0x06) === 0x06) throw malformed('QoS 3');
    if ((flags & 0x0e) === 0x08) throw malformed('a repetition with QoS 0');
  } else if (flags !== (FLAGGED.has(type) ? 2 : 0)) throw malformed('reserved flags');
}

/** How much of a body of `length` bytes is kept; throws where it is over every bound. */
function wantedOf(type: number, length: number): number {
  if (type !== TYPE.publish) {
    if (length > LIMITS.mqttConnectBytes.value) throw new PacketFault('too-large', 'a packet over its bound');
    return length;
  }
  if (length <= PUBLISH_MOST) return length;
  if (length > LIMITS.mqttSkippedBytes.value) throw new PacketFault('too-large', 'a PUBLISH over its bound');
  return HEAD_MOST;
}

/** Reads fields of a body one after the other; throws where the body ends too soon. */
export class FieldReader {
  readonly #body: Buffer;
  at = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  get left(): number {
    return this.#body.length - this.at;
  }

  byte(): number {
    if (this.left < 1) throw malformed('a packet that ends too soon');
    const value = this.#body.readUInt8(this.at);
    this.at += 1;
    return value;
  }

  number(): number {
    if (this.left < 2) throw malformed('a packet that ends too soon');
    const value = this.#body.readUInt16BE(this.at);
    this.at += 2;
    return value;
  }

  bytes(): Buffer {
    const length = this.number();
    if (this.left < length) throw malformed('a packet that ends too soon');
    const value = this.#body.subarray(this.at, this.at + length);
    this.at += length;
    return value;
  }

  /** UTF-8 as MQTT wants it (section 1.5.3): well-formed, without U+0000. */
  text(): string {
    const bytes = this.bytes();
    if (bytes.includes(0)) throw malformed('U+0000 in a text');
    try {
      return text.decode(bytes);
    } catch {
      throw malformed('a text that is not UTF-8');
    }
  }

  messageId(): number {
    const value = this.number();
    if (value === 0) throw malformed('the packet identifier 0');
    return value;
  }
}

/** Reads what a PUBLISH says before its payload. */
export function readPublish({ flags, body, skipped }: RawPacket): PublishHead {
  const fields = new FieldReader(body);
  // A topic that is longer than what was kept of it is too long as well.
  if (skipped && body.readUInt16BE(0) > LIMITS.mqttTopicBytes.value)
    throw new PacketFault('too-large', 'a topic over its bound');
  const topic = fields.text();
  if (topic === '' || /[+#]/.test(topic)) throw malformed('a topic that is none');
  const qos = ((flags >> 1) & 3) as 0 | 1 | 2;
  const messageId = qos === 0 ? 0 : fields.messageId();
  return { topic, qos, messageId, payloadAt: fields.at };
}

/** Checks the form of a packet that is neither CONNECT nor PUBLISH. */
export function checkControl({ type, body }: RawPacket): void {
  const fields = new FieldReader(body);
  if (type === TYPE.pingreq || type === TYPE.disconnect) {
    if (fields.left > 0) throw malformed('a packet with too much in it');
    return;
  }
  fields.messageId();
  if (type === TYPE.subscribe || type === TYPE.unsubscribe) {
    do {
      if (!isFilter(fields.text())) throw malformed('a topic filter that is none');
      if (type === TYPE.subscribe && fields.byte() > 2) throw malformed('a QoS that there is not');
    } while (fields.left > 0);
  } else if (fields.left > 0) throw malformed('a packet with too much in it');
}

/** Most levels of a topic or filter: the library ends connections for more. */
export const LEVELS_MOST = 100;

function isFilter(filter: string): boolean {
  const levels = filter.split('/');
  return (
    filter !== '' &&
    levels.length <= LEVELS_MOST &&
    levels.every((level, at) => !/[+#]/.test(level) || level === '+' || (level === '#' && at === levels.length - 1))
  );
}

/** A packet with its fixed header, as one buffer. */
export function encodePacket(type: number, flags: number, body: Buffer): Buffer {
  const header = [(type << 4) | flags];
  let rest = body.length;
  do {
    header.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from(header), body]);
}
