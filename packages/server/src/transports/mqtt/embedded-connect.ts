/** The CONNECT of a client (MQTT 3.1.1 section 3.1): read, judged, and answered where it is refused. Pure. */
import { LIMITS } from '@tocsin/protocol/limits';
import { encodePacket, FieldReader, PacketFault, TYPE } from './embedded-packets.ts';

/** Return codes of CONNACK (MQTT 3.1.1 table 3.1). */
export const CONNACK = { protocol: 1, identifier: 2, unavailable: 3, credentials: 4, forbidden: 5 } as const;
/** One of them. */
export type ConnackCode = (typeof CONNACK)[keyof typeof CONNACK];

/** What a client says of itself. */
export interface Connect {
  /** '' where the server is to choose one. */
  readonly clientId: string;
  readonly username: string | null;
  readonly password: string | null;
  /** Seconds, within our bounds. */
  readonly keepAliveSeconds: number;
}

const LEVEL = 4;
const FLAG = {
  reserved: 0x01,
  clean: 0x02,
  will: 0x04,
  willQos: 0x18,
  willRetain: 0x20,
  password: 0x40,
  username: 0x80,
};

/** Reads it; a will is read and not kept. Answers the code to refuse it with where it is well-formed but not acceptable. Throws {@link PacketFault}. */
export function readConnect(body: Buffer): Connect | ConnackCode {
  const fields = new FieldReader(body);
  const name = fields.text();
  if (name !== 'MQTT' && name !== 'MQIsdp') throw new PacketFault('malformed', 'another protocol');
  // The rest of another version has another form.
  if (fields.byte() !== LEVEL || name !== 'MQTT') return CONNACK.protocol;
  const flags = fields.byte();
  checkFlags(flags);
  const keepAlive = fields.number();
  const clientId = fields.text();
  if ((flags & FLAG.will) !== 0) {
    fields.text();
    fields.bytes();
  }
  const username = (flags & FLAG.username) === 0 ? null : fields.text();
  const password = (flags & FLAG.password) === 0 ? null : fields.bytes().toString('utf8');
  if (fields.left > 0) throw new PacketFault('malformed', 'a CONNECT with too much in it');
  if (!acceptableId(clientId, (flags & FLAG.clean) !== 0)) return CONNACK.identifier;
  const most = LIMITS.mqttKeepAliveSeconds.value;
  return { clientId, username, password, keepAliveSeconds: keepAlive === 0 ? most : Math.min(keepAlive, most) };
}

function checkFlags(flags: number): void {
  const alone = (flags & FLAG.will) === 0 && (flags & (FLAG.willQos | FLAG.willRetain)) !== 0;
  const qos3 = (flags & FLAG.willQos) === FLAG.willQos;
  // [MQTT-3.1.2-22]: no password without a user name.
  const nameless = (flags & FLAG.username) === 0 && (flags & FLAG.password) !== 0;
  if ((flags & FLAG.reserved) !== 0 || alone || qos3 || nameless)
    throw new PacketFault('malformed', 'flags of CONNECT that contradict one another');
}

function acceptableId(id: string, clean: boolean): boolean {
  if (id === '') return clean;
  return id.length <= LIMITS.mqttClientIdCharacters.value && !/[\p{C}]/u.test(id);
}

/** The CONNACK that refuses. */
export function refusingConnack(code: ConnackCode): Buffer {
  return Buffer.from([0x20, 2, 0, code]);
}

/**
 * The CONNECT that the library gets in the place of the client's: a clean session under a name of ours, without credentials,
 * keep-alive and will. So it keeps nothing of a client beyond its connection, and nobody can take another's session.
 */
export function libraryConnect(id: string): Buffer {
  const name = Buffer.from(id, 'latin1');
  const head = Buffer.from([
    0,
    4,
    0x4d,
    0x51,
    0x54,
    0x54,
    LEVEL,
    FLAG.clean,
    0,
    0,
    name.length >> 8,
    name.length & 0xff,
  ]);
  return encodePacket(TYPE.connect, 0, Buffer.concat([head, name]));
}
