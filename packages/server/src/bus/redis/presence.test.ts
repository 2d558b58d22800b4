import { describe, expect, it, vi } from 'vitest';
import { CodedError } from '../../lib/coded-error.ts';
import { INSTANCES_KEY } from './keys.ts';
import type { RedisLink } from './link.ts';
import { createRedisPresence } from './presence.ts';

type Reply = () => unknown;

/** A link whose scripts are answered by the key that they are about. */
function scripted(answers: { leases(values: readonly string[]): unknown; board(entry: string): unknown }): {
  readonly link: RedisLink;
  readonly removed: string[];
} {
  const removed: string[] = [];
  const client = {
    on: () => undefined,
    off: () => undefined,
    evalsha: async (_digest: string, _keys: number, key: string, ...values: string[]) =>
      key === INSTANCES_KEY ? answers.leases(values) : answers.board(values[0] ?? ''),
    zrem: async (_key: string, ...members: string[]) => removed.push(...members),
  };
  const run = async (_name: string, work: (with_: never) => Promise<unknown>): Promise<unknown> =>
    work(client as never);
  return { link: { client, run } as unknown as RedisLink, removed };
}

describe('presence in Redis', () => {
  it('asks again for leases when an answer that is on its way may be older than an entry', async () => {
    let mine = '';
    const looks: ((reply: Reply) => void)[] = [];
    const { link, removed } = scripted({
      leases: ([lease = '']) => {
        if (lease !== '') mine = lease;
        if (lease !== '') return [1, mine, 5000];
        return new Promise((resolve) => looks.push((reply) => resolve(reply())));
      },
      board: (entry) => ['two/new/b', '1', entry, '2'],
    });
    const presence = createRedisPresence({ link, instance: 'one', onError: () => undefined });
    await presence.renew();
    const peers = presence.peers();
    await vi.waitFor(() => expect(looks).toHaveLength(1));
    const joined = presence.join('k', 'a');
    await new Promise((resolve) => setImmediate(resolve));
    // Redis answered this before `two` had its lease.
    looks[0]?.(() => [0, mine, 5000]);
    expect(await peers).toEqual(['one']);
    await vi.waitFor(() => expect(looks).toHaveLength(2));
    looks[1]?.(() => [0, mine, 5000, 'two/new', 5000]);
    expect((await joined).map(({ id }) => id)).toEqual(['b', 'a']);
    expect(removed).toEqual([]);
    await presence.close();
  });

  it('counts a holder once, also under two leases of its instance', async () => {
    let mine = '';
    const { link } = scripted({
      leases: ([lease = mine]) => {
        mine = lease;
        return [1, mine, 5000, 'two/old', 5000, 'two/new', 5000];
      },
      board: (entry) => ['two/old/b', '1', 'two/new/b', '1', entry, '2'],
    });
    const presence = createRedisPresence({ link, instance: 'one', onError: () => undefined });
    await presence.renew();
    expect((await presence.join('k', 'a')).map(({ id }) => id)).toEqual(['b', 'a']);
    await presence.close();
  });

  it('joins late what could not be joined at once, with the time of when it wanted to', async () => {
    vi.useFakeTimers({ now: 1_000_000 });
    try {
      let away = false;
      const times: (readonly [string, string])[] = [];
      // The clock of Redis is 5 s ahead of ours.
      const client = {
        on: () => undefined,
        off: () => undefined,
        del: async () => undefined,
        zrem: async () => undefined,
        evalsha: async (_digest: string, _keys: number, key: string, ...values: string[]) => {
          const [entry = '', at = ''] = values;
          if (key === INSTANCES_KEY) return [1, entry, 5000];
          times.push([entry.split('/')[2] ?? '', at]);
          return [entry, at === '' ? String((Date.now() + 5000) * 1000) : at];
        },
      };
      const run = async (_name: string, work: (with_: never) => Promise<unknown>): Promise<unknown> => {
        if (away) throw new CodedError('bus-unavailable', 'away');
        return work(client as never);
      };
      const link = { client, run } as unknown as RedisLink;
      const presence = createRedisPresence({ link, instance: 'one', onError: () => undefined });
      await presence.renew();
      await presence.join('k', 'before', 9);
      away = true;
      vi.setSystemTime(1_010_000);
      await expect(presence.join('k', 'meanwhile', 9)).rejects.toThrow('away');
      vi.setSystemTime(1_060_000);
      away = false;
      times.length = 0;
      await presence.renew();
      expect(times).toEqual([
        ['before', String(1_005_000 * 1000)],
        ['meanwhile', String(1_015_000 * 1000)],
      ]);
      await presence.close();
    } finally {
      vi.useRealTimers();
    }
  });
});
