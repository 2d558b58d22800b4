/**
 * One client of the embedded broker, from its socket to its end.
 *
 * States: waiting (for CONNECT) -> checking (its credentials) -> open -> closed; a table of one direction, nothing goes back.
 * Guarantees: nothing but a checked, authenticated client's whole packets reach the library; at most a window of messages is
 * on its way, and the socket is not read beyond it, nor while the client does not read its answers; every end is told once.
 */
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { LIMITS } from '@tocsin/protocol/limits';
import { type ConnackCode, type Connect, libraryConnect, readConnect, refusingConnack } from './embedded-connect.ts';
import type { MqttHolder } from './embedded-credentials.ts';
import { createFlow, type Flow } from './embedded-flow.ts';
import type { EmbeddedOptions, EndReason, RefusedConnect } from './embedded-options.ts';
import {
  checkControl,
  encodePacket,
  PacketFault,
  PacketSplitter,
  type PublishHead,
  type RawPacket,
  readPublish,
  TYPE,
} from './embedded-packets.ts';
import { PacketStream } from './embedded-stream.ts';

/** What a message becomes that is acknowledged and nothing more; no client can send on it. */
export const DROPPED_TOPIC = '$dropped';
/** Answers that may wait for a client that does not read, bytes. */
const UNREAD_MOST = 16_384;
/** Packets that are no PUBLISH: so many at once, so many a second. */
const CONTROL_BURST = 200;
const CONTROL_RATE = 20;
/** How long a client has to read the last answer, ms. */
const LINGER_MS = 500;
/** One and a half times the keep-alive (section 3.1.2.10), ms for each second of it. */
const KEEP_ALIVE_MS = 1500;
/** How long they may wait, ms. */
const UNREAD_MS = 10_000;

type State =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'checking' }
  | { readonly kind: 'opening'; readonly connect: Connect; readonly holder: MqttHolder; readonly stream: PacketStream }
  | { readonly kind: 'open'; readonly connect: Connect; readonly holder: MqttHolder; readonly stream: PacketStream }
  | { readonly kind: 'closed' };

/** What an open connection said of itself, and in whose name it speaks. */
export interface Speaker {
  readonly connect: Connect;
  readonly holder: MqttHolder;
}

/** Where it comes from. */
export interface ConnectionPeer {
  readonly name: string;
  readonly address: string;
  readonly key: string | null;
  /** Monotonic ms. */
  readonly at: number;
}

/** What connections are given, and tell. */
export interface ConnectionHome {
  readonly options: Pick<EmbeddedOptions, 'take' | 'clock' | 'metrics'>;
  /** The device that a topic names; null: the topic is none of ours. */
  deviceOf(topic: string): string | null;
  /** Bytes of messages that are not whole yet, or have no verdict yet, of all connections. */
  readonly memory: { held: number };
  /** Decides about a CONNECT; never rejects. */
  admit(
    connection: Connection,
    connect: Connect,
  ): Promise<MqttHolder | { readonly code: ConnackCode; readonly reason: RefusedConnect }>;
  /** Gives the stream to the library. */
  open(connection: Connection, stream: PacketStream): void;
  /** The library has let it in. */
  opened(connection: Connection, who: Speaker): void;
  /** It ended before it was open. */
  refused(connection: Connection, reason: RefusedConnect): void;
  ended(connection: Connection, who: Speaker, reason: EndReason): void;
}

/** Above so many bytes of messages, of all connections, each has one on its way at most, and a large one that is not whole is cut. */
export const HELD_MOST = 134_217_728;
/** So much of a message that is not whole yet is kept in any case. */
const ALWAYS_KEPT = 16_384;
/** QoS 2: identifiers that are remembered. */
const RECEIVED_MOST = 64;

/** A connection. */
export class Connection {
  readonly id: string = randomUUID();
  /** The name of its socket among those that are open. */
  readonly peer: string;
  readonly address: string;
  /** What limits count the address by; null: many are behind it. */
  readonly addressKey: string | null;
  /** When its first byte could come, monotonic ms. */
  readonly beganAt: number;
  readonly #socket: Socket;
  readonly #home: ConnectionHome;
  readonly #splitter = new PacketSplitter();
  readonly #flow: Flow;
  /** QoS 2: what was taken and not released yet, as far as it is remembered. */
  readonly #received = new Set<number>();
  /** QoS 2: releases that the client owes. */
  #owed = 0;
  #state: State = { kind: 'waiting' };
  #outstanding = 0;
  #held = 0;
  #heardAt: number;
  #control = CONTROL_BURST;
  #controlAt: number;
  #inputEnded = false;
  #saidGoodbye = false;
  #draining = false;
  #pumping = false;
  #refusal: RefusedConnect = 'abandoned';
  /** Since when its answers wait for it, ms; null while they do not. */
  #unreadSince: number | null = null;

