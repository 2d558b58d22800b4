import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { dropLease, holdLease } from '../store/postgres/leases.ts';
import { join, type Membership, type MembershipOptions } from './membership.ts';

describe('processes on one database', () => {
  let database: TestDatabase;
  const members: Membership[] = [];
  beforeEach(async () => {
    database = await openTestDatabase();
  });
  afterEach(async () => {
    await Promise.all(members.splice(0).map((member) => member.leave()));
    await database.close();
  });
  const busOf = (peers: readonly string[] | null) => ({
    shared: true,
    healthy: () => peers !== null,
    peers: async () => {
      if (peers === null) throw new Error('away');
      return peers;
    },
  });
  const ALONE = { ...busOf(null), shared: false };
  const enter = async (instance: string, change: Partial<MembershipOptions> = {}): Promise<Membership> => {
    const member = await join({
      db: database.db,
      bus: busOf(['a', 'b', 'c']),
      instance,
      onLost: () => undefined,
      onStrangers: () => undefined,
      patienceMs: 100,
      ...change,
    });
    members.push(member);
    return member;
  };

  it('one without a shared bus is alone: it lets nobody in, and comes into nothing', async () => {
    await enter('a', { bus: ALONE });
    await expect(enter('b', { bus: ALONE })).rejects.toMatchObject({ code: 'second-process' });
    await expect(enter('b')).rejects.toMatchObject({ code: 'second-process' });
    await members.splice(0)[0]?.leave();
    await enter('b');
    await expect(enter('a', { bus: ALONE })).rejects.toMatchObject({ code: 'second-process' });
  });

  it('waits for the lease of one that died', async () => {
    await database.db.execute("INSERT INTO instances (id, lease_until) VALUES ('dead', now_ms() + 300)");
    await enter('b', { bus: ALONE, patienceMs: 5000 });
  });

  it('on a shared bus everybody learns how many workers there are, and of those that leave', async () => {
    const all = await Promise.all(['a', 'b', 'c'].map((id) => enter(id)));
    expect(all[0]?.standing()).toEqual({ rank: 0, workers: 1 });
    await Promise.all(all.slice(0, 2).map((member) => member.working(true)));
    const ranks = () => all.slice(0, 2).map((member) => member.standing());
    await vi.waitFor(
      () =>
        expect(ranks()).toEqual([
          { rank: 0, workers: 2 },
          { rank: 1, workers: 2 },
        ]),
      5000,
    );
    await all[0]?.working(false);
    await vi.waitFor(() => expect(all[1]?.standing()).toEqual({ rank: 0, workers: 1 }), 5000);
  });

  it('a process that starts, or whose start is refused, takes no share from those that work', async () => {
    const a = await enter('a');
    await a.working(true);
    const shares = new Set<number>();
    const watch = setInterval(() => shares.add(a.standing().workers), 20);
    await expect(enter('b', { bus: busOf(['b']), patienceMs: 2000 })).rejects.toMatchObject({ code: 'other-bus' });
    await enter('c');
    clearInterval(watch);
    expect([...shares]).toEqual([1]);
  });

  it('a bus that carries messages but keeps no leases keeps nobody from starting', async () => {
    await enter('a', { bus: busOf([]) });
    await enter('b', { bus: busOf([]) });
  });

  it('a start beside processes on another bus is refused; one whose bus is away starts', async () => {
    await enter('a');
    await expect(enter('b', { bus: busOf(['b']) })).rejects.toMatchObject({ code: 'other-bus' });
    await enter('b', { bus: busOf(null) });
    const rows = await database.db.query('SELECT id, on_bus FROM instances ORDER BY id');
    expect(rows).toEqual([
      { id: 'a', on_bus: true },
      { id: 'b', on_bus: false },
    ]);
  });

  it('one that died and is not on the bus any more does not hold a start up, when another is seen there', async () => {
    await enter('a');
    await database.db.execute(
      "INSERT INTO instances (id, shared, on_bus, lease_until) VALUES ('dead', true, true, now_ms() + 60000)",
    );
    await enter('b', { bus: busOf(['a', 'b']) });
    await expect(enter('c', { bus: busOf(['c']) })).rejects.toMatchObject({ code: 'other-bus' });
  });

  it('a bus that is only not connected yet is waited for, so that another one is noticed', async () => {
    await enter('a');
    let asked = 0;
    const late = {
      ...busOf(['b']),
      peers: async () => ((asked += 1) < 4 ? Promise.reject(new Error('not yet')) : ['b']),
    };
    await expect(enter('b', { bus: late, patienceMs: 1500 })).rejects.toMatchObject({ code: 'other-bus' });
  });

  it('strangers that appear later are told', async () => {
    const told: string[] = [];
    await enter('b', { bus: busOf(['b']), onStrangers: (ids) => told.push(...ids) });
    await enter('a', { bus: busOf(['a', 'b']) });
    await vi.waitFor(() => expect(told).toContain('a'), 5000);
  });

  it('one whose lease ran out while it was frozen comes back, unless somebody must be alone by now', async () => {
    let lost = 0;
    await enter('a', { onLost: () => (lost += 1) });
    await database.db.execute('DELETE FROM instances');
    await vi.waitFor(async () => expect(await database.db.query('SELECT id FROM instances')).toHaveLength(1), 5000);
    expect(lost).toBe(0);
    await database.db.execute("UPDATE instances SET id = 'x', shared = false, lease_until = now_ms() + 60000");
    await vi.waitFor(() => expect(lost).toBeGreaterThan(0), 5000);
  });

  it('one that must be alone does not slip in while the leases of the others have run out with the store', async () => {
    let lost = 0;
    await enter('a', { onLost: () => (lost += 1) });
    await database.db.execute('UPDATE instances SET lease_until = now_ms() - 60000');
    await expect(enter('b', { bus: ALONE })).rejects.toMatchObject({ code: 'second-process' });
    expect(lost).toBe(0);
  });

  it('a lease by name has one holder at a time, and the next one when it ends', async () => {
    const { db } = database;
    expect(await holdLease(db, 'x', 'a', 60_000)).toBe(true);
    expect(await holdLease(db, 'x', 'a', 60_000)).toBe(true);
    expect(await holdLease(db, 'x', 'b', 60_000)).toBe(false);
    await dropLease(db, 'x', 'b');
    expect(await holdLease(db, 'x', 'b', 60_000)).toBe(false);
    await dropLease(db, 'x', 'a');
    expect(await holdLease(db, 'x', 'b', -1)).toBe(true);
    expect(await holdLease(db, 'x', 'a', 60_000)).toBe(true);
  });
});
