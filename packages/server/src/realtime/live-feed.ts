/**
 * The live board of this process, and what keeps it equal to those of the others.
 *
 * What is heard here is shown here at once and told to the others over the bus: many frames in one payload, gathered for a few
 * ms. Where the bus may have lost something, the store says what was heard: at the start, while the bus is unhealthy or does
 * not take what is told, and after a number of another instance was skipped; once a second until {@link SETTLE_MS} later
 * (workers store a little late).
 * Guarantees: after any fault of the bus the boards are equal again within seconds of its end; nothing waits for I/O.
 * Failure: what the bus did not take is kept, the newest frame of each device, and told again until it is out of the window;
 * a store that is away is tried again. While neither tells, `fedAt` is null.
 * Bounds: what waits for the bus is at most one frame for each device of the board; one payload is on its way at a time.
 */
import type { HostReading } from '@tocsin/protocol/envelope';
import { frameOf } from '@tocsin/protocol/frame';
import type { PublishSubscribe, Unsubscribe } from '../bus/ports/bus.ts';
import { boundMap } from '../lib/bound-map.ts';
import type { Clock } from '../lib/clock.ts';
import type { LiveReading, LiveReadings } from '../store/ports/live.ts';
import type { LiveBoard, LiveDevice } from './live-board.ts';
import type { LiveState } from './live-state.ts';
import { decodeLive, encodeLive, FRAMES_MOST, isOwn, LIVE_TOPIC, readRow } from './live-wire.ts';

/** How long frames are gathered before they are told, ms. */
export const GATHER_MS = 5;
/** Time between two reads of the store, and two tries of a bus that failed, ms. */
const POLL_MS = 1000;
const RETRY_MS = 500;
/** The store is read for so long after the last sign of trouble, ms. */
export const SETTLE_MS = 3000;
/** Reads after the first look back so far beyond the one before, ms: partitions are stored at times of their own. */
const OVERLAP_MS = 10_000;
/** An instance that has nothing to tell says so after this time, ms: what was lost at the end is missed then. */
const BEAT_MS = 2000;
/** Instances whose numbers are known. */
const INSTANCES_MOST = 1000;
/** A read of the store vouches for so long, ms. */
const VOUCH_MS = 2 * POLL_MS;

/** What it needs. */
export interface LiveFeedOptions {
  readonly state: LiveState;
  readonly pubsub: PublishSubscribe;
  readonly bus: { readonly shared: boolean; healthy(): boolean };
  readonly instance: string;
  readonly store: LiveReadings;
  readonly clock: Clock;
  readonly windowMs: number;
  /** Devices that are read at most. */
  readonly most: number;
  readonly onDropped: () => void;
  readonly onFailure: (part: 'bus' | 'store', error: unknown) => void;
}

/** The board, with its life. */
export interface LiveFeed extends LiveBoard {
  /** Resolves after the first try to reach bus and store; keeps trying after that. */
  start(): Promise<void>;
  /** True once the store was read. */
  ready(): boolean;
  /** As of when the board shows all there is, Unix ms; null while neither bus nor store says. */
  fedAt(): number | null;
  stop(): Promise<void>;
}

/** The device that a reading of the store shows; null when its numbers are no frame. Pure. */
export function deviceOf({ deviceId, receivedAt, at, fields }: LiveReading): LiveDevice | null {
  const { cpu_percent, mem_percent, disk_percent, gpu_percent, agent_cpu_percent, agent_mem_mb } = frameOf(deviceId, {
    ...(fields as unknown as HostReading),
    at,
  });
  const numbers = [cpu_percent, mem_percent, disk_percent, gpu_percent, agent_cpu_percent, agent_mem_mb];
  return readRow([receivedAt, deviceId, Math.floor(at / 1000), ...numbers]);
}

