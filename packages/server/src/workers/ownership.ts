/**
 * Which partitions this worker owns: it takes its share of those that are free, and gives up what is more than its share,
 * so that workers that come, go or die leave every partition with one of the others.
 *
 * Guarantees: shares of all living workers add up to all partitions, so nobody waits for a partition that nobody wants;
 * a partition moves only when someone lacks one. What a worker believes about the others only decides who does the work:
 * that it is done once is the fence's business (`store/ports/log.ts`).
 * Time: a dead worker's partitions are taken over within lease + standing + poll (3 + 0.75 + 0.5 s).
 */
import type { Lease, Log } from '../store/ports/log.ts';
import { newOwned, type Owned } from './partition-state.ts';

/** This worker among those that live: `rank` from 0 to `workers` - 1, different for each. */
export interface Standing {
  readonly rank: number;
  readonly workers: number;
}

/** What ownership needs. */
export interface OwnershipOptions {
  readonly owner: string;
  readonly log: Pick<Log, 'acquire' | 'renew' | 'release'>;
  readonly standing: () => Standing;
  /** Groups of partitions that are shared out each for itself. */
  readonly groups: readonly (readonly number[])[];
  /** Partitions are ours now. */
  readonly taken: () => void;
  readonly lost: (partition: number) => void;
}

/** The partitions of this worker. */
export interface Ownership {
  readonly owned: ReadonlyMap<number, Owned>;
  /** Takes what is free, up to its share. */
  take(seize: boolean): Promise<void>;
  /** Extends the leases, drops what others have taken, gives up what is too much. */
  renew(): Promise<void>;
  lose(partition: number): void;
  releaseAll(): Promise<void>;
}

/** Of the leases, ms. */
export const LEASE_MS = 3000;

/** How many of `total` belong to the worker of this rank: all alike, the first ranks one more where they do not divide. */
export function shareOf(total: number, { rank, workers }: Standing): number {
  return Math.floor(total / workers) + (rank < total % workers ? 1 : 0);
}

/** False for a partition of someone else, or one whose fence was raised: no batch of this lease will ever be committed. */
export function isHeld(held: readonly Pick<Lease, 'partition' | 'fence'>[], { lease }: Owned): boolean {
  return held.some(({ partition, fence }) => partition === lease.partition && fence === lease.fence);
}

/** Creates it; nothing is owned yet. */
export function createOwnership(options: OwnershipOptions): Ownership {
  const { owner, log } = options;
  const owned = new Map<number, Owned>();
  const lose = (partition: number): void => {
    if (owned.delete(partition)) options.lost(partition);
  };
  // The odd ones of the second group go to the last ranks, so that nobody has more of both.
  const shares = (): { share: number; mine: number[]; others: number[] }[] =>
    options.groups.map((group, index) => {
      const { rank, workers } = options.standing();
      const share = shareOf(group.length, { rank: index % 2 === 0 ? rank : workers - 1 - rank, workers });
      return { share, mine: group.filter((p) => owned.has(p)), others: group.filter((p) => !owned.has(p)) };
    });

  async function take(seize: boolean): Promise<void> {
    for (const { share, mine, others } of shares()) {
      const most = share - mine.length;
      if (most <= 0) continue;
      const leases = await log.acquire(owner, { among: others, most, ttlMs: LEASE_MS, seize });
      for (const lease of leases) owned.set(lease.partition, newOwned(lease));
      if (leases.length > 0) options.taken();
    }
  }

  async function giveUp(): Promise<void> {
    const surplus = shares().flatMap(({ share, mine }) => mine.slice(share));
    if (surplus.length === 0) return;
    for (const partition of surplus) lose(partition);
    await log.release(owner, surplus);
  }

  return {
    owned,
    take,
    lose,
    async renew() {
      const before = [...owned.values()];
      // Only those: one that was given up while the store did not answer may still be in our name, and must run out.
      const held = await log.renew(owner, LEASE_MS, [...owned.keys()]);
      for (const own of before)
        if (owned.get(own.lease.partition) === own && !isHeld(held, own)) lose(own.lease.partition);
      await giveUp();
    },
    releaseAll: () => log.release(owner),
  };
}
