/**
 * A crowd of hosts behind a broker: each has a connection of its own, publishes one frame after the other with QoS 1, and
 * writes down those that the broker acknowledged. What was not acknowledged when a connection ended is sent again on the next.
 *
 * No two frames of a host are alike: seconds and memory rise by one step with each.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';

/** A frame as it is sent. */
export interface CrowdFrame {
  readonly device_id: string;
  /** Unix s. */
  readonly timestamp: number;
  readonly cpu_percent: number;
  readonly mem_percent: number;
  readonly disk_percent: number;
}

/** The hosts. */
export interface HostCrowd {
  readonly ids: readonly string[];
  /** Frames that the broker acknowledged, by host, in their order. */
  acknowledged(): ReadonlyMap<string, readonly CrowdFrame[]>;
  /** The next frame of these hosts is over the limit. */
  heat(ids: readonly string[]): void;
  /** The longest time between two acknowledgements of the crowd since `since`, ms. */
  longestGap(since: number): number;
  /** Lets everybody end with an acknowledged frame; nobody sends any more. */
  rest(): Promise<void>;
  /** One more frame of each, acknowledged; only after {@link rest}. */
  farewell(): Promise<void>;
  close(): void;
}

/** Between two frames of a host, ms. */
const PAUSE_MS: readonly [number, number] = [60, 200];
const HOT_PERCENT = 97;
const RECONNECT_MS = 100;

interface Host {
  readonly id: string;
  readonly client: MqttClient;
  readonly sent: CrowdFrame[];
  serial: number;
  hot: boolean;
}

/** Connects them; their ids are `<name>-<number>`. */
export async function startHostCrowd(options: IClientOptions, name: string, count: number): Promise<HostCrowd> {
  const began = Math.floor(Date.now() / 1000);
  const acknowledgedAt: number[] = [performance.now()];
  let going = true;
  const connected = async (_: unknown, n: number): Promise<Host> => {
    const client = await connectAsync({ ...options, reconnectPeriod: RECONNECT_MS, clientId: `${name}-${n}` });
    client.on('error', () => undefined);
    return { id: `${name}-${n}`, client, sent: [], serial: 0, hot: false };
  };
  const hosts = await Promise.all(Array.from({ length: count }, connected));
  const publish = async (host: Host): Promise<void> => {
    host.serial += 1;
    const { hot, serial } = host;
    host.hot = false;
    const frame: CrowdFrame = {
      device_id: host.id,
      timestamp: began + serial,
      cpu_percent: hot ? HOT_PERCENT : (serial % 80) + 0.25,
      mem_percent: (serial % 9000) / 100,
      disk_percent: 40,
    };
    await host.client.publishAsync(`devices/${host.id}/metrics`, JSON.stringify(frame), { qos: 1 });
    host.sent.push(frame);
    acknowledgedAt.push(performance.now());
  };
  const report = async (host: Host): Promise<void> => {
    while (going || host.hot) {
      await publish(host);
      await pause(randomInt(...PAUSE_MS));
    }
  };
  const reports = Promise.all(hosts.map(report));
  return {
    ids: hosts.map(({ id }) => id),
    acknowledged: () => new Map(hosts.map(({ id, sent }) => [id, sent])),
    heat: (chosen) => {
      for (const host of hosts) host.hot ||= chosen.includes(host.id);
    },
    longestGap: (since) => longestBetween(acknowledgedAt, since),
    rest: async () => {
      going = false;
      await reports;
    },
    farewell: async () => void (await Promise.all(hosts.map(publish))),
    close: () => {
      for (const { client } of hosts) client.end(true);
    },
  };
}

/** The longest time between two moments, the last before `since` and all after it; 0 when there are not two. */
export function longestBetween(times: readonly number[], since: number): number {
  const from = Math.max(
    0,
    times.findLastIndex((time) => time <= since),
  );
  let longest = 0;
  for (let i = from + 1; i < times.length; i += 1) longest = Math.max(longest, (times[i] ?? 0) - (times[i - 1] ?? 0));
  return longest;
}