/** Tells the others: gathers, sends one payload at a time, keeps what the bus did not take. `onRefused`: it did not. */
function createTeller(
  options: LiveFeedOptions,
  onRefused: () => void,
): { tell(device: LiveDevice): void; beat(): void; stop(): Promise<void> } {
  const { pubsub, instance, clock, windowMs } = options;
  const waiting = new Map<string, LiveDevice>();
  let number = 0;
  let saidAt = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | null = null;
  let sending: Promise<void> | null = null;
  let stopped = false;

  function later(ms: number): void {
    if (stopped || sending !== null || timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      send();
    }, ms);
  }

  function take(): LiveDevice[] {
    const batch: LiveDevice[] = [];
    const oldest = clock.now() - windowMs;
    for (const [name, device] of waiting) {
      if (batch.length === FRAMES_MOST) break;
      waiting.delete(name);
      if (device.heardAt > oldest) batch.push(device);
    }
    return batch;
  }

  async function publish(batch: readonly LiveDevice[]): Promise<boolean> {
    number += 1;
    saidAt = clock.monotonic();
    try {
      await pubsub.publish(LIVE_TOPIC, encodeLive(instance, number, batch));
      return true;
    } catch (error) {
      options.onFailure('bus', error);
      onRefused();
      for (const device of batch) if (!waiting.has(device.frame.device_id)) waiting.set(device.frame.device_id, device);
      return false;
    }
  }

  async function sendAll(): Promise<void> {
    let taken = true;
    for (let batch = take(); batch.length > 0; batch = taken ? take() : []) taken = await publish(batch);
  }

  function send(): void {
    sending ??= sendAll().finally(() => {
      sending = null;
      if (waiting.size > 0) later(RETRY_MS);
    });
  }

  return {
    tell(device) {
      waiting.set(device.frame.device_id, device);
      later(GATHER_MS);
    },
    beat() {
      if (sending === null && waiting.size === 0 && clock.monotonic() - saidAt >= BEAT_MS) void publish([]);
    },
    async stop() {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
      send();
      await sending;
    },
  };
}

/** Hears the others; `onMissed`: a payload did not come. */
function createHearer(options: LiveFeedOptions, onMissed: () => void): (payload: string) => void {
  const { state, instance } = options;
  const numbers = new Map<string, number>();
  return (text) => {
    if (isOwn(instance, text)) return;
    const payload = decodeLive(text);
    if (payload === 'malformed') return options.onDropped();
    const before = numbers.get(payload.instance);
    if (before !== undefined && payload.number > before + 1) onMissed();
    numbers.delete(payload.instance);
    // What is played again has a number from before.
    numbers.set(payload.instance, Math.max(before ?? 0, payload.number));
    boundMap(numbers, INSTANCES_MOST);
    for (const device of payload.devices) state.offer(device);
  };
}

/** Creates the board. */
export function createLiveFeed(options: LiveFeedOptions): LiveFeed {
  const { state, bus, clock, windowMs } = options;
  const teller = bus.shared ? createTeller(options, trouble) : null;
  let unsubscribe: Unsubscribe | null = null;
  let timer: NodeJS.Timeout | null = null;
  let reading: Promise<void> | null = null;
  let stopped = false;
  /** Monotonic ms until which the store is read; Unix ms of the last read of this stretch, and of any. */
  let troubleUntil = Number.NEGATIVE_INFINITY;
  let stretchReadAt: number | null = null;
  let readAt: number | null = null;
  /** Signs of trouble so far, and how many of them the last read came after: between them something may be missing. */
  let troubles = 1;
  let settled = 0;

  function trouble(): void {
    troubles += 1;
    troubleUntil = clock.monotonic() + SETTLE_MS;
  }

  async function read(): Promise<void> {
    const now = clock.now();
    const before = troubles;
    const since = Math.max(now - windowMs, (stretchReadAt ?? 0) - OVERLAP_MS);
    try {
      for (const row of await options.store.newest(since, options.most)) {
        const device = deviceOf(row);
        if (device === null) options.onDropped();
        else state.offer(device);
      }
      stretchReadAt = now;
      readAt = now;
      settled = before;
    } catch (error) {
      if (!stopped) options.onFailure('store', error);
    }
  }

  function look(): void {
    teller?.beat();
    if (!bus.healthy()) trouble();
    if (clock.monotonic() >= troubleUntil && readAt !== null) {
      stretchReadAt = null;
      return;
    }
    reading ??= read().finally(() => {
      reading = null;
    });
  }

  return {
    heard(device) {
      if (state.offer(device)) teller?.tell(device);
    },
    active: () => state.active(),
    has: (deviceId) => state.has(deviceId),
    size: () => state.size(),
    async start() {
      const hear = createHearer(options, trouble);
      if (bus.shared) unsubscribe = await options.pubsub.subscribe(LIVE_TOPIC, hear);
      trouble();
      await read();
      if (!stopped) timer = setInterval(look, POLL_MS);
    },
    ready: () => readAt !== null,
    fedAt() {
      const now = clock.now();
      if (settled === troubles && bus.healthy()) return now;
      return readAt !== null && now - readAt <= VOUCH_MS ? readAt : null;
    },
    async stop() {
      stopped = true;
      if (timer !== null) clearInterval(timer);
      await teller?.stop();
      await unsubscribe?.().catch(() => undefined);
      // A read under way is left alone: a store that is frozen answers it long after the process should have ended.
    },
  };
}
