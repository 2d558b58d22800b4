/** Hosts that report over HTTP with a key, as tests need them. */
import { createDevice, post, postJson, type ScriptedDevice } from './device.ts';
import type { TestDatabase } from './database.ts';
import { settled } from './settled.ts';

/** What a host says; memory and disk have values of their own when absent. */
export interface HostWords {
  /** Unix ms. */
  readonly at: number;
  readonly cpu_percent: number;
  readonly mem_percent?: number;
  readonly disk_percent?: number;
  readonly gpu_percent?: number | null;
  readonly agent_cpu_percent?: number | null;
  readonly agent_mem_mb?: number | null;
}

/** The hosts. */
export interface Hosts {
  /** Sends one envelope of the host, which is registered with its first; throws unless it is accepted. */
  send(id: string, ...readings: readonly HostWords[]): Promise<void>;
  /** Resolves when the store has every reading that was accepted so far. */
  stored(database: TestDatabase): Promise<void>;
}

/** `base`: where the server is now. */
export function createHosts(base: () => string, apiKey: string, token: string): Hosts {
  const known = new Map<string, Promise<ScriptedDevice>>();
  let serial = 0;
  async function register(id: string): Promise<ScriptedDevice> {
    const device = createDevice(id);
    const body = { id, profile: 'host', publicKey: device.publicKeyPem };
    const { status } = await postJson(`${base()}/v1/devices`, body, { token });
    if (status !== 201) throw new Error(`the host was not registered: ${status}`);
    return device;
  }
  return {
    async send(id, ...readings) {
      const registered = known.get(id) ?? register(id);
      known.set(id, registered);
      const device = await registered;
      serial += 1;
      const frames = readings.map((words) => ({ mem_percent: 41.5, disk_percent: 12, ...words }));
      const answer = await post(base(), apiKey, device.seal(`h${serial}`, { profile: 'host', readings: frames }));
      if (answer.status !== 202) throw new Error(`the envelope was refused: ${answer.status}`);
    },
    stored: (database) => settled(database.db),
  };
}
