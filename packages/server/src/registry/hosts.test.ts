import { beforeEach, describe, expect, test } from 'vitest';
import { CodedError } from '../lib/coded-error.ts';
import { ANNOUNCED_MOST, parseChange } from './changes.ts';
import type { DeviceForIngest } from './directory.ts';
import { ENROL_BATCH, ENROL_WAITING, FULL_MS, type HostRegistry, createHostRegistry } from './hosts.ts';

const MOST = 5000;
const row = (id: string): DeviceForIngest => ({
  id,
  number: 1,
  profile: 'host',
  zoneId: null,
  zoneNumber: null,
  latitude: null,
  longitude: null,
  standing: 'active',
  exercise: false,
  key: null,
});

let time: number;
let rows: Set<string>;
/** What the store was asked for, and what was announced. */
let asked: string[][];
let announced: (readonly string[])[];
/** Thrown by the store. */
let failure: Error | null;
let hosts: HostRegistry;

beforeEach(() => {
  time = 0;
  rows = new Set();
  asked = [];
  announced = [];
  failure = null;
  hosts = createHostRegistry({
    hosts: {
      enrol: async (ids, _at, most) => {
        asked.push([...ids]);
        if (failure !== null) throw failure;
        const made = ids.filter((id) => !rows.has(id)).slice(0, Math.max(0, most - rows.size));
        for (const id of made) rows.add(id);
        return { made, room: ids.every((id) => rows.has(id)) };
      },
    },
    directory: { lookup: async (id) => (rows.has(id) ? row(id) : null), appeared: () => undefined },
    clock: { now: () => time, monotonic: () => time },
    most: MOST,
    announce: (ids) => announced.push(ids),
  });
});

const some = (count: number, name = 'h'): string[] => Array.from({ length: count }, (_, i) => `${name}${i}`);
const enrolAll = (ids: readonly string[]): Promise<(DeviceForIngest | null)[]> =>
  Promise.all(ids.map((id) => hosts.enrol(id)));

describe('enrolling hosts', () => {
  test('that appear together is one statement for a thousand, and one announcement', async () => {
    expect((await enrolAll(some(2500))).every((host) => host !== null)).toBe(true);
    expect(asked.map(({ length }) => length)).toEqual([ENROL_BATCH, ENROL_BATCH, 500]);
    expect(announced.map(({ length }) => length)).toEqual([ENROL_BATCH, ENROL_BATCH, 500]);
  });

  test('many frames of one host ask for it once and get one answer', async () => {
    const answers = await enrolAll(Array.from({ length: 50 }, () => 'h1'));
    expect(new Set(answers).size).toBe(1);
    expect(asked).toEqual([['h1']]);
  });

  test('that are there already announces nothing', async () => {
    rows.add('h1');
    expect(await hosts.enrol('h1')).toMatchObject({ id: 'h1' });
    expect(announced).toEqual([]);
  });

  test('without room answers null, and tries again only after a while; those that are there are answered', async () => {
    await enrolAll(some(MOST));
    expect(await hosts.enrol('late')).toBeNull();
    const before = asked.length;
    expect(await enrolAll(some(3000, 'flood'))).toEqual(some(3000).map(() => null));
    expect(await hosts.enrol('h7')).toMatchObject({ id: 'h7' });
    expect(asked).toHaveLength(before);
    rows.delete('h1');
    time = FULL_MS;
    expect(await hosts.enrol('late')).toMatchObject({ id: 'late' });
  });

  test('while the store is away rejects those that asked, and works again afterwards', async () => {
    failure = new CodedError('store-unavailable', 'away');
    for (const outcome of await Promise.allSettled(some(3).map((id) => hosts.enrol(id))))
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'store-unavailable' } });
    failure = null;
    expect(await hosts.enrol('h0')).toMatchObject({ id: 'h0' });
  });

  test('more than may wait is refused as overloaded; who waits for the same host is not', async () => {
    const waiting = some(ENROL_WAITING).map((id) => hosts.enrol(id));
    await expect(hosts.enrol('more')).rejects.toMatchObject({ refusal: { code: 'overloaded', retryAfterMs: 1000 } });
    expect(await hosts.enrol('h0')).toMatchObject({ id: 'h0' });
    await Promise.all(waiting);
  });

  test.each(['', 'a b', 'a/b', 'x'.repeat(65), 'a\u0000'])('of %j asks nobody: it is no identifier', async (id) => {
    expect(await hosts.enrol(id)).toBeNull();
    expect(asked).toEqual([]);
  });
});

describe('news of hosts on the bus', () => {
  test('name at most a thousand of them, each an identifier', () => {
    const ids = some(ANNOUNCED_MOST);
    expect(parseChange(JSON.stringify({ noun: 'hosts', ids }))).toEqual({ noun: 'hosts', ids });
    for (const wrong of [[...ids, 'more'], ['a b'], [1], 'h1', null, undefined])
      expect(parseChange(JSON.stringify({ noun: 'hosts', ids: wrong }))).toBeNull();
  });
});
