import { openTestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { afterEach, describe, expect, test } from 'vitest';
import type { MqttSlots } from '../ports/mqtt-slots.ts';
import { createMqttSlots } from './mqtt-slots.ts';

const LEASE_MS = 60_000;
const OVER = -1;
const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

describe.each(engines)('slots of the link to a broker on %s', (engine) => {
  async function open(): Promise<MqttSlots> {
    const { db, close } = await openTestDatabase(engine);
    ends.push(close);
    return createMqttSlots(db);
  }

  test('the installation has one name, whoever asks first', async () => {
    const slots = await open();
    const names = await Promise.all(Array.from({ length: 8 }, () => slots.installation()));
    expect(new Set(names).size).toBe(1);
    expect(names[0]).toMatch(/^[0-9a-f]{12}$/);
  });

  test('slot 0 is held by one; the others get none until its holder says that the broker shares', async () => {
    const slots = await open();
    const claims = await Promise.all(['a', 'b', 'c'].map((owner) => slots.claim(owner, LEASE_MS)));
    const [held, ...none] = claims.sort((a, b) => Number(a === null) - Number(b === null));
    expect(held).toMatchObject({ number: 0, filters: [] });
    expect(none).toEqual([null, null]);
    if (held === null || held === undefined) return;
    await slots.note(held, { filters: ['x'], shared: false });
    expect(await slots.claim('b', LEASE_MS)).toBeNull();
    await slots.note(held, { filters: ['x'], shared: true });
    const more = await Promise.all(['b', 'c'].map((owner) => slots.claim(owner, LEASE_MS)));
    expect(new Set(more.map((slot) => slot?.number))).toEqual(new Set([1, 2]));
  });

  test('a lease that ran out is still its holder’s while nobody else took the slot', async () => {
    const slots = await open();
    const slot = await slots.claim('a', OVER);
    if (slot === null) throw new Error('no slot');
    expect(await slots.renew(slot, LEASE_MS)).toBe(1);
    expect(await slots.adopt('b', LEASE_MS)).toBeNull();
  });

  test('a slot that was taken over is no longer the one before’s to renew, note, give up or remove', async () => {
    const slots = await open();
    const before = await slots.claim('a', OVER);
    if (before === null) throw new Error('no slot');
    await slots.note(before, { filters: ['x'], shared: false });
    const now = await slots.claim('b', LEASE_MS);
    expect(now).toMatchObject({ number: 0, filters: ['x'] });
    expect(now?.fence).not.toBe(before.fence);
    expect(await slots.renew(before, LEASE_MS)).toBeNull();
    expect(await slots.note(before, { filters: ['y'], shared: true })).toBe(false);
    await slots.release(before);
    await slots.remove(before);
    expect(await slots.claim('c', LEASE_MS)).toBeNull();
  });

  test('is adopted while a process that is frozen holds the lock of those who claim; who stands by waits for nobody', async () => {
    const { db, close } = await openTestDatabase(engine);
    ends.push(close);
    const slots = createMqttSlots(db);
    const given = await slots.claim('a', OVER);
    const found = await db.transaction(async (sql) => {
      await sql.execute('SELECT pg_advisory_xact_lock(7420032)');
      const adopted = await slots.adopt('b', LEASE_MS);
      return { adopted, claimed: await slots.claim('c', LEASE_MS) };
    });
    expect(found.adopted).toMatchObject({ number: given?.number });
    expect(found.claimed).toBeNull();
  });

  test('an orphan is adopted by one of many who look at once, and by nobody who claims meanwhile', async () => {
    const slots = await open();
    for (let round = 0; round < 10; round++) {
      const orphan = await slots.claim('a', OVER);
      if (orphan === null) throw new Error('no slot');
      await slots.note(orphan, { filters: [], shared: true });
      const looks = Array.from({ length: 6 }, (_, n) => slots.adopt(`b${n}`, LEASE_MS));
      const claims = Array.from({ length: 2 }, (_, n) => slots.claim(`c${n}`, LEASE_MS));
      const got = (await Promise.all([...looks, ...claims])).filter((slot) => slot !== null);
      expect(new Set(got.map(({ number }) => number)).size).toBe(got.length);
      for (const slot of got) expect(await slots.renew(slot, LEASE_MS)).not.toBeNull();
      for (const slot of got) await slots.remove(slot);
    }
  });

  test('one that was given up is adopted at once, with its filters, by one; removed it is gone, and its fence never comes again', async () => {
    const slots = await open();
    const own = await slots.claim('a', LEASE_MS);
    if (own === null) throw new Error('no slot');
    await slots.note(own, { filters: ['x'], shared: true });
    const second = await slots.claim('b', LEASE_MS);
    if (second === null) throw new Error('no slot');
    await slots.note(second, { filters: ['y'], shared: true });
    await slots.release(second);
    const adopted = await Promise.all(['a', 'c'].map((owner) => slots.adopt(owner, LEASE_MS)));
    const [slot] = adopted.flatMap((found) => found ?? []);
    expect(adopted.filter((found) => found === null)).toHaveLength(1);
    if (slot === undefined) throw new Error('not adopted');
    expect(slot).toMatchObject({ number: 1, filters: ['y'] });
    await slots.remove(slot);
    const next = await slots.claim('c', LEASE_MS);
    expect(next).toMatchObject({ number: 1, filters: [] });
    expect(await slots.renew(slot, LEASE_MS)).toBeNull();
  });

  test('a renewal says how many work: owners count once, and only while they hold something', async () => {
    const slots = await open();
    const zero = await slots.claim('a', LEASE_MS);
    if (zero === null) throw new Error('no slot');
    await slots.note(zero, { filters: [], shared: true });
    expect(await slots.renew(zero, LEASE_MS)).toBe(1);
    const one = await slots.claim('b', LEASE_MS);
    const two = await slots.claim('c', OVER);
    if (one === null || two === null) throw new Error('no slot');
    expect(await slots.renew(zero, LEASE_MS)).toBe(2);
    await slots.adopt('a', LEASE_MS);
    expect(await slots.renew(zero, LEASE_MS)).toBe(2);
    expect(await slots.renew(one, LEASE_MS)).toBe(2);
    await slots.release(one);
    expect(await slots.renew(zero, LEASE_MS)).toBe(1);
  });

  test('whoever looks for a slot to work in takes the lowest that nobody holds', async () => {
    const slots = await open();
    const zero = await slots.claim('a', LEASE_MS);
    if (zero === null) throw new Error('no slot');
    await slots.note(zero, { filters: [], shared: true });
    const one = await slots.claim('b', LEASE_MS);
    if (one === null) throw new Error('no slot');
    expect([one.number, (await slots.claim('c', LEASE_MS))?.number]).toEqual([1, 2]);
    await slots.release(one);
    expect((await slots.claim('d', LEASE_MS))?.number).toBe(1);
    expect((await slots.claim('e', LEASE_MS))?.number).toBe(3);
  });
});
