/** An embedded broker for tests: a scripted intake, made-up credentials, an in-process bus, and raw or real clients. */
import { connect as dial, type Socket } from 'node:net';
import { refuse } from '@tocsin/protocol/refusal-error';
import { connect, type IClientOptions, type MqttClient } from 'mqtt';
import { createMemoryBus } from '../../bus/memory/bus.ts';
import type { Clock } from '../../lib/clock.ts';
import { systemClock } from '../../lib/clock.ts';
import { createEmbeddedBroker, type EmbeddedBroker } from './embedded.ts';
import type { EmbeddedOptions } from './embedded-options.ts';
import type { MqttMessage, MqttVerdict } from './message.ts';

/** An API key of {@link startBroker}, and one that may only read. */
export const KEY = 'key-that-may-send';
export const READING_KEY = 'key-that-may-read';
/** What the scripted store does: text of a token by device. */
export const tokenOf = (deviceId: string): string => `h.${Buffer.from(deviceId).toString('base64url')}.s`;

/** A clock that a test moves. */
export interface MovedClock extends Clock {
  move(ms: number): void;
}

export function movedClock(): MovedClock {
  let at = 1_000_000;
  return { now: () => at, monotonic: () => at, move: (ms) => void (at += ms) };
}

/** What a test holds of its broker. */
export interface BrokerUnderTest {
  readonly broker: EmbeddedBroker;
  readonly port: number;
  readonly taken: MqttMessage[];
  /** What `take` answers from now on. */
  verdict: (message: MqttMessage) => MqttVerdict | Promise<MqttVerdict>;
  /** API keys and sessions and devices that are no more, by their text, id and id. */
  readonly gone: Set<string>;
  /** The store does not answer. */
  away: boolean;
  tokenEndsAt: number;
  readonly counts: Map<string, number>;
  endSession(id: string): void;
  client(options?: IClientOptions): MqttClient;
  raw(): RawClient;
  stop(): Promise<void>;
}

/** Bytes in, bytes out. */
export interface RawClient {
  readonly socket: Socket;
  send(...bytes: readonly (number | Buffer | string)[]): void;
  /** Everything that came, once the other side has closed. */
  readonly closed: Promise<Buffer>;
  /** Resolves with the next `bytes` bytes. */
  read(bytes: number): Promise<Buffer>;
}

export const ACKNOWLEDGE: MqttVerdict = { kind: 'acknowledge' };

/** A CONNECT of 3.1.1. */
export function connectPacket(
  id: string,
  { username = 'anybody', password = KEY, level = 4, keepAlive = 30, clean = true } = {},
): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value);
    return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
  };
  const flags = 0xc0 | (clean ? 2 : 0);
  const body = Buffer.concat([
    text('MQTT'),
    Buffer.from([level, flags, keepAlive >> 8, keepAlive & 0xff]),
    text(id),
    text(username),
    text(password),
  ]);
  return packet(0x10, body);
}

/** A packet with its length. */
export function packet(first: number, body: Buffer): Buffer {
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from([first, ...length]), body]);
}

/** A PUBLISH. */
export function publishPacket(topic: string, payload: string | Buffer, { qos = 1, id = 1, flags = 0 } = {}): Buffer {
  const name = Buffer.from(topic);
  const head = [Buffer.from([name.length >> 8, name.length & 0xff]), name];
  if (qos > 0) head.push(Buffer.from([id >> 8, id & 0xff]));
  return packet(0x30 | (qos << 1) | flags, Buffer.concat([...head, Buffer.from(payload)]));
}

