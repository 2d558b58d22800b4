/** The contract of the log's port, for every implementation. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, test, vi } from 'vitest';
import { devicePartitions } from '../../lib/partition.ts';
import type { Database } from '../ports/database.ts';
import type { EnvelopeAppend, Lease, Log, LogRecord, Wanted } from '../ports/log.ts';

/** What the suite runs on: an empty log, and the database that its transactions live in. */
export interface LogUnderTest {
  readonly log: Log;
  readonly db: Database;
}

const DAY_MS = 86_400_000;
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** An envelope for tests. */
export function sample(device: string, id: string, partition = 3, content = 'same'): EnvelopeAppend {
  return {
    deviceId: device,
    envelopeId: id,
    digest: digest(content),
    partition,
    kind: 'envelope',
    receivedAt: 1_700_000_000_000,
    traceparent: null,
    context: { device: 7, zone: 2, zoneId: 'z-1' },
    body: `body of ${device} ${id} with "quotes", {braces}, \\ and ö`,
  };
}

/** A frame for tests: its id tells its content. */
export function frame(device: string, id: string, partition = 3): EnvelopeAppend {
  return { ...sample(device, id, partition), digest: Buffer.alloc(0), kind: 'frame' };
}

/** Everything of a partition: an answer may end before what others appended. */
async function readAll(log: Log, partition: number): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for (;;) {
    const found = await log.read([{ partition, position: records.at(-1)?.offset ?? 0 }], 10, 1e6);
    if (found.length === 0) return records;
    records.push(...found);
  }
}

