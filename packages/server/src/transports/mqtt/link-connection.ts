/**
 * One connection to the broker, from CONNECT to its end, over the library `mqtt`; never a second one: the link decides when
 * to connect again.
 *
 * Guarantees: every step ends within its time limit, or the connection does (some calls of the library never settle).
 * PUBACK is sent only for what the window acknowledges, on the connection that brought it, many in one write. The library
 * sends it when `handleMessage` calls back without an error, and takes the next message only then: so we call back at once,
 * with an error, which it does not look at but for that (`link-library.service.test.ts` fails when that changes), and send PUBACK
 * ourselves. While the room is full the callback waits, and with it, over TCP, the broker.
 * Failure: {@link LinkError}; `ended` tells the first one.
 */
import type { Duplex } from 'node:stream';
import { type IClientOptions, type IConnackPacket, type IPublishPacket, MqttClient, type Packet } from 'mqtt';
import { LIMITS } from '@tocsin/protocol/limits';
import { createFrameFilter } from './link-frames.ts';
import { LinkError, linkError } from './link-reason.ts';
import type { Room } from './link-room.ts';
import { type LinkTarget, loginOf, openStream } from './link-stream.ts';
import type { MqttVersion } from './link-version.ts';
import { createWindow, type Window } from './link-window.ts';
import type { TakeMqttMessage } from './message.ts';

/** Messages that may be on their way at once: the receive maximum of MQTT 5, and what the link keeps in memory. */
export const WINDOW_MESSAGES = 1000;
/** Longest packet after its fixed header that is read: a message of 256 KiB, its topic and properties. */
const PACKET_BYTES_MOST = 320 * 1024;
/** The broker keeps our session so long after a connection ended (AWS IoT keeps none for longer), seconds. */
const SESSION_SECONDS = 7 * 86_400;
/** CONNACK: unsupported protocol version, in the words of MQTT 5 and of 3.1.1. */
const VERSION_CODES: readonly number[] = [0x84, 1];
/** CONNACK: bad user name or password, not authorized; in the words of MQTT 5 and of 3.1.1. */
const LOGIN_CODES: readonly number[] = [0x86, 0x87, 4, 5];
/** DISCONNECT: another client with our id. */
const TAKEN_OVER = 0x8e;
const SUBACK_QOS_1 = 1;
const TRACEPARENT_MOST = 64;
const STOPPED = new LinkError('stopped', 'the link has ended the connection');
/** What the library takes for a reason not to send PUBACK itself. */
const ACKNOWLEDGED_LATER = new Error('acknowledged later');

/** Time limits, ms, and how often a silent connection is probed. */
export interface LinkTimes {
  readonly connectMs: number;
  /** Of CONNACK, SUBACK, UNSUBACK, PINGRESP. */
  readonly answerMs: number;
  readonly keepAliveSeconds: number;
  /** Of the question what the broker is, altogether. */
  readonly askMs: number;
  /** Of the end in good order. */
  readonly closeMs: number;
}

/** What a message that came counts as. `oversize`: its payload was too large to be looked at. */
export type ArrivalKind = 'fresh' | 'redelivered' | 'retained' | 'oversize' | 'dropped';

/** How to connect. */
export interface ConnectionOptions {
  readonly target: LinkTarget;
  readonly clientId: string;
  readonly version: MqttVersion;
  /** False: the session goes on and outlives the connection. True: it ends before and after. */
  readonly clean: boolean;
  readonly times: LinkTimes;
  readonly room: Room;
  readonly take: TakeMqttMessage;
  /** See `link-window.ts`. */
  readonly laneOf: (topic: string) => string;
  readonly monotonic: () => number;
  /** Ends the attempt; after CONNACK it says nothing any more. */
  readonly signal: AbortSignal;
  readonly arrived: (kind: ArrivalKind, topic: string) => void;
  /** PUBACK goes out, so many ms after the message came. */
  readonly acknowledged: (waitedMs: number) => void;
}

