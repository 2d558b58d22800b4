/**
 * One connection to a broker of MQTT 3.1.1, from CONNECT to its end: publishes with QoS 1, in the order of calls.
 *
 * Guarantees: every promise settles: connecting, a PUBACK and a keep-alive question have the same time limit, and past it
 * the session ends; at its end all that wait for a PUBACK are answered. A certificate that does not check ends it before
 * anything is said. A broker that breaks the protocol ends it. Nothing is tried again here.
 */
import { connect, type Socket } from 'node:net';
import {
  type BrokerPacket,
  type ConnectContent,
  DISCONNECT,
  MqttProtocolError,
  PACKET_ID_MOST,
  PING,
  readPackets,
  writeConnect,
  writePublish,
} from './mqtt-packets.ts';
import type { TlsFiles } from './http-sender.ts';
import { systemCode } from './device-error.ts';
import type { TimeSource } from './time-source.ts';
import { type FailureReason, failureOf } from './verdict.ts';

/** Where to and as whom. */
export interface SessionOptions extends ConnectContent {
  /** `mqtt:` or `mqtts:`, with host and maybe port. */
  readonly broker: URL;
  readonly tls: TlsFiles;
  /** The longest that connecting, a PUBACK or the answer to a ping may take, ms. */
  readonly timeoutMs: number;
  readonly time: TimeSource;
}

/** Null: it worked. */
export type Outcome = FailureReason | null;

/** A session that begins, is there, or has ended. */
export interface MqttSession {
  /** Once the broker has taken the connection, or why it did not. */
  readonly opened: Promise<Outcome>;
  /** Once it is over. */
  readonly ended: Promise<void>;
  /** Sends a message; resolves with its PUBACK, or why there is none. Only once it is open. */
  publish(topic: string, payload: string): Promise<Outcome>;
  /** Ends it at once; what waits answers `connection-lost`. */
  end(): void;
}

const PORTS: Readonly<Record<string, number>> = { 'mqtt:': 1883, 'mqtts:': 8883 };
/** CONNACK, table 3.1: 3 is a broker that is not ready; the others do not mend by themselves. */
const CONNACK_UNAVAILABLE = 3;
/** How long a goodbye may take, ms. */
const GOODBYE_MS = 500;

/** Opens one. */
export function openSession(options: SessionOptions): MqttSession {
  const { time, timeoutMs, keepAliveSeconds } = options;
  const opened = once<Outcome>();
  const ended = once<void>();
  const acks = createAcknowledgements();
  let socket: Socket | null = null;
  let isOpen = false;
  let over = false;
  let forgetAlive: () => void = () => undefined;
  const finish = (reason: FailureReason, leave: (socket: Socket) => unknown = cut): void => {
    if (over) return;
    if (socket !== null) leave(socket);
    over = true;
    forgetConnecting();
    forgetAlive();
    // First: who is answered below may want the next session at once.
    ended.resolve();
    opened.resolve(reason);
    acks.fail(reason);
  };
  const forgetConnecting = time.after(timeoutMs, () => finish('timeout'));
  /** Asks whether the broker is alive, after half of the time within which it wants to hear from us. */
  const keepAlive = (): void => {
    forgetAlive = time.after(keepAliveSeconds * 500, () => {
      socket?.write(PING);
      forgetAlive = time.after(timeoutMs, () => finish('timeout'));
    });
  };
  const hear = (packet: BrokerPacket): void => {
    if ((packet.kind === 'connected' || packet.kind === 'refused') === isOpen) return finish('connection-lost');
    switch (packet.kind) {
      case 'connected':
        isOpen = true;
        forgetConnecting();
        keepAlive();
        return opened.resolve(null);
      case 'refused':
        return finish(packet.code === CONNACK_UNAVAILABLE ? 'connection-refused' : 'broker-refused');
      case 'published':
        return acks.taken(packet.packetId);
      case 'alive':
        forgetAlive();
        keepAlive();
    }
  };
  const attach = (dialled: Socket): void => {
    if (over) return void dialled.destroy();
    socket = dialled;
    dialled.on('error', (error) => finish(failureOf(systemCode(error))));
    dialled.on('close', () => finish('connection-lost'));
    dialled.on(
      'data',
      createReader(hear, () => finish('connection-lost')),
    );
    const ready = options.broker.protocol === 'mqtts:' ? 'secureConnect' : 'connect';
    dialled.once(ready, () => dialled.write(writeConnect(options)));
  };
  dial(options).then(attach, (error: unknown) => finish(failureOf(systemCode(error))));
  return {
    opened: opened.promise,
    ended: ended.promise,
    publish: (topic, payload) => {
      if (over || !isOpen || socket === null) return Promise.resolve('connection-lost');
      const packetId = acks.nextId();
      socket.write(writePublish(topic, packetId, payload));
      const forget = time.after(timeoutMs, () => finish('timeout'));
      return acks.wait(packetId).finally(forget);
    },
    end: () => finish('connection-lost', isOpen ? (open) => takeLeave(open, time) : cut),
  };
}

function cut(socket: Socket): void {
  socket.destroy();
}

/** Says goodbye to the broker; it is cut when that does not get out. */
function takeLeave(socket: Socket, time: TimeSource): void {
  const forget = time.after(GOODBYE_MS, () => socket.destroy());
  socket.once('close', forget);
  socket.write(DISCONNECT);
  socket.destroySoon();
}

/** TLS is loaded only where it is used: it takes 2 MB. */
async function dial({ broker, tls }: SessionOptions): Promise<Socket> {
  const host = broker.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = broker.port === '' ? (PORTS[broker.protocol] ?? 0) : Number(broker.port);
  if (broker.protocol === 'mqtt:') return connect({ host, port, noDelay: true });
  const { connect: connectSecure } = await import('node:tls');
  return connectSecure({ ...tls, host, port, minVersion: 'TLSv1.2' }).setNoDelay(true);
}

function createReader(hear: (packet: BrokerPacket) => void, broken: () => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    try {
      const read = readPackets(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]));
      rest = Buffer.from(read.rest);
      read.packets.forEach(hear);
    } catch (error) {
      if (!(error instanceof MqttProtocolError)) throw error;
      broken();
    }
  };
}

interface Acknowledgements {
  /** One that nobody waits for. */
  nextId(): number;
  wait(packetId: number): Promise<Outcome>;
  taken(packetId: number): void;
  /** Answers all that wait. */
  fail(reason: FailureReason): void;
}

function createAcknowledgements(): Acknowledgements {
  const waiting = new Map<number, (outcome: Outcome) => void>();
  let last = 0;
  const settle = (packetId: number, outcome: Outcome): void => {
    waiting.get(packetId)?.(outcome);
    waiting.delete(packetId);
  };
  return {
    nextId: () => {
      do last = (last % PACKET_ID_MOST) + 1;
      while (waiting.has(last));
      return last;
    },
    wait: (packetId) => new Promise((resolve) => waiting.set(packetId, resolve)),
    taken: (packetId) => settle(packetId, null),
    fail: (reason) => {
      for (const packetId of waiting.keys()) settle(packetId, reason);
    },
  };
}

function once<Value>(): { readonly promise: Promise<Value>; resolve(value: Value): void } {
  let resolve: (value: Value) => void = () => undefined;
  const promise = new Promise<Value>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