/** Runs the contract. */
export function logContract(fresh: () => Promise<LogUnderTest>): void {
  let log: Log;
  let db: Database;
  beforeEach(async () => {
    ({ log, db } = await fresh());
  });
  const wanted = (part: Partial<Wanted> = {}): Wanted => ({
    among: Array.from({ length: log.partitions }, (_, i) => i),
    most: log.partitions,
    ttlMs: 60_000,
    seize: false,
    ...part,
  });
  const only = async (partition: number): Promise<Lease> => {
    const lease = (await log.acquire('me', wanted({ seize: true }))).find((other) => other.partition === partition);
    if (lease === undefined) throw new Error('no lease');
    return lease;
  };

  test('records come back whole, in the order of their commits, without gaps', async () => {
    await log.append([sample('a', '1'), sample('b', '1'), sample('a', '2', 4)]);
    await log.append([sample('c', '1')]);
    const records = await log.read([{ partition: 3, position: 0 }], 100, 1e6);
    expect(records.map((record) => record.offset)).toEqual([1, 2, 3]);
    expect(records[0]).toEqual({
      partition: 3,
      offset: 1,
      kind: 'envelope',
      receivedAt: 1_700_000_000_000,
      key: 'a',
      traceparent: null,
      context: { device: 7, zone: 2, zoneId: 'z-1' },
      body: sample('a', '1').body,
    });
    expect((await log.read([{ partition: 4, position: 0 }], 100, 1e6)).map((record) => record.key)).toEqual(['a']);
  });

  test('an id is accepted once; equal content is a replay, other content a conflict', async () => {
    expect(await log.append([sample('a', '1')])).toEqual(['accepted']);
    expect(await log.append([sample('a', '1'), sample('a', '1', 3, 'other'), sample('b', '1')])).toEqual([
      'replay',
      'id-conflict',
      'accepted',
    ]);
    expect(await log.append([sample('c', '1'), sample('c', '1'), sample('c', '1', 3, 'other')])).toEqual([
      'accepted',
      'replay',
      'id-conflict',
    ]);
    expect((await log.read([{ partition: 3, position: 0 }], 100, 1e6)).map((record) => record.key)).toEqual([
      'a',
      'b',
      'c',
    ]);
  });

  test('the same ids from many sides at once are accepted once each, and offsets have no gaps', async () => {
    const devices = devicePartitions(log.partitions);
    const side = (first: number): EnvelopeAppend[] =>
      Array.from({ length: 40 }, (_, i) => (i * 7 + first) % 40).map((d) => sample(`d${d}`, 'x', d % devices));
    const sides = Array.from({ length: 8 }, (_, i) => side(i));
    const outcomes = (await Promise.all(sides.map((envelopes) => log.append(envelopes)))).flat();
    expect(outcomes.filter((outcome) => outcome === 'accepted')).toHaveLength(40);
    expect(outcomes.filter((outcome) => outcome === 'replay')).toHaveLength(280);
    for (const { partition, head } of await log.state()) {
      const offsets = (await log.read([{ partition, position: 0 }], 100, 1e6)).map((record) => record.offset);
      expect(offsets).toEqual(Array.from({ length: head }, (_, i) => i + 1));
    }
  });

  test('a read stops at its limits but always brings one record', async () => {
    await log.append([sample('a', '1'), sample('b', '1'), sample('c', '1')]);
    expect(await log.read([{ partition: 3, position: 0 }], 2, 1e6)).toHaveLength(2);
    expect(await log.read([{ partition: 3, position: 1 }], 10, 1)).toHaveLength(1);
    expect(await log.read([{ partition: 3, position: 3 }], 10, 1e6)).toEqual([]);
  });

  test('a batch counts once, and only for the owner with the newest fence', async () => {
    await log.append([sample('a', '1'), sample('b', '1')]);
    const old = await only(3);
    const newer = (await log.acquire('other', wanted({ seize: true }))).find((lease) => lease.partition === 3);
    if (newer === undefined) throw new Error('no lease');
    expect(newer.fence).toBeGreaterThan(old.fence);
    expect(await log.advance(db, [{ lease: old, position: 2 }])).toEqual([]);
    expect(await log.advance(db, [{ lease: newer, position: 2 }])).toEqual([3]);
    expect(await log.advance(db, [{ lease: newer, position: 2 }])).toEqual([]);
    expect((await log.state())[3]).toEqual({ partition: 3, head: 2, position: 2 });
  });

  test('several partitions are read and moved at once, each from where it stands', async () => {
    await log.append([
      sample('a', '1', 2),
      sample('b', '1', 2),
      sample('c', '1', 9),
      sample('d', '1', 9),
      sample('e', '1', 11),
    ]);
    const from = [
      { partition: 9, position: 1 },
      { partition: 2, position: 0 },
      { partition: 4, position: 0 },
    ];
    expect((await log.read(from, 10, 1e6)).map(({ partition, key }) => [partition, key])).toEqual([
      [2, 'a'],
      [2, 'b'],
      [9, 'd'],
    ]);
    expect(await log.read(from, 1, 1e6)).toHaveLength(2);
    const leases = await log.acquire('me', wanted({ seize: true }));
    const batches = leases
      .filter(({ partition }) => [2, 9].includes(partition))
      .map((lease) => ({ lease, position: 2 }));
    const stale = { lease: { partition: 11, fence: 0, position: 0 }, position: 1 };
    expect((await log.advance(db, [...batches, stale])).sort((a, b) => a - b)).toEqual([2, 9]);
  });

  test('leases are held by one owner until they run out, are given up, or are seized', async () => {
    expect(await log.acquire('a', wanted())).toHaveLength(log.partitions);
    expect(await log.acquire('b', wanted())).toEqual([]);
    expect(await log.renew('a', 60_000, wanted().among)).toHaveLength(log.partitions);
    expect(await log.renew('b', 60_000, wanted().among)).toEqual([]);
    await log.release('a');
    expect(await log.acquire('b', wanted({ ttlMs: -1 }))).toHaveLength(log.partitions);
    expect(await log.renew('b', 60_000, wanted().among)).toEqual([]);
    const among = wanted().among.slice(2);
    expect(await log.acquire('c', wanted({ among }))).toHaveLength(log.partitions - 2);
  });

  test('a renewal tells the fence of the store, so that one raised in the owner’s name does not go unnoticed', async () => {
    const [lease] = await log.acquire('a', wanted());
    await log.acquire('a', wanted());
    const held = await log.renew('a', 60_000, wanted().among);
    expect(held.find(({ partition }) => partition === lease?.partition)?.fence).toBe((lease?.fence ?? 0) + 1);
  });

  test('a renewal leaves out what the owner does not name, so that it runs out', async () => {
    await log.acquire('a', wanted({ ttlMs: 200 }));
    const named = wanted().among.slice(1);
    expect(await log.renew('a', 60_000, named)).toHaveLength(named.length);
    const taken = async (): Promise<number[]> => (await log.acquire('b', wanted())).map((lease) => lease.partition);
    await vi.waitFor(async () => expect(await taken()).toEqual([0]), 5000);
  });

  test('an owner takes back a partition in its name that it no longer works on', async () => {
    await log.acquire('a', wanted());
    const among = [log.partitions - 1];
    expect((await log.acquire('a', wanted({ among }))).map((lease) => lease.partition)).toEqual(among);
  });

  test('an owner takes no more than it asks for, and may give up some and keep the others', async () => {
    const first = await log.acquire('a', wanted({ most: 3 }));
    expect(first).toHaveLength(3);
    const second = await log.acquire('b', wanted());
    expect(second).toHaveLength(log.partitions - 3);
    const partitions = first.map((lease) => lease.partition);
    await log.release('a', partitions.slice(0, 1));
    await log.release('b', partitions);
    expect(await log.renew('a', 60_000, wanted().among)).toHaveLength(2);
    expect(await log.renew('b', 60_000, wanted().among)).toHaveLength(log.partitions - 3);
    expect((await log.acquire('c', wanted())).map((lease) => lease.partition)).toEqual(partitions.slice(0, 1));
  });

  test('findings enter the log in the caller’s transaction', async () => {
    const partition = log.partitions - 1;
    const finding = {
      partition,
      kind: 'finding',
      receivedAt: 1,
      key: 'zone:z',
      traceparent: null,
      body: '[]',
    } as const;
    const failed = db.transaction(async (sql) => {
      await log.appendKeyed(sql, [finding]);
      throw new Error('no');
    });
    await expect(failed).rejects.toThrow('no');
    expect(await log.read([{ partition, position: 0 }], 10, 1e6)).toEqual([]);
    await db.transaction((sql) => log.appendKeyed(sql, [finding, { ...finding, key: 'zone:y' }]));
    expect(
      (await log.read([{ partition, position: 0 }], 10, 1e6)).map(({ offset, key, context }) => [offset, key, context]),
    ).toEqual([
      [1, 'zone:z', null],
      [2, 'zone:y', null],
    ]);
  });

  test('only what was worked off is trimmed', async () => {
    await log.append([sample('a', '1'), sample('b', '1'), sample('c', '1')]);
    await log.advance(db, [{ lease: await only(3), position: 2 }]);
    expect(await log.trim()).toBe(2);
    expect((await log.read([{ partition: 3, position: 0 }], 10, 1e6)).map((record) => record.offset)).toEqual([3]);
    await log.append([sample('d', '1')]);
    expect((await log.read([{ partition: 3, position: 3 }], 10, 1e6)).map((record) => record.offset)).toEqual([4]);
  });

  test('ids of days gone by are forgotten, later ones are not', async () => {
    const on = (day: number, id: string): EnvelopeAppend => ({ ...sample('a', id), receivedAt: day * DAY_MS + 1000 });
    await log.append([on(1, 'old'), on(3, 'new')]);
    expect(await log.forget(2 * DAY_MS)).toBe(1);
    expect(await log.append([on(4, 'old'), on(4, 'new')])).toEqual(['accepted', 'replay']);
  });

  test('a frame is accepted once, alone, in a batch and beside envelopes; a second one is a replay', async () => {
    expect(await log.append([frame('a', '1'), frame('b', '1'), frame('a', '1')])).toEqual([
      'accepted',
      'accepted',
      'replay',
    ]);
    expect(await log.append([frame('a', '1'), frame('a', '2')])).toEqual(['replay', 'accepted']);
    expect(await log.append([sample('c', '1'), frame('b', '1'), frame('c', '2'), sample('c', '1')])).toEqual([
      'accepted',
      'replay',
      'accepted',
      'replay',
    ]);
    const records = await log.read([{ partition: 3, position: 0 }], 100, 1e6);
    expect(records.map(({ offset }) => offset)).toEqual([1, 2, 3, 4, 5]);
    expect(records.slice(0, 3).map(({ key, kind, body }) => [key, kind, body])).toEqual([
      ['a', 'frame', sample('a', '1').body],
      ['b', 'frame', sample('b', '1').body],
      ['a', 'frame', sample('a', '2').body],
    ]);
    expect(
      records
        .slice(3)
        .map(({ key, kind }) => `${key} ${kind}`)
        .sort(),
    ).toEqual(['c envelope', 'c frame']);
  });

  test('frames and envelopes of one device have ids of their own', async () => {
    expect(await log.append([sample('a', '1'), frame('a', '1')])).toEqual(['accepted', 'accepted']);
    expect(await log.append([frame('a', '1'), sample('a', '1', 3, 'other'), sample('a', '1')])).toEqual([
      'replay',
      'id-conflict',
      'replay',
    ]);
  });

  test('frames stand in the order given, whatever their ids', async () => {
    const ids = ['9', '10', 'b', 'a', 'Z'];
    await log.append(ids.map((id) => frame('e', id)));
    const records = await log.read([{ partition: 3, position: 0 }], 100, 1e6);
    expect(records.map(({ body }) => body.split(' ')[3])).toEqual(ids);
  });

  test('a frame is known for an hour, also by a clock that is behind, whatever is forgotten meanwhile', async () => {
    const minute = 60_000;
    const first = 1_700_000_000_000 - (1_700_000_000_000 % (30 * minute)) + 29 * minute;
    const arrived = (id: string, after: number): EnvelopeAppend => ({ ...frame('a', id), receivedAt: first + after });
    await log.append([arrived('1', 0)]);
    for (let after = 0; after <= 60; after += 5) {
      await log.forgetFrames(first + after * minute);
      expect(await log.append([arrived('1', after * minute)])).toEqual(['replay']);
    }
    await log.append([arrived('2', 2 * minute)]);
    expect(await log.append([arrived('2', -minute)])).toEqual(['replay']);
  });

  test('the same frames from many sides at once are accepted once each', async () => {
    const side = (from: number): EnvelopeAppend[] =>
      Array.from({ length: 40 }, (_, i) => (i * 7 + from) % 40).map((d) => frame(`d${d}`, 'x', d % 12));
    const outcomes = (await Promise.all(Array.from({ length: 8 }, (_, i) => log.append(side(i))))).flat();
    expect(outcomes.filter((outcome) => outcome === 'accepted')).toHaveLength(40);
    expect(outcomes.filter((outcome) => outcome === 'replay')).toHaveLength(280);
  });

  test('ticks enter the log of a partition of devices between its envelopes', async () => {
    await log.append([sample('a', '1')]);
    const tick = { partition: 3, kind: 'tick', receivedAt: 5, key: '', traceparent: null, body: '' } as const;
    await log.appendKeyed(db, [tick, { ...tick, partition: log.partitions - 1 }]);
    await log.append([sample('a', '2')]);
    const records: LogRecord[] = [];
    for (const partition of [3, log.partitions - 1]) records.push(...(await readAll(log, partition)));
    expect(records.map(({ partition, kind }) => [partition, kind])).toEqual([
      [3, 'envelope'],
      [3, 'tick'],
      [3, 'envelope'],
      [log.partitions - 1, 'tick'],
    ]);
    expect(records[1]).toEqual({ ...tick, offset: 2, context: null });
  });

  test('contexts and traces come back as they were, with and without a zone, a place and the mark of an exercise', async () => {
    const alone = { device: 1, zone: null, zoneId: null };
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    await log.append([
      { ...sample('-', '1'), context: alone },
      { ...sample('b', '-'), context: { device: 2, zone: 3, zoneId: '-' }, traceparent },
      {
        ...sample('c', '1'),
        context: { device: 3, zone: 4, zoneId: 'z', place: { latitude: -0.5, longitude: 179.25 } },
      },
      {
        ...sample('d', '1'),
        context: { device: 4, zone: null, zoneId: null, place: { latitude: 0, longitude: -1e-7 } },
      },
      {
        ...sample('e', '1'),
        context: { device: 5, zone: 4, zoneId: 'z', place: { latitude: 1, longitude: 2 }, exercise: true },
      },
    ]);
    const records = await log.read([{ partition: 3, position: 0 }], 10, 1e6);
    expect(records.map(({ key, context, traceparent: trace }) => [key, context, trace])).toEqual([
      ['-', alone, null],
      ['b', { device: 2, zone: 3, zoneId: '-' }, traceparent],
      ['c', { device: 3, zone: 4, zoneId: 'z', place: { latitude: -0.5, longitude: 179.25 } }, null],
      ['d', { device: 4, zone: null, zoneId: null, place: { latitude: 0, longitude: -1e-7 } }, null],
      ['e', { device: 5, zone: 4, zoneId: 'z', place: { latitude: 1, longitude: 2 }, exercise: true }, null],
    ]);
  });

  test('envelopes of one append stand in the order given, whatever their ids', async () => {
    const ids = ['9', '10', 'b', 'a', 'Z'];
    await log.append(ids.flatMap((id) => [sample('e', id), sample('d', id)]));
    const records = await log.read([{ partition: 3, position: 0 }], 100, 1e6);
    expect(records.map(({ key, body }) => `${key} ${body.split(' ')[3]}`)).toEqual(
      ids.flatMap((id) => [`e ${id}`, `d ${id}`]),
    );
  });

  test('nothing counts as complete that arrived no earlier than a record not worked off', async () => {
    const before = Date.now() - 60_000;
    expect(await log.completeUntil()).toBeGreaterThanOrEqual(before);
    await log.append([sample('a', '1')]);
    expect(await log.completeUntil()).toBe(1_700_000_000_000 - 60_000);
  });
}
