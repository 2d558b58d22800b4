/** What the tests of the link share: links with settings for tests, publishers that give nothing up, takers that note. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createMetrics } from '../../ops/metrics.ts';
import { systemClock } from '../../lib/clock.ts';
import type { MqttSlot, MqttSlots } from '../../store/ports/mqtt-slots.ts';
import { connectAsync, type MqttClient } from 'mqtt';
import { type BrokerLink, type BrokerLinkSettings, type BrokerLinkTimes, createBrokerLink } from './link.ts';
import type { MqttMessage, TakeMqttMessage } from './message.ts';

const ends: (() => unknown)[] = [];

/** Ends what the helpers below began; for `afterEach`. */
export async function endAll(): Promise<void> {
  for (const end of ends.splice(0).reverse()) await end();
}

/** To be ended after the test. */
export function later(end: () => unknown): void {
  ends.push(end);
}

/** Resolves when `test` is true. */
export async function until(test: () => boolean | Promise<boolean>, what: string = String(test)): Promise<void> {
  for (let turn = 0; turn < 3000; turn += 1) {
    if (await test()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`did not come: ${what}`);
}

/** Slots in memory: those of one process without a store. `away` makes every call fail. */
export interface MemorySlots extends MqttSlots {
  readonly rows: Map<number, MqttSlot & { owner: string; shared: boolean; until: number }>;
}

/** Builds {@link MemorySlots}. */
export function memorySlots(): MemorySlots {
  const rows: MemorySlots['rows'] = new Map();
  let fence = 0;
  const take = (number: number, owner: string, leaseMs: number): MqttSlot => {
    fence += 1;
    const before = rows.get(number);
    const slot = { number, fence, filters: before?.filters ?? [] };
    rows.set(number, { ...slot, owner, shared: before?.shared ?? false, until: performance.now() + leaseMs });
    return slot;
  };
  const ours = ({ number, fence: own }: MqttSlot): boolean => rows.get(number)?.fence === own;
  const held = (number: number): boolean => (rows.get(number)?.until ?? 0) > performance.now();
  return {
    rows,
    installation: async () => '0123456789ab',
    claim: async (owner, leaseMs) => {
      if (held(0) && rows.get(0)?.shared !== true) return null;
      for (let number = 0; ; number += 1) if (!held(number)) return take(number, owner, leaseMs);
    },
    adopt: async (owner, leaseMs) => {
      const orphan = [...rows.keys()].sort((a, b) => a - b).find((number) => !held(number));
      return orphan === undefined ? null : take(orphan, owner, leaseMs);
    },
    renew: async (slot, leaseMs) => {
      const row = rows.get(slot.number);
      if (row === undefined || !ours(slot)) return null;
      row.until = performance.now() + leaseMs;
      const working = [...rows.keys()].filter((number) => held(number));
      return new Set(working.map((number) => rows.get(number)?.owner)).size;
    },
    note: async (slot, note) => {
      const row = rows.get(slot.number);
      if (row === undefined || !ours(slot)) return false;
      rows.set(slot.number, { ...row, ...note });
      return true;
    },
    release: async (slot) => {
      const row = rows.get(slot.number);
      if (row !== undefined && ours(slot)) row.until = 0;
    },
    remove: async (slot) => {
      if (ours(slot)) rows.delete(slot.number);
    },
  };
}

/** A link of a test, and what it said. */
export interface TestLink extends BrokerLink {
  readonly slots: MqttSlots;
  /** What was refused unread: reason and device. */
  readonly unread: string[];
  readonly lines: { readonly level: string; readonly message: string; readonly [field: string]: unknown }[];
  metrics(): Promise<string>;
}

/** Starts a link to a port of this machine, without TLS unless the settings say so. */
export function startLink(
  settings: Partial<BrokerLinkSettings> & { readonly port: number },
  take: TakeMqttMessage,
  more: { readonly slots?: MqttSlots; readonly times?: Partial<BrokerLinkTimes> } = {},
): TestLink {
  const lines: TestLink['lines'] = [];
  const write =
    (level: string) =>
    (fields: object | string, message: string = ''): void =>
      void lines.push(typeof fields === 'string' ? { level, message: fields } : { level, ...fields, message });
  const metrics = createMetrics('test');
  const slots = more.slots ?? memorySlots();
  const unread: string[] = [];
  const link = createBrokerLink({
    settings: {
      host: '127.0.0.1',
      tls: false,
      caFile: null,
      certFile: null,
      keyFile: null,
      username: null,
      password: null,
      filters: ['devices/+/metrics', 'devices/+/readings'],
      sharing: true,
      backoffMinMs: 20,
      backoffMaxMs: 200,
      instance: 'i1',
      ...settings,
    },
    take,
    refused: (reason, deviceId) => unread.push(`${reason} ${deviceId}`),
    slots,
    clock: systemClock,
    log: { info: write('info'), warn: write('warn'), error: write('error') },
    metrics,
    times: {
      leaseMs: 1500,
      renewMs: 300,
      lookMs: 50,
      quietMs: 300,
      connectMs: 3000,
      answerMs: 3000,
      askMs: 1000,
      ...more.times,
    },
  });
  link.start();
  let stopped: Promise<void> | undefined;
  const stop = (withinMs?: number): Promise<void> => {
    stopped ??= link.stop(withinMs).finally(() => metrics.close());
    return stopped;
  };
  ends.push(() => stop(100));
  return { ...link, slots, stop, lines, unread, metrics: () => metrics.text() };
}

/** How a broker that does not know MQTT 5 says so. */
const REFUSALS = {
  'return-code': Buffer.from([0x20, 2, 0, 1]),
  'reason-code': Buffer.from([0x20, 3, 0, 0x84, 0]),
  silence: Buffer.alloc(0),
};
/** Of the version in CONNECT, after a header of two bytes and the name of the protocol. */
const VERSION_AT = 8;

/** A broker of 3.1.1: refuses CONNECT of MQTT 5 so, and passes everything else to the broker at `port`. */
export async function oldBroker(port: number, how: keyof typeof REFUSALS): Promise<number> {
  return between((socket) => {
    socket.once('data', (first: Buffer) => {
      if (first[VERSION_AT + (first[1] !== undefined && first[1] >= 0x80 ? 1 : 0)] === 5)
        return socket.end(REFUSALS[how]);
      const upstream = connect(port, '127.0.0.1');
      upstream.on('error', () => socket.destroy()).on('close', () => socket.destroy());
      socket.on('close', () => upstream.destroy());
      upstream.write(first);
      return void socket.pipe(upstream).pipe(socket);
    });
  });
}

/** The mosquitto 2.0.11 at `port`, calling itself 2.0.12. */
export async function newerBroker(port: number): Promise<number> {
  const rename = (chunk: Buffer): Buffer => {
    const at = chunk.indexOf('mosquitto version 2.0.11');
    if (at !== -1) chunk.write('mosquitto version 2.0.12', at);
    return chunk;
  };
  return between((socket) => {
    const upstream = connect(port, '127.0.0.1');
    upstream.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
    upstream.on('data', (chunk: Buffer) => socket.write(rename(chunk)));
    socket.pipe(upstream);
  });
}

/** Listens until the end of the test. */
async function between(serve: (socket: Socket) => void): Promise<number> {
  const server = createServer(serve);
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => sockets.delete(socket));
  });
  ends.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A publisher that sends again after its connection broke, until PUBACK. */
export interface Publisher {
  readonly client: MqttClient;
  /** Publishes with QoS 1; resolves with PUBACK. */
  send(topic: string, payload: string | Buffer): Promise<void>;
}

/** Connects a publisher. */
export async function publisher(port: number, options: object = {}): Promise<Publisher> {
  const client = await connectAsync({ host: '127.0.0.1', port, reconnectPeriod: 50, ...options });
  client.on('error', () => undefined);
  client.setMaxListeners(0);
  ends.push(() => client.end(true));
  return { client, send: async (topic, payload) => void (await client.publishAsync(topic, payload, { qos: 1 })) };
}

/** Takes everything at once; notes it by `topic payload`. */
export function noting(): { readonly take: TakeMqttMessage; readonly seen: Map<string, number> } {
  const seen = new Map<string, number>();
  return {
    seen,
    take: async (message) => {
      const key = textOf(message);
      seen.set(key, (seen.get(key) ?? 0) + 1);
      return { kind: 'acknowledge' };
    },
  };
}

/** Topic and payload as one text. */
export function textOf({ topic, payload }: MqttMessage): string {
  return `${topic} ${payload.toString('utf8')}`;
}
