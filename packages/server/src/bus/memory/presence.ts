/** Presence within one process: as many entries as there are holders, gone with the process. */
import type { Clock } from '../../lib/clock.ts';
import type { Presence, PresenceBoard } from '../ports/bus.ts';

/** Creates a board whose entries belong to `instance`. */
export function createMemoryPresence(clock: Clock, instance: string): PresenceBoard {
  // Insertion order of the inner map is the order of joining, so "oldest first" needs no sorting.
  const keys = new Map<string, Map<string, Presence>>();
  return {
    async join(key, id, most = 0) {
      const holders = keys.get(key) ?? new Map<string, Presence>();
      keys.set(key, holders);
      if (!holders.has(id)) holders.set(id, { id, instance, since: clock.now() });
      return holders.size > most ? [...holders.values()] : [];
    },
    async leave(key, id) {
      const holders = keys.get(key);
      if (holders?.delete(id) && holders.size === 0) keys.delete(key);
    },
    list: async (key) => [...(keys.get(key)?.values() ?? [])],
  };
}