  constructor(socket: Socket, { name, address, key, at }: ConnectionPeer, home: ConnectionHome) {
    const { clock, take } = home.options;
    this.#socket = socket;
    this.#home = home;
    this.peer = name;
    this.address = address;
    this.addressKey = key;
    this.beganAt = at;
    this.#heardAt = this.beganAt;
    this.#controlAt = this.beganAt;
    this.#flow = createFlow({
      take,
      clock,
      kept: (bytes) => void (home.memory.held += bytes),
      cut: () => this.close(this.#draining ? 'end' : 'store'),
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.close('lost'));
    socket.on('end', () => {
      this.#inputEnded = true;
      this.#pump();
    });
    socket.on('data', (chunk: Buffer) => {
      this.#splitter.feed(chunk);
      this.#pump();
    });
  }

  /** Who speaks; null while it is not open. */
  get speaker(): Speaker | null {
    return this.#state.kind === 'open' ? this.#state : null;
  }

  /** The library has answered its CONNECT. */
  opened(): void {
    if (this.#state.kind !== 'opening') return;
    const open = { ...this.#state, kind: 'open' } as const;
    this.#state = open;
    this.#home.opened(this, open);
    this.#pump();
  }

  /** A message that the library asks about; `answer` lets it acknowledge. */
  accept(topic: string, payload: Buffer, qos: 0 | 1 | 2, answer: () => void): void {
    const done = (): void => {
      this.#outstanding -= 1;
      if (this.#state.kind === 'closed') return;
      answer();
      if (this.#saidGoodbye && this.#outstanding === 0) this.close('disconnect');
      else this.#pump();
    };
    const deviceId = topic === DROPPED_TOPIC ? null : this.#home.deviceOf(topic);
    if (deviceId === null) this.#flow.pass(done);
    else this.#flow.accept(deviceId, { topic, payload, traceparent: null }, qos, done);
  }

  /** QoS 2: it was taken, and waits for its release. What is not remembered is taken anew when it comes again, and is a replay. */
  remember(messageId: number): void {
    if (this.#received.size < RECEIVED_MOST) this.#received.add(messageId);
  }

  /** QoS 2: it was released. */
  forget(messageId: number): void {
    this.#received.delete(messageId);
  }

  /** Time has passed. */
  upkeep(now: number): void {
    if (this.#state.kind === 'closed') return;
    if (this.#state.kind !== 'open') {
      if (now - this.beganAt >= LIMITS.mqttConnectMs.value) this.#refuse('timeout', null);
      return;
    }
    this.#unreadSince = this.#unread() < UNREAD_MOST ? null : (this.#unreadSince ?? now);
    if (this.#unreadSince !== null && now - this.#unreadSince > UNREAD_MS) return this.close('slow');
    // While we do not read we cannot know whether it speaks; how long that lasts is bounded.
    if (this.#socket.isPaused()) this.#heardAt = now;
    const patience = this.#state.connect.keepAliveSeconds * KEEP_ALIVE_MS;
    if (now - this.#heardAt > patience) this.close('keep-alive');
  }

  /** Takes nothing new; resolves when what was on its way has ended and the client was let go. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#flow.stop();
    if (this.#state.kind !== 'open') return this.close('end');
    await this.#flow.idle();
    // The library writes its answers within this turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    this.close('end');
  }

  /** Ends it: what was written still goes out, within half a second. */
  close(reason: EndReason): void {
    const before = this.#state;
    if (before.kind === 'closed') return;
    this.#state = { kind: 'closed' };
    this.#home.memory.held -= this.#held;
    this.#held = 0;
    this.#flow.deaf();
    if (reason === 'end' || reason === 'disconnect') letGo(this.#socket);
    else this.#socket.destroy();
    if (before.kind === 'open' || before.kind === 'opening') before.stream.destroy();
    if (before.kind === 'open') this.#home.ended(this, before, reason);
    else this.#home.refused(this, this.#refusal);
  }

  #refuse(reason: RefusedConnect, code: ConnackCode | null): void {
    this.#refusal = reason;
    if (code !== null && this.#socket.writable) {
      this.#socket.write(refusingConnack(code));
      this.close('disconnect');
    } else this.close('malformed');
  }

  #pump(): void {
    // The library answers some packets while it is given them.
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      this.#hand();
    } catch (error) {
      if (!(error instanceof PacketFault)) throw error;
      if (this.#state.kind === 'open') this.close(error.reason);
      else this.#refuse(error.reason, null);
    } finally {
      this.#pumping = false;
    }
  }

  /** Hands over what has come, for as long as there is room. */
  #hand(): void {
    while (this.#ready()) {
      const packet = this.#splitter.next();
      if (packet === null) {
        this.#keep(this.#splitter.held);
        if (this.#inputEnded) this.#finish();
        else if (this.#socket.isPaused()) this.#socket.resume();
        return;
      }
      this.#keep(0);
      if (this.#state.kind === 'waiting') this.#begin(packet);
      else if (this.#state.kind === 'open') this.#packet(packet, this.#state);
    }
    if (this.#state.kind !== 'closed' && !this.#socket.isPaused()) this.#socket.pause();
  }

  #ready(): boolean {
    if (this.#state.kind === 'waiting') return true;
    if (this.#state.kind !== 'open' || this.#draining || this.#saidGoodbye) return false;
    // Without room for more, each connection still has one message on its way.
    if (this.#outstanding > 0 && this.#home.memory.held >= HELD_MOST) return false;
    return this.#outstanding < LIMITS.mqttInFlight.value && this.#unread() < UNREAD_MOST;
  }

  /** Bytes of answers that the client has not taken. */
  #unread(): number {
    return this.#state.kind === 'open' ? this.#state.stream.writableLength : 0;
  }

  /** The client has closed its direction. */
  #finish(): void {
    if (this.#state.kind === 'open' && this.#outstanding > 0) return;
    this.close('lost');
  }

  #keep(bytes: number): void {
    const { memory } = this.#home;
    memory.held += bytes - this.#held;
    this.#held = bytes;
    // Not its fault, but somebody's message must go: a large one, so that many large ones do not keep small ones out.
    if (memory.held > HELD_MOST && bytes > ALWAYS_KEPT) this.close('store');
  }

  #begin({ body }: RawPacket): void {
    const connect = readConnect(body);
    if (typeof connect === 'number') return this.#refuse(connect === 1 ? 'protocol' : 'client-id', connect);
    this.#state = { kind: 'checking' };
    void this.#admit(connect);
  }

  async #admit(connect: Connect): Promise<void> {
    const outcome = await this.#home.admit(this, connect);
    if (this.#state.kind !== 'checking') return;
    if ('code' in outcome) return this.#refuse(outcome.reason, outcome.code);
    const stream = new PacketStream(this.#socket, () => this.close('lost'));
    stream.on('drain', () => this.#pump());
    this.#socket.on('drain', () => this.#pump());
    this.#state = { kind: 'opening', connect, holder: outcome, stream };
    this.#splitter.connected();
    this.#heardAt = this.#home.options.clock.monotonic();
    this.#home.open(this, stream);
    stream.push(libraryConnect(this.id));
  }

  #packet(packet: RawPacket, { stream, holder }: State & { kind: 'open' }): void {
    this.#heardAt = this.#home.options.clock.monotonic();
    const { type, flags, body } = packet;
    if (type === TYPE.publish) return this.#publish(packet, readPublish(packet), stream, holder);
    checkControl(packet);
    // Of QoS 2 every message has its release: these are paced as messages are.
    if (type === TYPE.pubrel && this.#owed > 0) this.#owed -= 1;
    else if (this.#floods()) return this.close('flood');
    // We send nothing that a client would have to acknowledge.
    if (type === TYPE.puback || type === TYPE.pubrec || type === TYPE.pubcomp) return;
    if (type === TYPE.disconnect) {
      this.#saidGoodbye = true;
      if (this.#outstanding === 0) this.close('disconnect');
      return;
    }
    stream.push(encodePacket(type, flags, body));
  }

  #publish(packet: RawPacket, { topic, qos, messageId }: PublishHead, stream: PacketStream, holder: MqttHolder): void {
    const { metrics } = this.#home.options;
    const deviceId = this.#home.deviceOf(topic);
    let fine = false;
    if (deviceId === null) metrics.rejected('not-found', null);
    else if (holder.kind === 'device' && holder.deviceId !== deviceId) metrics.rejected('device-mismatch', deviceId);
    else if (packet.skipped) metrics.rejected('body-too-large', deviceId);
    // QoS 2: it was received before, and waits for its release.
    else fine = !(qos === 2 && this.#received.has(messageId));
    if (!fine && qos === 0) return;
    this.#outstanding += 1;
    if (qos === 2) this.#owed += 1;
    stream.push(fine ? encodePacket(TYPE.publish, packet.flags, packet.body) : droppedPublish(qos, messageId));
  }

  #floods(): boolean {
    const now = this.#home.options.clock.monotonic();
    this.#control = Math.min(CONTROL_BURST, this.#control + ((now - this.#controlAt) / 1000) * CONTROL_RATE) - 1;
    this.#controlAt = now;
    return this.#control < 0;
  }
}

/** A PUBLISH that the library only acknowledges. */
function droppedPublish(qos: 0 | 1 | 2, messageId: number): Buffer {
  const topic = Buffer.from(DROPPED_TOPIC, 'latin1');
  const body = [Buffer.from([0, topic.length]), topic, Buffer.from([messageId >> 8, messageId & 0xff])];
  return encodePacket(TYPE.publish, qos << 1, Buffer.concat(body));
}

/** Sends what was written and closes; who does not take that in time is cut. */
function letGo(socket: Socket): void {
  socket.end();
  socket.resume();
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}
