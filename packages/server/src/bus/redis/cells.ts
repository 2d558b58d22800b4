/**
 * Cells in Redis: one plain command each (GETDEL needs Redis 6.2). Which key a cell has, `keys.ts` says. Something else than
 * a text under the key, which only others can have written, is deleted and was never there.
 */
import type { Cells } from '../ports/bus.ts';
import type { RedisClient } from './client.ts';
import { cellKey } from './keys.ts';
import type { RedisLink } from './link.ts';

/** Creates the cells. They reject with `bus-unavailable`; a write that was refused so may have happened nevertheless. */
export function createRedisCells({ link }: { readonly link: RedisLink }): Cells {
  async function read(
    command: string,
    at: string,
    work: (client: RedisClient) => Promise<string | null>,
  ): Promise<string | null> {
    try {
      return await link.run(command, work);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('WRONGTYPE'))) throw error;
      await link.run('del', (client) => client.del(at));
      return null;
    }
  }
  return {
    async get(key) {
      const at = cellKey(key);
      return read('get', at, (client) => client.get(at));
    },
    async set(key, value, ttlMs) {
      const at = cellKey(key);
      await link.run('set', (client) => client.set(at, value, 'PX', lifetime(ttlMs)));
    },
    async setIfAbsent(key, value, ttlMs) {
      const at = cellKey(key);
      return (await link.run('set', (client) => client.set(at, value, 'PX', lifetime(ttlMs), 'NX'))) === 'OK';
    },
    async take(key) {
      const at = cellKey(key);
      return read('getdel', at, (client) => client.getdel(at));
    },
    async delete(key) {
      const at = cellKey(key);
      await link.run('del', (client) => client.del(at));
    },
  };
}

/** Redis takes whole milliseconds above 0. */
function lifetime(ttlMs: number): number {
  return Math.max(1, Math.ceil(ttlMs));
}