/** Starts one on a free port. */
export async function startBroker(
  options: Partial<EmbeddedOptions> & {
    readonly trustedProxies?: readonly string[];
    readonly filters?: readonly string[];
  } = {},
): Promise<BrokerUnderTest> {
  const clock = options.clock ?? systemClock;
  const bus = createMemoryBus({ clock, instance: 'test' });
  const listeners = new Set<(ids: readonly string[]) => void>();
  const counts = new Map<string, number>();
  const count = (name: string, by = 1): void => void counts.set(name, (counts.get(name) ?? 0) + by);
  const clients: MqttClient[] = [];
  const sockets: Socket[] = [];
  const lives = (): void => {
    if (test.away) throw refuse('store-unavailable');
  };
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const test: Omit<BrokerUnderTest, 'broker' | 'port'> & { broker?: EmbeddedBroker; port: number } = {
    port: 0,
    taken: [],
    verdict: () => ACKNOWLEDGE,
    gone: new Set(),
    away: false,
    tokenEndsAt: Number.MAX_SAFE_INTEGER,
    counts,
    endSession: (id) => {
      for (const listener of listeners) listener([id]);
    },
    client(more = {}) {
      const client = connect(`mqtt://127.0.0.1:${test.port}`, {
        username: 'anybody',
        password: KEY,
        reconnectPeriod: 0,
        protocolVersion: 4,
        ...more,
      });
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    raw() {
      const socket = dial(test.port, '127.0.0.1');
      sockets.push(socket);
      return rawClient(socket);
    },
    async stop() {
      for (const client of clients) client.end(true);
      for (const socket of sockets) socket.destroy();
      await test.broker?.stop();
      await bus.close();
    },
  };
  const broker = createEmbeddedBroker({
    settings: {
      host: '127.0.0.1',
      port: 0,
      filters: options.filters ?? ['devices/+/metrics', 'devices/+/readings'],
      trustedProxies: options.trustedProxies ?? [],
    },
    take: async (message) => {
      const verdict = await test.verdict(message);
      if (verdict.kind === 'acknowledge') test.taken.push(message);
      return verdict;
    },
    identity: {
      async apiKey(text) {
        lives();
        if (text === READING_KEY) return { id: 'k2', scopes: ['read'] };
        return text === KEY && !test.gone.has(KEY) ? { id: 'k1', scopes: ['ingest'] } : null;
      },
      async accessToken(jwt) {
        lives();
        const deviceId = Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString();
        if (jwt !== tokenOf(deviceId)) throw refuse('token-invalid');
        if (deviceId === 'late') throw refuse('token-expired');
        return { deviceId, scope: 'device', sessionId: `session-${deviceId}`, expiresAt: test.tokenEndsAt };
      },
      deviceActive: async (id) => !test.gone.has(id),
      sessions: {
        dead: async (ids) => ids.filter((id) => test.gone.has(id)),
        onEnded(listener) {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
      },
    },
    bus,
    clock,
    metrics: {
      connections: (change) => count('connections', change),
      refused: (reason) => count(`refused ${reason}`),
      ended: (reason) => count(`ended ${reason}`),
      banned: (by) => count(`banned ${by}`),
      rejected: (reason) => count(`rejected ${reason}`),
    },
    log,
    sweepMs: 20,
    ...options,
  });
  test.port = await broker.start();
  return Object.assign(test, { broker });
}

/** Reads a socket. */
export function rawClient(socket: Socket): RawClient {
  let came = Buffer.alloc(0);
  let wake: () => void = () => undefined;
  socket.on('data', (chunk: Buffer) => {
    came = Buffer.concat([came, chunk]);
    wake();
  });
  socket.on('error', () => undefined);
  const closed = new Promise<Buffer>((resolve) => {
    socket.on('close', () => {
      wake();
      resolve(came);
    });
  });
  return {
    socket,
    closed,
    send: (...bytes) => {
      for (const part of bytes) socket.write(typeof part === 'number' ? Buffer.from([part]) : part);
    },
    async read(bytes) {
      while (came.length < bytes) {
        if (socket.destroyed) throw new Error(`closed after ${came.length} bytes`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      const part = came.subarray(0, bytes);
      came = came.subarray(bytes);
      return part;
    },
  };
}

/** Resolves with `connect`, or with the code of the CONNACK that refuses (or the word `close`). */
export function outcome(client: MqttClient): Promise<string> {
  return new Promise((resolve) => {
    client.once('connect', () => resolve('connect'));
    client.on('error', (error) => resolve(`code ${String((error as { code?: unknown }).code)}`));
    client.once('close', () => resolve('close'));
  });
}

/** Resolves when the connection ends. */
export function closing(client: MqttClient): Promise<void> {
  return new Promise((resolve) => {
    client.once('close', () => resolve());
  });
}