/** A connection that the broker let in. */
export interface Connection {
  readonly version: MqttVersion;
  /** The broker had a session of ours. */
  readonly sessionPresent: boolean;
  /** The broker shares subscriptions. */
  readonly shares: boolean;
  /** How long the broker keeps the session after the connection's end, seconds; null: it does not say (3.1.1). */
  readonly keepsSeconds: number | null;
  /** Tells the first failure, or `stopped` after a `close` that the broker answered by its own; never rejects. */
  readonly ended: Promise<LinkError>;
  /** QoS 1, nothing retained where the broker allows it. Rejects with `subscribe` or as the connection ends. */
  subscribe(filters: readonly string[]): Promise<void>;
  unsubscribe(filters: readonly string[]): Promise<void>;
  /** Resolves with PINGRESP: the broker has worked off what we sent before. */
  ping(): Promise<void>;
  /** Messages that came; and of them those without PUBACK. */
  arrivals(): number;
  unacknowledged(): number;
  /** Ends at once, and keeps the session. */
  destroy(why: LinkError): void;
  /**
   * Ends in good order: takes no more, waits at most `withinMs` for what is at `take`, acknowledges it, says goodbye; with
   * `endSession` the broker forgets the session, unless something is unacknowledged then. Never rejects.
   */
  close(withinMs: number, endSession: boolean): Promise<void>;
}

/** Connects. Rejects with a {@link LinkError}. */
export async function openConnection(options: ConnectionOptions): Promise<Connection> {
  const { target, version, times, signal } = options;
  const filter = createFrameFilter(PACKET_BYTES_MOST, version);
  const stream = await openStream(target, filter, times.connectMs, signal);
  if (stream.destroyed) throw linkError(stream.errored ?? new LinkError('closed', 'the connection ended at once'));
  const connection = new BrokerConnection(options, stream);
  await connection.opened();
  return connection;
}

class BrokerConnection implements Connection {
  readonly ended: Promise<LinkError>;
  readonly #options: ConnectionOptions;
  readonly #stream: Duplex;
  readonly #client: MqttClient;
  readonly #window: Window;
  #connack: IConnackPacket | undefined;
  #tellEnd: (error: LinkError) => void = () => undefined;
  #over = false;
  #stopping = false;
  /** Goodbye. */
  #said = false;
  /** Something came after we had stopped taking. */
  #missed = false;
  #arrivals = 0;
  /** Packet ids whose PUBACK goes out with the next write. */
  #acks: number[] = [];
  #heldProbe: NodeJS.Timeout | undefined;

