/**
 * This process among those that work on the same database: a row with a lease by the store's clock, renewed while it
 * lives, says who is there.
 *
 * Guarantees: without a shared bus only one process works on a database (two would not hear of each other's changes in
 * time): a start waits for the lease of one that died, and refuses beside one that lives; leases that all ran out
 * because the store was away do not let it in before their holders could renew them. With one, every process must be
 * on the same bus: a start beside instances that are on another one is refused, as far as the bus can be asked; a bus
 * that is away, or that keeps no leases (a full disk, no memory), never keeps a process from starting.
 * A process counts among the workers only while it works: one that is still starting, or whose start is refused again
 * and again, takes no share from those that work; one that ends gives its share away before it lets go.
 * Failure: while the store is away the last answer stands; nothing is thrown after the start.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Bus } from '../bus/ports/bus.ts';
import { CodedError } from '../lib/coded-error.ts';
import { repeat } from '../lib/repeat.ts';
import type { Database } from '../store/ports/database.ts';
import {
  enterInstance,
  hasLapsed,
  type InstanceFacts,
  renewInstance,
  withdrawInstance,
} from '../store/postgres/instances.ts';
import type { Standing } from '../workers/ownership.ts';

const LEASE_MS = 3000;
const RENEW_MS = 750;
const RETRY_MS = 250;
/** A process that must be alone gives others, whose leases have run out, so long to renew them. */
const GRACE_MS = 3000;
/** A bus that has not answered for so long after a start began is away. */
const AWAY_MS = 3000;
/** A start waits so long for leases of dead processes, and for living ones to appear on the bus. */
const PATIENCE_MS = LEASE_MS + 5000;

/** What joining needs. */
export interface MembershipOptions {
  readonly db: Database;
  readonly bus: Pick<Bus, 'shared' | 'healthy' | 'peers'>;
  readonly instance: string;
  /** A process that must be alone has taken this one's place. */
  readonly onLost: () => void;
  /** The bus does not show these instances, though it works for them: they are on another one. */
  readonly onStrangers: (ids: readonly string[]) => void;
  /** How long a start waits for others; 8,000 ms when absent. */
  readonly patienceMs?: number;
}

/** Being there. */
export interface Membership {
  /** This process among the workers, itself included whether it works or not. */
  standing(): Standing;
  /** Whether this process takes partitions from now on; the others hear of it within a renewal. Never rejects. */
  working(on: boolean): Promise<void>;
  leave(): Promise<void>;
}

/** Instances that a bus works for and that are not on ours. Pure. */
export function strangers(others: readonly InstanceFacts[], peers: readonly string[]): string[] {
  return others.filter(({ id, onBus }) => onBus && !peers.includes(id)).map(({ id }) => id);
}

/** The place of `instance` among the workers. Pure. */
export function standingOf(instance: string, others: readonly InstanceFacts[]): Standing {
  const workers = [instance, ...others.filter(({ worker }) => worker).map(({ id }) => id)].sort();
  return { rank: workers.indexOf(instance), workers: workers.length };
}

/** Joins. Rejects with `second-process` or `other-bus`. */
export async function join(options: MembershipOptions): Promise<Membership> {
  const { db, bus, instance } = options;
  let worker = false;
  let told: Promise<void> = Promise.resolve();
  const facts = (): InstanceFacts => ({ id: instance, shared: bus.shared, onBus: bus.shared && bus.healthy(), worker });
  const until = performance.now() + (options.patienceMs ?? PATIENCE_MS);
  const first = await enter(db, facts, until);
  let standing = standingOf(instance, first);
  const renew = async (): Promise<readonly InstanceFacts[]> => {
    const others = await renewInstance(db, facts(), LEASE_MS);
    if (others === null) options.onLost();
    else standing = standingOf(instance, others);
    return others ?? [];
  };
  const watch = async (): Promise<void> => {
    const others = await renew();
    if (!bus.shared || !bus.healthy()) return;
    const strange = strangers(others, await bus.peers());
    if (strange.length > 0) options.onStrangers(strange);
  };
  const leave = (): Promise<void> => withdrawInstance(db, instance).catch(() => undefined);
  try {
    if (bus.shared) await meetOnBus(options, first, renew, until);
  } catch (error) {
    await leave();
    throw error;
  }
  const end = repeat([{ name: 'renew', everyMs: RENEW_MS, work: watch }], () => undefined);
  return {
    standing: () => standing,
    working: (on) => {
      worker = on;
      told = renew().then(
        () => undefined,
        () => undefined,
      );
      return told;
    },
    leave: async () => {
      await end();
      // A renewal that comes after the leaving would enter us anew.
      await told;
      await leave();
    },
  };
}

async function enter(db: Database, facts: () => InstanceFacts, until: number): Promise<readonly InstanceFacts[]> {
  const { id, shared } = facts();
  for (;;) {
    if (!shared && (await hasLapsed(db, id))) await pause(GRACE_MS);
    const others = await enterInstance(db, facts(), LEASE_MS);
    if (others !== null) return others;
    if (performance.now() > until) {
      const detail = 'another process works on this database; several need a shared bus (REDIS_URL), all of them';
      throw new CodedError('second-process', detail);
    }
    await pause(RETRY_MS);
  }
}

/**
 * Waits until an instance that a bus works for is seen on ours, or none is left. Where not even we are seen, nobody can
 * be. One is enough: one that has just died is not on the bus any more, and in the store until its lease runs out.
 */
async function meetOnBus(
  { bus, instance }: Pick<MembershipOptions, 'bus' | 'instance'>,
  first: readonly InstanceFacts[],
  renew: () => Promise<readonly InstanceFacts[]>,
  until: number,
): Promise<void> {
  let others = first;
  const awayAt = Math.min(until, performance.now() + AWAY_MS);
  for (;;) {
    if (others.every(({ onBus }) => !onBus)) return;
    const peers = await bus.peers().catch(() => null);
    if (peers === null) {
      // One that is only not connected yet is no bus that is away.
      if (performance.now() > awayAt) return;
    } else if (others.some(({ id, onBus }) => onBus && peers.includes(id))) return;
    else if (performance.now() > until) {
      if (!peers.includes(instance)) return;
      const detail = 'other processes of this database are on another Redis; all need the same bus';
      throw new CodedError('other-bus', detail);
    }
    await pause(RETRY_MS);
    others = await renew();
  }
}
