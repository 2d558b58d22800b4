import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Wanted } from '../store/ports/log.ts';
import { createOwnership, type Ownership, shareOf, type Standing } from './ownership.ts';

describe('shares of partitions', () => {
  it('add up to all partitions, and differ by one at most', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 40 }), (total, workers) => {
        const shares = Array.from({ length: workers }, (_, rank) => shareOf(total, { rank, workers }));
        expect(shares.reduce((sum, share) => sum + share, 0)).toBe(total);
        expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
      }),
    );
  });

  const groups = [Array.from({ length: 12 }, (_, i) => i), [12, 13, 14, 15]];
  /** Leases in memory; fences as the store would raise them. */
  function board() {
    const owners = new Map<number, string>();
    const fences = new Map<number, number>();
    const log = {
      acquire: async (owner: string, { among, most }: Wanted) => {
        const free = among.filter((p) => (owners.get(p) ?? owner) === owner).slice(0, most);
        return free.map((partition) => {
          owners.set(partition, owner);
          fences.set(partition, (fences.get(partition) ?? 0) + 1);
          return { partition, fence: fences.get(partition) ?? 0, position: 0 };
        });
      },
      renew: async (owner: string, _ttlMs: number, partitions: readonly number[]) => {
        // Leases that are not renewed run out.
        for (const [p, o] of [...owners]) if (o === owner && !partitions.includes(p)) owners.delete(p);
        return [...owners].filter(([, o]) => o === owner).map(([p]) => ({ partition: p, fence: fences.get(p) ?? 0 }));
      },
      release: async (owner: string, partitions?: readonly number[]) => {
        for (const [p, o] of [...owners]) if (o === owner && partitions?.includes(p) !== false) owners.delete(p);
      },
    };
    return { owners, log };
  }

  it('are reached by workers that come and go, whatever the order, with every partition owned', async () => {
    const steps = fc.array(fc.record({ who: fc.nat(4), what: fc.constantFrom('come', 'go', 'die') }), {
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (moves) => {
        const { owners, log } = board();
        const alive = new Map<string, Ownership>();
        const standing = (name: string) => (): Standing => {
          const names = [...alive.keys()].sort();
          return { rank: names.indexOf(name), workers: names.length };
        };
        const settle = async (): Promise<void> => {
          for (let round = 0; round < 3; round += 1) {
            for (const worker of alive.values()) await worker.renew();
            for (const worker of alive.values()) await worker.take(false);
          }
        };
        for (const { who, what } of moves) {
          const name = `w${who}`;
          const worker = alive.get(name);
          if (what === 'come' && worker === undefined) {
            const options = { owner: name, log, standing: standing(name), groups, taken: () => {}, lost: () => {} };
            alive.set(name, createOwnership(options));
          } else if (what !== 'come' && worker !== undefined) {
            alive.delete(name);
            // A dead worker's leases run out.
            if (what === 'go') await worker.releaseAll();
            else for (const [p, o] of [...owners]) if (o === name) owners.delete(p);
          }
          await settle();
          if (alive.size === 0) continue;
          expect(owners.size).toBe(16);
          const counts = [...alive.values()].map(({ owned }) => owned.size);
          expect(counts.reduce((sum, n) => sum + n, 0)).toBe(16);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('are given up also when the store did not answer: nobody holds on to what nobody works on', async () => {
    const { owners, log } = board();
    let workers = 1;
    let away = false;
    const release = async (owner: string, partitions?: readonly number[]): Promise<void> => {
      if (away) throw new Error('the store is away');
      await log.release(owner, partitions);
    };
    const standing = (rank: number) => (): Standing => ({ rank, workers });
    const options = { groups, taken: () => {}, lost: () => {} };
    const one = createOwnership({ ...options, owner: 'a', log: { ...log, release }, standing: standing(0) });
    const two = createOwnership({ ...options, owner: 'b', log, standing: standing(1) });
    await one.take(false);
    workers = 2;
    away = true;
    await expect(one.renew()).rejects.toThrow('away');
    away = false;
    await one.renew();
    await two.take(false);
    expect([one.owned.size, two.owned.size, owners.size]).toEqual([8, 8, 16]);
  });

  it('are all worked on again soon after a time in which answers of the store were lost, and statements too', async () => {
    const step = fc.record({
      who: fc.nat(2),
      what: fc.constantFrom('renew', 'take', 'both', 'come', 'die'),
      lost: fc.nat(2),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const rows = new Map(groups.flat().map((p) => [p, { owner: '', fence: 0, until: 0 }]));
        const alive = new Map<string, Ownership>();
        let now = 0;
        let lost = 0;
        /** 0: all is well; 1: the statement takes effect, its answer is lost; 2: the statement is lost. */
        const answer = async <Result>(work: () => Result): Promise<Result> => {
          if (lost === 2) throw new Error('away');
          const result = work();
          await Promise.resolve();
          if (lost === 1) throw new Error('away');
          return result;
        };
        const log = {
          acquire: (owner: string, { among, most, ttlMs }: Wanted) =>
            answer(() => {
              const free = [...rows].filter(([p, r]) => among.includes(p) && (r.owner === owner || r.until < now));
              return free.slice(0, most).map(([partition, row]) => {
                Object.assign(row, { owner, fence: row.fence + 1, until: now + ttlMs });
                return { partition, fence: row.fence, position: 0 };
              });
            }),
          renew: (owner: string, ttlMs: number, partitions: readonly number[]) =>
            answer(() => {
              const held = [...rows].filter(([p, r]) => partitions.includes(p) && r.owner === owner && r.until >= now);
              return held.map(([partition, row]) => {
                row.until = now + ttlMs;
                return { partition, fence: row.fence };
              });
            }),
          release: (owner: string, partitions?: readonly number[]) =>
            answer(() => {
              for (const [p, row] of rows)
                if (row.owner === owner && partitions?.includes(p) !== false)
                  Object.assign(row, { owner: '', until: -1 });
            }),
        };
        const standing = (name: string) => (): Standing => {
          const names = [...alive.keys()].sort();
          return { rank: names.indexOf(name), workers: names.length };
        };
        const events = { taken: () => undefined, lost: () => undefined };
        for (const { who, what, lost: how } of [...steps, { who: 0, what: 'come', lost: 0 }]) {
          const name = `w${who}`;
          const worker = alive.get(name);
          now += 500;
          lost = how;
          if (what === 'die') alive.delete(name);
          else if (what === 'come' && worker === undefined)
            alive.set(name, createOwnership({ owner: name, log, standing: standing(name), groups, ...events }));
          else if (what === 'both')
            await Promise.allSettled([worker?.take(false), worker?.renew(), worker?.take(false)]);
          else await (what === 'renew' ? worker?.renew() : worker?.take(false))?.catch(() => undefined);
        }
        lost = 0;
        for (const until = now + 9000; now < until; now += 500) {
          for (const worker of alive.values()) await worker.take(false);
          if (now % 1500 === 0) for (const worker of alive.values()) await worker.renew();
        }
        const worked = [...alive].flatMap(([name, { owned }]) =>
          [...owned].filter(([p, { lease }]) => rows.get(p)?.owner === name && rows.get(p)?.fence === lease.fence),
        );
        expect(worked).toHaveLength(16);
      }),
      { numRuns: 300 },
    );
  });

  it('lose a partition whose fence was raised elsewhere, and take it anew', async () => {
    const { log } = board();
    const lost: number[] = [];
    const standing = (): Standing => ({ rank: 0, workers: 1 });
    const one = createOwnership({ owner: 'a', log, standing, groups, taken: () => {}, lost: (p) => lost.push(p) });
    await one.take(false);
    await log.acquire('a', { among: [3], most: 1, ttlMs: 1, seize: false });
    await one.renew();
    expect(lost).toEqual([3]);
    await one.take(false);
    expect(one.owned.get(3)?.lease.fence).toBe(3);
  });
});
