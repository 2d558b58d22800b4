/**
 * Hosts that publish frames to a broker, in a process of their own: many device ids over few connections, QoS 1. A frame
 * carries in `agent_mem_mb` when it was due (ms of the machine's monotonic clock), so that whoever gets it knows how late it is.
 */
import { connect, type MqttClient } from 'mqtt';
import { monotonicMs } from './frame-reader.ts';
import { serveParent } from './helper.ts';

/** What the publisher can be asked. */
export type PublisherAsk =
  | {
      readonly kind: 'connect';
      readonly port: number;
      readonly connections: number;
      readonly hosts: number;
      readonly username?: string;
      readonly password?: string;
    }
  /** So many frames as fast as PUBACKs come, `window` on their way; answers a {@link Published}. */
  | { readonly kind: 'flood'; readonly prefix: string; readonly frames: number; readonly window: number }
  /** Each host a frame a second, evenly spread, for so many seconds; answers a {@link Published}. */
  | { readonly kind: 'pace'; readonly prefix: string; readonly seconds: number; readonly perSecond: number };

/** What was published: each frame has its PUBACK. */
export interface Published {
  readonly frames: number;
  readonly seconds: number;
  /** Processor seconds of this process. */
  readonly cpu: number;
  /** The latest that a frame was published after it was due, ms. */
  readonly worstDelayMs: number;
}

const STEP_MS = 5;
let clients: MqttClient[] = [];
let hosts = 0;
let next = 0;
/** Before `/<id>/metrics`: each bridge listens to its own. */
let prefix = 'devices';

async function open(ask: Extract<PublisherAsk, { kind: 'connect' }>): Promise<null> {
  hosts = ask.hosts;
  const { username, password } = ask;
  clients = await Promise.all(
    Array.from({ length: ask.connections }, async (_, index) => {
      const client = connect({
        host: '127.0.0.1',
        port: ask.port,
        protocol: 'mqtt',
        clientId: `bench-${process.pid}-${index}`,
        protocolVersion: 4,
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
      });
      client.setMaxListeners(0);
      await new Promise<void>((resolve, reject) => {
        client.once('connect', () => resolve());
        client.once('error', reject);
      });
      return client;
    }),
  );
  return null;
}

/** Publishes the next host's frame, due at `due`; resolves with its PUBACK. */
function publish(due: number): Promise<void> {
  const host = next % hosts;
  next += 1;
  const id = `bench-${host}`;
  // Frames of one host in one second differ in their numbers, or they would be the same frame.
  const cpu = Math.round(((next * 7919) % 800) + 1) / 10;
  const frame =
    `{"device_id":"${id}","timestamp":${Math.floor(Date.now() / 1000)},"cpu_percent":${cpu},"mem_percent":41.5,` +
    `"disk_percent":63.2,"gpu_percent":null,"agent_cpu_percent":0.4,"agent_mem_mb":${due.toFixed(3)}}`;
  const client = clients[host % clients.length];
  return new Promise((resolve, reject) => {
    client?.publish(`${prefix}/${id}/metrics`, frame, { qos: 1 }, (error) => {
      if (error === undefined || error === null) resolve();
      else reject(error);
    });
  });
}

async function measured(work: () => Promise<{ frames: number; worstDelayMs: number }>): Promise<Published> {
  const cpu = process.cpuUsage();
  const began = performance.now();
  const { frames, worstDelayMs } = await work();
  const seconds = (performance.now() - began) / 1000;
  const used = process.cpuUsage(cpu);
  return { frames, seconds, cpu: (used.user + used.system) / 1e6, worstDelayMs };
}

async function flood(frames: number, window: number): Promise<{ frames: number; worstDelayMs: number }> {
  let left = frames;
  const one = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await publish(monotonicMs());
    }
  };
  await Promise.all(Array.from({ length: window }, one));
  return { frames, worstDelayMs: 0 };
}

async function pace(seconds: number, perSecond: number): Promise<{ frames: number; worstDelayMs: number }> {
  const total = seconds * perSecond;
  const began = monotonicMs();
  const waiting: Promise<void>[] = [];
  let worstDelayMs = 0;
  let sent = 0;
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const now = monotonicMs();
      const due = Math.min(total, Math.floor(((now - began) / 1000) * perSecond));
      for (; sent < due; sent += 1) {
        const at = began + (sent / perSecond) * 1000;
        worstDelayMs = Math.max(worstDelayMs, now - at);
        waiting.push(publish(at));
      }
      if (sent < total) return;
      clearInterval(timer);
      resolve();
    }, STEP_MS);
  });
  await Promise.all(waiting);
  return { frames: total, worstDelayMs };
}

serveParent<PublisherAsk>((ask) => {
  if (ask.kind === 'connect') return open(ask);
  prefix = ask.prefix;
  if (ask.kind === 'flood') return measured(() => flood(ask.frames, ask.window));
  return measured(() => pace(ask.seconds, ask.perSecond));
});
