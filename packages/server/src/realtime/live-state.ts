/**
 * The last frame of each device, for as long as it is within the window: the set behind the live board.
 *
 * Guarantees: a device is in it from its arrival on until `windowMs` later, exactly, whenever one looks; of two frames the
 * one that arrived later stays (at the same time: the newer timestamp, then the greater text, so that everybody who has heard
 * the same frames in whatever order holds the same). Adding and looking cost O(log n) at worst and O(1) on average.
 * Bound: `most` devices; a newcomer beyond that is left out and told to `onFull`.
 * When the clock is set back, what arrived "later than now" counts as having arrived now: it leaves in time, and what comes
 * next takes its place.
 */
import type { HostFrame } from '@tocsin/protocol/frame';
import type { Clock } from '../lib/clock.ts';
import { createMinHeap } from '../lib/min-heap.ts';
import type { LiveDevice } from './live-board.ts';

/** Hears of every change, right after it. */
export interface LiveWatcher {
  /** A device has a new frame. */
  changed(device: LiveDevice): void;
  /** A device has left. */
  gone(deviceId: string): void;
}

/** What it needs. */
export interface LiveStateOptions {
  readonly clock: Pick<Clock, 'now'>;
  /** How long a device stays after its last frame, ms. */
  readonly windowMs: number;
  readonly most: number;
  /** A newcomer was left out. */
  readonly onFull?: () => void;
}

/** The set. */
export interface LiveState {
  /** Adds a frame; answers whether it is what is shown of the device now. */
  offer(device: LiveDevice): boolean;
  /** The devices within the window; good until the next call of anything here. */
  active(): ReadonlyMap<string, LiveDevice>;
  has(deviceId: string): boolean;
  size(): number;
  /** Calls `watcher` from now on. */
  watch(watcher: LiveWatcher): void;
}

/** So far the clock may jitter (it is corrected by the store's) before it counts as set back, ms. */
const JITTER_MS = 1000;

/** True when `next` takes the place of `held`. Pure. */
export function isNewer(next: LiveDevice, held: LiveDevice): boolean {
  if (next.heardAt !== held.heardAt) return next.heardAt > held.heardAt;
  if (next.frame.timestamp !== held.frame.timestamp) return next.frame.timestamp > held.frame.timestamp;
  return frameText(next.frame) > frameText(held.frame);
}

/** A frame as viewers get it: its members in the order of the contract, whoever made it. Pure. */
export function frameText(frame: HostFrame): string {
  // Members one by one: spreading them costs as much as writing the text.
  return JSON.stringify({
    device_id: frame.device_id,
    timestamp: frame.timestamp,
    cpu_percent: frame.cpu_percent,
    mem_percent: frame.mem_percent,
    disk_percent: frame.disk_percent,
    gpu_percent: frame.gpu_percent,
    agent_cpu_percent: frame.agent_cpu_percent,
    agent_mem_mb: frame.agent_mem_mb,
  });
}

/** Creates an empty set. */
export function createLiveState(options: LiveStateOptions): LiveState {
  const { clock, windowMs, most } = options;
  const devices = new Map<string, LiveDevice>();
  /** One entry for each device, never later than its last frame: whose turn comes is looked at, and put back if it spoke. */
  const turns = createMinHeap();
  const watchers: LiveWatcher[] = [];
  let lastNow = Number.NEGATIVE_INFINITY;

  function prune(): void {
    const now = clock.now();
    if (now < lastNow - JITTER_MS) setBack(now);
    lastNow = Math.max(now, lastNow);
    for (let turn = turns.top(); turn !== undefined && turn.key + windowMs <= now; turn = turns.top()) {
      const { name } = turn;
      const heardAt = devices.get(name)?.heardAt ?? turn.key;
      if (heardAt + windowMs > now) {
        turns.replaceTop({ key: heardAt, name });
        continue;
      }
      turns.replaceTop();
      devices.delete(name);
      for (const watcher of watchers) watcher.gone(name);
    }
  }

  function setBack(now: number): void {
    lastNow = now;
    turns.clear();
    for (const [name, { frame, heardAt }] of devices) {
      const device = { frame, heardAt: Math.min(heardAt, now) };
      devices.set(name, device);
      turns.add({ key: device.heardAt, name });
    }
  }

  return {
    offer(device) {
      prune();
      const name = device.frame.device_id;
      const held = devices.get(name);
      if (held !== undefined && !isNewer(device, held)) return false;
      if (device.heardAt + windowMs <= lastNow) return false;
      if (held === undefined) {
        if (devices.size >= most) {
          options.onFull?.();
          return false;
        }
        turns.add({ key: device.heardAt, name });
      }
      devices.set(name, device);
      for (const watcher of watchers) watcher.changed(device);
      return true;
    },
    active() {
      prune();
      return devices;
    },
    has(deviceId) {
      prune();
      return devices.has(deviceId);
    },
    size() {
      prune();
      return devices.size;
    },
    watch: (watcher) => void watchers.push(watcher),
  };
}
