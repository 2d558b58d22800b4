import { CLOSE_CODES } from '@tocsin/protocol/close-codes';
import { describe, expect, it } from 'vitest';
import { createMemoryBus } from '../../bus/memory/bus.ts';
import { type Admission, createAdmission } from './admission.ts';

let time = 0;
const clock = { now: () => time, monotonic: () => time };
const turns = async (): Promise<void> => {
  for (let n = 0; n < 20; n++) await Promise.resolve();
};

function open(most = { user: 1, address: 2, connects: 3 }): { admission: Admission; replaced: string[] } {
  const bus = createMemoryBus({ clock });
  const replaced: string[] = [];
  const admission = createAdmission({
    ...bus,
    maxConnectionsPerUser: most.user,
    maxConnectionsPerAddress: most.address,
    reconnectsPerMinute: most.connects,
    replace: (id) => replaced.push(id),
    onFailure(error) {
      throw error;
    },
  });
  return { admission, replaced };
}

describe('connects of a user in a minute', () => {
  it('count the first one too, for each path and user apart, and come back with time', async () => {
    const { admission } = open();
    for (let n = 0; n < 3; n++) expect(await admission.countConnect('/ws/alerts', 'ann')).toBeNull();
    expect(await admission.countConnect('/ws/alerts', 'ann')).toMatchObject({
      code: 'rate-limited',
      retryAfterMs: 20_000,
    });
    expect(await admission.countConnect('/ws/devices', 'ann')).toBeNull();
    expect(await admission.countConnect('/ws/alerts', 'bob')).toBeNull();
    time += 20_000;
    expect(await admission.countConnect('/ws/alerts', 'ann')).toBeNull();
    expect(await admission.countConnect('/ws/alerts', 'ann')).not.toBeNull();
  });

  it.each(Object.values(CLOSE_CODES).map(({ code }) => code))(
    'after a close with %i count unless it asks to come back',
    async (code) => {
      const { admission } = open();
      for (let n = 0; n < 3; n++) await admission.countConnect('/ws/alerts', 'ann');
      admission.noteClose('/ws/alerts', 'ann', code);
      await turns();
      const free = [1001, 1012, 1013, 4008].includes(code);
      expect(await admission.countConnect('/ws/alerts', 'ann')).toEqual(
        free ? null : expect.objectContaining({ code: 'rate-limited' }),
      );
      expect(await admission.countConnect('/ws/alerts', 'ann')).toMatchObject({ code: 'rate-limited' });
    },
  );
});

describe('places', () => {
  it('of an address are so many; who is refused holds none', async () => {
    const { admission } = open();
    expect(await admission.enterAddress('a', 'c1')).toBeNull();
    expect(await admission.enterAddress('a', 'c2')).toBeNull();
    expect(await admission.enterAddress('a', 'c3')).toMatchObject({ code: 'rate-limited' });
    expect(await admission.enterAddress('b', 'c4')).toBeNull();
    admission.leaveAddress('a', 'c1');
    await turns();
    expect(await admission.enterAddress('a', 'c5')).toBeNull();
  });

  it('of a user are for each path apart, and the newest wins', async () => {
    const { admission, replaced } = open();
    await admission.enterUser('/ws/alerts', 'ann', 'c1');
    await admission.enterUser('/ws/devices', 'ann', 'c2');
    await admission.enterUser('/ws/alerts', 'bob', 'c3');
    expect(replaced).toEqual([]);
    await admission.enterUser('/ws/alerts', 'ann', 'c4');
    expect(new Set(replaced)).toEqual(new Set(['c1']));
  });
});
