/** What the tests of the link share: links with settings for tests, publishers that give nothing up, takers that note. */
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
  readonly rows: Map<number, MqttSlot & { shared: boolean; until: number }>;
}

/** Builds {@link MemorySlots}. */
export function memorySlots(): MemorySlots {
  const rows: MemorySlots['rows'] = new Map();
  let fence = 0;
  const take = (number: number, leaseMs: number): MqttSlot => {
    fence += 1;
    const before = rows.get(number);
    const slot = { number, fence, filters: before?.filters ?? [] };
    rows.set(number, { ...slot, shared: before?.shared ?? false, until: performance.now() + leaseMs });
    return slot;
  };
  const ours = ({ number, fence: own }: MqttSlot): boolean => rows.get(number)?.fence === own;
  const held = (number: number): boolean => (rows.get(number)?.until ?? 0) > performance.now();
  return {
    rows,
    installation: async () => '0123456789ab',
    claim: async (_, leaseMs) => {
      if (held(0) && rows.get(0)?.shared !== true) return null;
      for (let number = 0; ; number += 1) if (!held(number)) return take(number, leaseMs);
    },
    adopt: async (_, leaseMs) => {
      const orphan = [...rows.keys()].sort((a, b) => a - b).find((number) => !held(number));
      return orphan === undefined ? null : take(orphan, leaseMs);
    },
    renew: async (slot, leaseMs) => {
      const row = rows.get(slot.number);
      if (row === undefined || !ours(slot)) return false;
      row.until = performance.now() + leaseMs;
      return true;
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
    (fields: object | string, message?: string): void =>
      void lines.push({ level, ...(typeof fields === 'string' ? {} : fields), message: message ?? String(fields) });
  const metrics = createMetrics('test');
  const link = createBrokerLink({
    settings: {
      host: '127.0.0.1',
      tls: false,
      caFile: null,
      certFile: null,
      keyFile: null,
      filters: ['devices/+/metrics', 'devices/+/readings'],
      backoffMinMs: 20,
      backoffMaxMs: 200,
      instance: 'i1',
      ...settings,
    },
    take,
    slots: more.slots ?? memorySlots(),
    clock: systemClock,
    log: { info: write('info'), warn: write('warn'), error: write('error') },
    metrics,
    times: { leaseMs: 1500, renewMs: 300, lookMs: 50, quietMs: 300, connectMs: 3000, answerMs: 3000, ...more.times },
  });
  link.start();
  let stopped: Promise<void> | undefined;
  const stop = (withinMs?: number): Promise<void> => {
    stopped ??= link.stop(withinMs).finally(() => metrics.close());
    return stopped;
  };
  ends.push(() => stop(100));
  return { ...link, stop, lines, metrics: () => metrics.text() };
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
