/**
 * Lua scripts on Redis: sent by their digest, and as a whole once when Redis does not know them (after a restart, on another
 * node). Redis: "Scripting with Lua", EVALSHA.
 */
import { createHash } from 'node:crypto';
import type { RedisClient } from './client.ts';

/** A script. All keys of a call lie in one slot. The answer is what Lua returned, unchecked. */
export type Script = (
  client: RedisClient,
  keys: readonly string[],
  values: readonly (string | number)[],
) => Promise<unknown>;

/** Makes a script from its text. */
export function script(lua: string): Script {
  const digest = createHash('sha1').update(lua).digest('hex');
  return async (client, keys, values) => {
    try {
      return await client.evalsha(digest, keys.length, ...keys, ...values);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
      return client.eval(lua, keys.length, ...keys, ...values);
    }
  };
}
