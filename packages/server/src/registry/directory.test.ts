import { generateKeyPairSync } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { CodedError } from '../lib/coded-error.ts';
import type { DeviceRow } from '../store/ports/registry.ts';
import { BATCH, FRESH_MS, REFRESH_MS, UNKNOWN_MS, createDirectory, type Directory } from './directory.ts';

const publicKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });

function row(id: string, more: Partial<DeviceRow> = {}): DeviceRow {
  const place = { zoneId: null, zoneNumber: null, latitude: null, longitude: null };
  return {
    id,
    number: 1,
    profile: 'seismic',
    ...place,
    publicKey,
    ownerId: null,
    standing: 'active',
    exercise: false,
    createdAt: 0,
    updatedAt: 0,
    ...more,
  };
}

let now = 0;
let rows: Map<string, DeviceRow>;
let asked: string[][];
/** What happens while the store reads. */
let during: () => void | Promise<void>;
let directory: Directory;

const devices = {
  findMany: async (ids: readonly string[]): Promise<DeviceRow[]> => {
    asked.push([...ids]);
    const found = ids.flatMap((id) => rows.get(id) ?? []);
    await during();
    return found;
  },
};

beforeEach(() => {
  now = 0;
  rows = new Map([['a', row('a')]]);
  asked = [];
  during = () => {};
  directory = createDirectory({ devices, clock: { now: () => now, monotonic: () => now }, maxDevices: 3 });
});

describe('the directory', () => {
  test('answers at once what it knows, and keeps the parsed key over readings', async () => {
    const first = await directory.lookup('a');
    expect(directory.lookup('a')).toBe(first);
    now = FRESH_MS;
    rows.set('a', row('a', { standing: 'inactive' }));
    const second = await directory.lookup('a');
    expect(second?.standing).toBe('inactive');
    expect(second?.key).toBe(first?.key);
  });

  test('asks for everything that is asked together in one statement', async () => {
    await Promise.all(['a', 'b', 'a', 'c'].map(async (id) => directory.lookup(id)));
    expect(asked).toEqual([['a', 'b', 'c']]);
  });

  test('asks for no more than a batch at a time', async () => {
    const ids = Array.from({ length: BATCH + 1 }, (_, index) => `x${index}`);
    await Promise.all(ids.map(async (id) => directory.lookup(id)));
    expect(asked.map((batch) => batch.length)).toEqual([BATCH, 1]);
  });

  test('reads again in the background before an entry is too old', async () => {
    await directory.lookup('a');
    now = REFRESH_MS;
    rows.set('a', row('a', { number: 2 }));
    expect((directory.lookup('a') as { number: number }).number).toBe(1);
    await directory.lookup('other');
    expect((directory.lookup('a') as { number: number }).number).toBe(2);
  });

  test('reads anew after a change', async () => {
    await directory.lookup('a');
    rows.set('a', row('a', { standing: 'revoked' }));
    directory.invalidate('a');
    expect((await directory.lookup('a'))?.standing).toBe('revoked');
  });

  test('does not keep what was read while it changed', async () => {
    during = () => {
      rows.set('a', row('a', { standing: 'revoked' }));
      directory.invalidate('a');
      during = () => {};
    };
    expect((await directory.lookup('a'))?.standing).toBe('active');
    expect((await directory.lookup('a'))?.standing).toBe('revoked');
  });

  test('remembers that there is no such device for a second, or until it is made', async () => {
    expect(await directory.lookup('b')).toBeNull();
    rows.set('b', row('b'));
    expect(directory.lookup('b')).toBeNull();
    now = UNKNOWN_MS;
    expect((await directory.lookup('b'))?.id).toBe('b');
    expect(await directory.lookup('c')).toBeNull();
    rows.set('c', row('c'));
    directory.invalidate('c');
    expect((await directory.lookup('c'))?.id).toBe('c');
  });

  test('does not remember the absence of a device that was made while it was looked for', async () => {
    during = () => {
      rows.set('b', row('b'));
      directory.invalidate('b');
      during = () => {};
    };
    expect(await directory.lookup('b')).toBeNull();
    expect((await directory.lookup('b'))?.id).toBe('b');
  });

  test('refuses, once an entry is too old, while the store is away', async () => {
    await directory.lookup('a');
    during = () => {
      throw new CodedError('store-unavailable', 'away');
    };
    now = FRESH_MS - 1;
    expect(directory.lookup('a')).not.toBeInstanceOf(Promise);
    now = FRESH_MS;
    await expect(directory.lookup('a')).rejects.toMatchObject({ code: 'store-unavailable' });
    during = () => {};
    expect((await directory.lookup('a'))?.id).toBe('a');
  });

  test('refuses an answer that took longer than it may be old', async () => {
    during = () => {
      now += FRESH_MS + 1;
      during = () => {};
    };
    await expect(directory.lookup('a')).rejects.toMatchObject({ code: 'store-unavailable' });
  });

  test('a key that cannot be parsed fails its own device only', async () => {
    rows.set('b', row('b', { publicKey: Buffer.from('30', 'hex') }));
    const [a, b] = await Promise.allSettled([directory.lookup('a'), directory.lookup('b')]);
    expect([a?.status, b?.status]).toEqual(['fulfilled', 'rejected']);
  });

  test('forgets the device that was read longest ago when it is full', async () => {
    for (const id of ['a', 'b', 'c', 'd']) {
      rows.set(id, row(id));
      await directory.lookup(id);
    }
    expect(directory.lookup('d')).not.toBeInstanceOf(Promise);
    const again = directory.lookup('a');
    expect(again).toBeInstanceOf(Promise);
    await again;
  });

  test('a host that nobody registered has no key, until it is registered', async () => {
    rows.set('h', row('h', { profile: 'host', publicKey: null }));
    expect((await directory.lookup('h'))?.key).toBeNull();
    rows.set('h', row('h', { profile: 'host' }));
    directory.invalidate('h');
    expect((await directory.lookup('h'))?.key?.asymmetricKeyType).toBe('ec');
    rows.set('h', row('h', { profile: 'host', publicKey: null }));
    directory.invalidate('h');
    expect((await directory.lookup('h'))?.key).toBeNull();
  });

  test('who appeared is looked for again, also while its absence is being read; who is known stays known', async () => {
    expect(await directory.lookup('h')).toBeNull();
    rows.set('h', row('h'));
    expect(await directory.lookup('h')).toBeNull();
    directory.appeared('h');
    expect(await directory.lookup('h')).toMatchObject({ id: 'h' });
    directory.appeared('h');
    expect(directory.lookup('h')).not.toBeInstanceOf(Promise);
    during = () => {
      rows.set('i', row('i'));
      directory.appeared('i');
    };
    expect(await directory.lookup('i')).toBeNull();
    during = () => {};
    expect(await directory.lookup('i')).toMatchObject({ id: 'i' });
  });

  test('forgets everything on demand', async () => {
    await directory.lookup('a');
    directory.invalidateAll();
    const again = directory.lookup('a');
    expect(again).toBeInstanceOf(Promise);
    await again;
  });
});
