/**
 * The packets of MQTT 3.1.1 (OASIS standard, 29 October 2014) that a client needs who only publishes with QoS 1. Pure.
 *
 * Why not a library: `mqtt` 5.16 takes 17 MB of memory as it is loaded, 29 MB once it has connected with its defaults, more
 * than all the rest of a device together, and an agent may have 60 MB with Node's own 41 (Node 20.20, x64).
 * Guarantee: what is read is bounded; a packet that a broker may not send to such a client is an error, not skipped.
 */

/** What a client says of itself. */
export interface ConnectContent {
  readonly clientId: string;
  readonly keepAliveSeconds: number;
  readonly username?: string;
  /** Only with a user name (MQTT-3.1.2-22). */
  readonly password?: string;
}

/** What a broker says. */
export type BrokerPacket =
  | { readonly kind: 'connected' }
  /** `code`: table 3.1. */
  | { readonly kind: 'refused'; readonly code: number }
  | { readonly kind: 'published'; readonly packetId: number }
  | { readonly kind: 'alive' };

/** Packets that were read, and the bytes of one that is not whole yet. */
export interface PacketsRead {
  readonly packets: readonly BrokerPacket[];
  readonly rest: Buffer;
}

/** The other side does not speak MQTT as it has to. */
export class MqttProtocolError extends Error {
  override readonly name = 'MqttProtocolError';
}

/** The largest packet id. */
export const PACKET_ID_MOST = 65_535;
/** A keep-alive question. */
export const PING: Buffer = Buffer.from([0xc0, 0]);
/** The end of a session in order. */
export const DISCONNECT: Buffer = Buffer.from([0xe0, 0]);

const CONNECT = 0x10;
const CONNACK = 0x20;
/** PUBLISH with QoS 1, not retained. */
const PUBLISH = 0x32;
const PUBACK = 0x40;
const PINGRESP = 0xd0;
const CLEAN_SESSION = 0x02;
const HAS_PASSWORD = 0x40;
const HAS_USERNAME = 0x80;
/** Name and level of the protocol. */
const PROTOCOL: Buffer = Buffer.from([0, 4, ...Buffer.from('MQTT'), 4]);
/** Section 2.2.3: four bytes of seven bits. */
const REMAINING_MOST = 268_435_455;
const TEXT_MOST = 65_535;

/** CONNECT with a clean session. Throws a RangeError for texts over 65,535 bytes. */
export function writeConnect({ clientId, keepAliveSeconds, username, password }: ConnectContent): Buffer {
  const flags =
    CLEAN_SESSION | (username === undefined ? 0 : HAS_USERNAME) | (password === undefined ? 0 : HAS_PASSWORD);
  const texts = [clientId, username, password].flatMap((each) => (each === undefined ? [] : writeText(each)));
  return packet(CONNECT, [PROTOCOL, Buffer.from([flags]), twoBytes(keepAliveSeconds), ...texts]);
}

/** PUBLISH with QoS 1; `packetId` 1 to {@link PACKET_ID_MOST}. Throws a RangeError for what no packet can hold. */
export function writePublish(topic: string, packetId: number, payload: string): Buffer {
  return packet(PUBLISH, [writeText(topic), twoBytes(packetId), Buffer.from(payload, 'utf8')]);
}

function packet(type: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length > REMAINING_MOST) throw new RangeError(`a packet has at most ${REMAINING_MOST} bytes`);
  const head = [type];
  let rest = body.length;
  do {
    head.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from(head), body]);
}

function writeText(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > TEXT_MOST) throw new RangeError(`a text has at most ${TEXT_MOST} bytes`);
  return Buffer.concat([twoBytes(bytes.length), bytes]);
}

function twoBytes(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** Every whole packet of `bytes`, in order. Throws an {@link MqttProtocolError}. */
export function readPackets(bytes: Buffer): PacketsRead {
  const packets: BrokerPacket[] = [];
  let at = 0;
  for (;;) {
    const [type, length] = [bytes[at], bytes[at + 1]];
    if (type === undefined || length === undefined) break;
    const expected = bodyLength(type);
    if (length !== expected) throw new MqttProtocolError(`packet ${type >> 4} of ${length} bytes`);
    const end = at + 2 + length;
    if (end > bytes.length) break;
    packets.push(readBody(type, bytes.subarray(at + 2, end)));
    at = end;
  }
  return { packets, rest: bytes.subarray(at) };
}

/** All that a publisher hears has a length of its own; null for what it must not hear. */
function bodyLength(type: number): number | null {
  if (type === CONNACK || type === PUBACK) return 2;
  return type === PINGRESP ? 0 : null;
}

function readBody(type: number, body: Buffer): BrokerPacket {
  if (type === PINGRESP) return { kind: 'alive' };
  if (type === PUBACK) return { kind: 'published', packetId: body.readUInt16BE() };
  const [, code = 0] = body;
  return code === 0 ? { kind: 'connected' } : { kind: 'refused', code };
}