  constructor(options: ConnectionOptions, stream: Duplex) {
    this.#options = options;
    this.#stream = stream;
    this.ended = new Promise((resolve) => {
      this.#tellEnd = resolve;
    });
    const { room, take, laneOf, monotonic, arrived, acknowledged } = options;
    this.#window = createWindow({
      room,
      take,
      laneOf,
      monotonic,
      acknowledge: (packetId, waitedMs) => {
        acknowledged(waitedMs);
        this.#acknowledge(packetId);
      },
      dropped: (topic) => arrived('dropped', topic),
    });
    this.#client = new MqttClient(() => stream, clientOptions(options));
    this.#client.handleMessage = (packet, next) => this.#arrive(packet, () => next(ACKNOWLEDGED_LATER));
    this.#client.on('error', (error) => this.#fail(this.#meant(error)));
    this.#client.on('close', () => this.#fail(this.#said ? STOPPED : new LinkError('closed', 'the connection ended')));
    this.#client.on('disconnect', ({ reasonCode = 0 }) => {
      const reason = reasonCode === TAKEN_OVER ? 'taken-over' : 'closed';
      this.#fail(new LinkError(reason, `the broker ended the connection (reason code ${reasonCode})`));
    });
  }

  /** Resolves with CONNACK. */
  async opened(): Promise<void> {
    const { signal } = this.#options;
    const aborted = (): void => this.#fail(new LinkError('stopped', 'the link ends'));
    signal.addEventListener('abort', aborted, { once: true });
    try {
      await this.#answered('CONNACK', (resolve) => {
        this.#client.once('connect', (connack) => {
          this.#connack = connack;
          resolve();
        });
      });
    } catch (error) {
      const { reason, message } = linkError(error);
      if (reason !== 'closed' && reason !== 'protocol') throw error;
      throw new LinkError('unanswered', `no CONNACK: ${message}`, { cause: error });
    } finally {
      signal.removeEventListener('abort', aborted);
    }
  }

  get version(): MqttVersion {
    return this.#options.version;
  }

  get sessionPresent(): boolean {
    return this.#connack?.sessionPresent === true;
  }

  get shares(): boolean {
    // MQTT 5 section 3.2.2.3.13: absent means that it does.
    return this.#options.version === 5 && this.#connack?.properties?.sharedSubscriptionAvailable !== false;
  }

  get keepsSeconds(): number | null {
    if (this.#options.version !== 5) return null;
    return this.#connack?.properties?.sessionExpiryInterval ?? SESSION_SECONDS;
  }

  async subscribe(filters: readonly string[]): Promise<void> {
    const rules = this.#options.version === 5 ? { qos: 1 as const, rh: 2, rap: false, nl: false } : { qos: 1 as const };
    await this.#answered('SUBACK', (resolve, reject) => {
      this.#client.subscribe([...filters], rules, (error, _asked, packet) => {
        const granted = (packet?.granted ?? []).map(Number);
        const refused = filters.flatMap((filter, at) => {
          const code = granted[at];
          return code === SUBACK_QOS_1 || code === undefined ? [] : [`${filter} (${grantText(code)})`];
        });
        if (refused.length > 0) reject(new LinkError('subscribe', `the broker does not grant ${refused.join(', ')}`));
        else if (error === null || error === undefined) resolve();
        else reject(linkError(error));
      });
    });
  }

  async unsubscribe(filters: readonly string[]): Promise<void> {
    await this.#answered('UNSUBACK', (resolve, reject) => {
      this.#client.unsubscribe([...filters], (error) => {
        if (error === undefined || error === null) resolve();
        else reject(linkError(error));
      });
    });
  }

  async ping(): Promise<void> {
    await this.#answered('PINGRESP', (resolve) => {
      const answered = (packet: Packet): void => {
        if (packet.cmd !== 'pingresp') return;
        this.#client.off('packetreceive', answered);
        resolve();
      };
      this.#client.on('packetreceive', answered);
      this.#client.sendPing();
    });
  }

  arrivals(): number {
    return this.#arrivals;
  }

  unacknowledged(): number {
    return this.#window.unacknowledged();
  }

  destroy(why: LinkError): void {
    this.#fail(why);
  }

  async close(withinMs: number, endSession: boolean): Promise<void> {
    this.#stopping = true;
    await within(withinMs, this.#window.settle());
    if (this.#over) return;
    this.#flush();
    if (endSession && (this.#missed || this.unacknowledged() > 0)) {
      return this.#fail(new LinkError('timeout', 'the session keeps messages; it was not ended'));
    }
    const properties =
      this.#options.version === 5 && endSession ? { properties: { sessionExpiryInterval: 0 } } : undefined;
    const { closeMs } = this.#options.times;
    const gone = new Promise<void>((resolve) => this.#stream.once('close', () => resolve()));
    this.#said = true;
    this.#client.end(false, { ...properties });
    await within(closeMs, gone);
    this.#fail(new LinkError('timeout', `the broker did not end the connection in ${closeMs} ms`));
  }

  #arrive(packet: IPublishPacket, next: () => void): void {
    // What the library had parsed before the connection ended is no longer ours to take; the broker brings it again.
    if (this.#stopping) this.#missed = true;
    if (this.#over || this.#stopping) return;
    const { qos, topic, retain, dup, messageId, properties } = packet;
    if (qos === 2) return this.#fail(new LinkError('protocol', 'a message of QoS 2 on a subscription of QoS 1'));
    const payload = Buffer.isBuffer(packet.payload) ? packet.payload : Buffer.from(packet.payload);
    const kind = retain ? (payload.length === 0 ? 'oversize' : 'retained') : dup ? 'redelivered' : 'fresh';
    this.#options.arrived(kind, topic);
    this.#arrivals += 1;
    const traceparent = traceparentOf(properties?.userProperties?.['traceparent']);
    const message = { topic, payload, traceparent };
    const packetId = qos === 1 ? (messageId ?? null) : null;
    if (this.#window.arrive({ message, packetId, skip: retain })) return next();
    this.#hold();
    this.#options.room.whenRoom(() => {
      clearInterval(this.#heldProbe);
      this.#heldProbe = undefined;
      if (!this.#over) next();
    });
  }

  /** Nothing is read until there is room, answers to pings neither: the library must not take that for silence. */
  #hold(): void {
    const probe = (): void => {
      this.#client.sendPing();
      this.#client.reschedulePing(true);
    };
    clearInterval(this.#heldProbe);
    this.#heldProbe = setInterval(probe, (this.#options.times.keepAliveSeconds * 1000) / 2);
  }

  #acknowledge(packetId: number): void {
    this.#acks.push(packetId);
    if (this.#acks.length === 1) setImmediate(() => this.#flush());
  }

  /** PUBACK without a reason code means success in MQTT 5 too (section 3.4.2.1). */
  #flush(): void {
    if (this.#over || this.#acks.length === 0) return;
    const bytes = Buffer.allocUnsafe(this.#acks.length * 4);
    for (const [at, packetId] of this.#acks.entries()) {
      bytes.writeUInt16BE(0x4002, at * 4);
      bytes.writeUInt16BE(packetId, at * 4 + 2);
    }
    this.#acks = [];
    this.#stream.write(bytes);
  }

  /** What an error of the library means; those with a number are reason codes: CONNACK's, until it has come. */
  #meant(error: Error): LinkError {
    const { code } = error as { readonly code?: unknown };
    if (typeof code !== 'number') return linkError(error);
    const early = VERSION_CODES.includes(code) ? 'version' : 'refused';
    const detail = `${error.message} (reason code ${code})`;
    if (this.#connack !== undefined) return new LinkError('protocol', detail, { cause: error });
    const advice = LOGIN_CODES.includes(code) ? ': check MQTT_USERNAME, MQTT_PASSWORD and CLIENT_CERT' : '';
    return new LinkError(early, `${detail}${advice}`, { cause: error });
  }

  async #answered(what: string, ask: (resolve: () => void, reject: (error: LinkError) => void) => void): Promise<void> {
    const { answerMs } = this.#options.times;
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<LinkError | null>((resolve) => {
      const late = (): void => {
        // The answer may well be there, behind messages for which there is no room.
        if (this.#heldProbe !== undefined) timer = setTimeout(late, answerMs);
        else resolve(new LinkError('timeout', `no ${what} in ${answerMs} ms`));
      };
      timer = setTimeout(late, answerMs);
      ask(() => resolve(null), resolve);
    });
    const error = await Promise.race([answer, this.ended]);
    clearTimeout(timer);
    if (error === null) return;
    this.#fail(error);
    throw error;
  }

  #fail(error: LinkError): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#heldProbe);
    this.#window.close();
    // Also ends the library's own timers.
    this.#client.end(true);
    this.#stream.destroy();
    this.#tellEnd(error);
  }
}

function clientOptions({ target, clientId, version, clean, times }: ConnectionOptions): IClientOptions {
  const properties = {
    sessionExpiryInterval: clean ? 0 : SESSION_SECONDS,
    receiveMaximum: WINDOW_MESSAGES,
    // What is larger the broker drops without a word (section 3.1.2.11.4); up to here we see it, and can say so.
    maximumPacketSize: LIMITS.mqttSkippedBytes.value,
  };
  return {
    clientId,
    ...loginOf(target),
    protocolVersion: version,
    clean,
    keepalive: times.keepAliveSeconds,
    reconnectPeriod: 0,
    // Ours is the limit; the library only says "timeout" at its own.
    connectTimeout: 2 * times.answerMs,
    resubscribe: false,
    queueQoSZero: false,
    timerVariant: 'native',
    ...(version === 5 ? { properties } : {}),
  };
}

function grantText(code: number): string {
  return code < 0x80 ? `QoS ${code} only` : `reason code 0x${code.toString(16)}`;
}

function traceparentOf(value: string | readonly string[] | undefined): string | null {
  const first = typeof value === 'string' ? value : value?.[0];
  return first !== undefined && first.length <= TRACEPARENT_MOST ? first : null;
}

/** Resolves when `work` does, at the latest after so many ms. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, limit]);
  clearTimeout(timer);
}
