/**
 * The directory of devices on the hot path of ingest: who a device is, what it may do, its parsed key.
 *
 * Guarantees: what it answers was true at most 5 s ago, and less on a living bus, where a change is heard at once; a
 * device that is not there is asked for again after 1 s or when it is made. An answer that was being read while its
 * device changed is not kept. While the store is away it refuses (`store-unavailable`) rather than hear a device that
 * may be revoked.
 * Bounds: {@link DirectoryOptions.maxDevices} known and {@link UNKNOWN_KEPT} unknown ids; one statement at a time reads
 * all ids that were asked for meanwhile, at most {@link BATCH} in each.
 */
import { boundMap } from '../lib/bound-map.ts';
import type { KeyObject } from 'node:crypto';
import type { Clock } from '../lib/clock.ts';
import { CodedError } from '../lib/coded-error.ts';
import type { DeviceRow, DeviceStore } from '../store/ports/registry.ts';
import { keyObject } from './public-key.ts';

/** What ingest knows of a device. */
export interface DeviceForIngest
  extends Pick<
    DeviceRow,
    'id' | 'number' | 'profile' | 'zoneId' | 'zoneNumber' | 'latitude' | 'longitude' | 'standing' | 'exercise'
  > {
  /** Parsed once for as long as the device keeps it; null: nobody registered it, it cannot sign. */
  readonly key: KeyObject | null;
}

/** How long an entry may be used, ms. */
export const FRESH_MS = 5000;
/** The age from which an entry is read again in the background while it is still used, ms. */
export const REFRESH_MS = 3500;
/** How long "there is no such device" may be used, ms. */
export const UNKNOWN_MS = 1000;
/** The most unknown ids that are remembered. */
export const UNKNOWN_KEPT = 10_000;
/** The most ids of one statement. */
export const BATCH = 1000;

interface Entry {
  readonly device: DeviceForIngest;
  readonly publicKey: Buffer | null;
  readonly readAt: number;
}

interface Waiter {
  readonly resolve: (device: DeviceForIngest | null) => void;
  readonly reject: (error: unknown) => void;
}

/** What {@link createDirectory} needs. */
export interface DirectoryOptions {
  readonly devices: Pick<DeviceStore, 'findMany'>;
  readonly clock: Clock;
  /** Default 100,000. */
  readonly maxDevices?: number;
}

/** The directory. */
export interface Directory {
  /** The device, at once when it is known; null when there is none. Rejects `store-unavailable`. */
  lookup(id: string): DeviceForIngest | null | Promise<DeviceForIngest | null>;
  /** Forgets that there was no such device; what is known of it otherwise stays. */
  appeared(id: string): void;
  /** Forgets what is known of an id. */
  invalidate(id: string): void;
  /** Forgets everything (keys of devices stay parsed). */
  invalidateAll(): void;
}

/** The key, parsed unless it is the one that was known before. */
function keyOf(publicKey: Buffer | null, before: Entry | undefined): KeyObject | null {
  if (publicKey === null) return null;
  return before?.publicKey?.equals(publicKey) === true ? before.device.key : keyObject(publicKey);
}

/** Builds the directory. */
export function createDirectory(options: DirectoryOptions): Directory {
  const { devices, clock } = options;
  const maxDevices = options.maxDevices ?? 100_000;
  const known = new Map<string, Entry>();
  const unknown = new Map<string, number>();
  let waiting = new Map<string, Waiter[]>();
  let reading: ReadonlyMap<string, Waiter[]> | null = null;
  /** Ids that changed while they were being read. */
  const changed = new Set<string>();
  let changedAll = false;

  const keep = (id: string, row: DeviceRow | undefined, readAt: number): DeviceForIngest | null => {
    const before = known.get(id);
    known.delete(id);
    if (row === undefined) {
      unknown.delete(id);
      unknown.set(id, readAt);
      boundMap(unknown, UNKNOWN_KEPT);
      return null;
    }
    const { number, profile, zoneId, zoneNumber, latitude, longitude, standing, exercise, publicKey } = row;
    const key = keyOf(publicKey, before);
    const device = { id, number, profile, zoneId, zoneNumber, latitude, longitude, standing, exercise, key };
    // A change during the reading: these callers asked before it, but whoever asks next must read anew.
    const stale = changedAll || changed.has(id);
    unknown.delete(id);
    known.set(id, { device, publicKey, readAt: stale ? Number.NEGATIVE_INFINITY : readAt });
    boundMap(known, maxDevices);
    return device;
  };

  const takeBatch = (): ReadonlyMap<string, Waiter[]> => {
    if (waiting.size <= BATCH) {
      const all = waiting;
      waiting = new Map();
      return all;
    }
    const batch = new Map([...waiting].slice(0, BATCH));
    for (const id of batch.keys()) waiting.delete(id);
    return batch;
  };

  const settle = (batch: ReadonlyMap<string, Waiter[]>, rows: readonly DeviceRow[], readAt: number): void => {
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const [id, waiters] of batch) {
      try {
        const device = keep(id, byId.get(id), readAt);
        if (device === null && (changedAll || changed.has(id))) unknown.delete(id);
        for (const waiter of waiters) waiter.resolve(device);
      } catch (error) {
        for (const waiter of waiters) waiter.reject(error);
      }
    }
  };

  const read = async (): Promise<void> => {
    while (waiting.size > 0) {
      const batch = takeBatch();
      reading = batch;
      changed.clear();
      changedAll = false;
      // The age counts from before the statement: its snapshot is no older than that.
      const readAt = clock.monotonic();
      try {
        const rows = await devices.findMany([...batch.keys()]);
        // Too old on arrival: it cannot be told when the store looked.
        if (clock.monotonic() - readAt > FRESH_MS)
          throw new CodedError('store-unavailable', 'devices were read too slowly');
        settle(batch, rows, readAt);
      } catch (error) {
        for (const waiters of batch.values()) for (const waiter of waiters) waiter.reject(error);
      }
    }
    reading = null;
  };

  const enqueue = (id: string, waiter: Waiter | null): void => {
    const waiters = waiting.get(id);
    if (waiters === undefined) waiting.set(id, waiter === null ? [] : [waiter]);
    else if (waiter !== null) waiters.push(waiter);
    if (reading !== null) return;
    reading = new Map();
    // After this turn of the event loop: requests that arrived together are read together.
    setImmediate(() => void read());
  };

  return {
    lookup(id) {
      const now = clock.monotonic();
      const entry = known.get(id);
      if (entry !== undefined && now - entry.readAt < FRESH_MS) {
        if (now - entry.readAt >= REFRESH_MS && !waiting.has(id) && reading?.has(id) !== true) enqueue(id, null);
        return entry.device;
      }
      const missedAt = unknown.get(id);
      if (missedAt !== undefined && now - missedAt < UNKNOWN_MS) return null;
      return new Promise((resolve, reject) => enqueue(id, { resolve, reject }));
    },
    appeared(id) {
      if (known.has(id)) return;
      if (reading !== null) changed.add(id);
      unknown.delete(id);
    },
    invalidate(id) {
      if (reading !== null) changed.add(id);
      unknown.delete(id);
      const entry = known.get(id);
      if (entry !== undefined) known.set(id, { ...entry, readAt: Number.NEGATIVE_INFINITY });
    },
    invalidateAll() {
      changedAll = true;
      unknown.clear();
      for (const [id, entry] of known) known.set(id, { ...entry, readAt: Number.NEGATIVE_INFINITY });
    },
  };
}
