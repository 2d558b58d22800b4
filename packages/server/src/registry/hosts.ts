/**
 * Hosts that nobody registered: whoever reports under an id that is not there gets a row of profile `host` without a key.
 *
 * Guarantees: many that appear at once are one statement ({@link ENROL_BATCH}); of several instances that enrol the same
 * id one makes the row and all answer it; what is there (revoked, inactive, registered) is answered as it is.
 * Bounds: `most` self-reported rows in the installation, beyond them null; {@link ENROL_WAITING} ids that wait here.
 * Failure: `store-unavailable`; the refusal `overloaded` when too many wait.
 */
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import type { Clock } from '../lib/clock.ts';
import type { HostStore } from '../store/ports/registry.ts';
import { ANNOUNCED_MOST } from './changes.ts';
import type { DeviceForIngest, Directory } from './directory.ts';

/** The most ids of one statement and of one announcement. */
export const ENROL_BATCH: number = ANNOUNCED_MOST;
/** The most ids that wait to be enrolled. */
export const ENROL_WAITING = 20_000;
/** For how long after "no room" nothing is tried, ms: a flood of new ids must not count rows all the time. */
export const FULL_MS = 1000;
const RETRY_AFTER_MS = 1000;

/** Self-reported hosts. */
export interface HostRegistry {
  /**
   * The host with this id, with a row made for it when there is none; null when there is no room for one more (or the text
   * is no identifier). For ids of which the directory knows nothing.
   */
  enrol(id: string): Promise<DeviceForIngest | null>;
}

/** What {@link createHostRegistry} needs. */
export interface HostRegistryOptions {
  readonly hosts: Pick<HostStore, 'enrol'>;
  readonly directory: Pick<Directory, 'lookup' | 'appeared'>;
  readonly clock: Clock;
  /** The most self-reported rows of the installation. */
  readonly most: number;
  /** Called after the commit, with at most {@link ENROL_BATCH} ids. */
  readonly announce: (ids: readonly string[]) => void;
}

interface Waiter {
  readonly resolve: (device: DeviceForIngest | null) => void;
  readonly reject: (error: unknown) => void;
}

/** Builds the service. */
export function createHostRegistry(options: HostRegistryOptions): HostRegistry {
  const { hosts, directory, clock, most, announce } = options;
  const waiting = new Map<string, Waiter[]>();
  let enrolling = false;
  let fullUntil = Number.NEGATIVE_INFINITY;

  const makeRows = async (ids: readonly string[]): Promise<void> => {
    if (clock.monotonic() >= fullUntil) {
      const { made, room } = await hosts.enrol(ids, clock.now(), most);
      if (!room) fullUntil = clock.monotonic() + FULL_MS;
      if (made.length > 0) announce(made);
    }
    // Also those that another instance made since they were looked up here.
    for (const id of ids) directory.appeared(id);
  };

  const settle = async (batch: ReadonlyMap<string, Waiter[]>): Promise<void> => {
    try {
      await makeRows([...batch.keys()]);
    } catch (error) {
      for (const waiters of batch.values()) for (const { reject } of waiters) reject(error);
      return;
    }
    // Not awaited by the next batch: the directory has a batch of its own.
    for (const [id, waiters] of batch) {
      const found = Promise.resolve(directory.lookup(id));
      for (const { resolve, reject } of waiters) found.then(resolve, reject);
    }
  };

  const run = async (): Promise<void> => {
    while (waiting.size > 0) {
      const batch = new Map<string, Waiter[]>();
      for (const [id, waiters] of waiting) {
        if (batch.size === ENROL_BATCH) break;
        batch.set(id, waiters);
        waiting.delete(id);
      }
      await settle(batch);
    }
    enrolling = false;
  };

  return {
    enrol(id) {
      if (!isIdentifier(id)) return Promise.resolve(null);
      const waiters = waiting.get(id);
      if (waiters === undefined && waiting.size >= ENROL_WAITING) {
        const detail = 'Too many hosts report for the first time at once';
        return Promise.reject(new RefusalError({ code: 'overloaded', detail, retryAfterMs: RETRY_AFTER_MS }));
      }
      return new Promise((resolve, reject) => {
        if (waiters === undefined) waiting.set(id, [{ resolve, reject }]);
        else waiters.push({ resolve, reject });
        if (enrolling) return;
        enrolling = true;
        // After this turn of the event loop: hosts that appeared together are enrolled together.
        setImmediate(() => void run());
      });
    },
  };
}
