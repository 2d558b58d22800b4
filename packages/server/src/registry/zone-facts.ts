/**
 * Facts of zones for workers and alerts, from a small cache: at most 10 s old, forgotten at once when the zone or one of
 * its devices changes. Questions that come together are one statement. Rejects `store-unavailable` when it has to read.
 */
import { boundMap } from '../lib/bound-map.ts';
import type { Clock } from '../lib/clock.ts';
import type { ZoneFacts, ZoneStore } from '../store/ports/registry.ts';

/** How long facts may be used, ms. */
export const FACTS_MS = 10_000;
/** The most zones that are remembered. */
export const ZONES_KEPT = 10_000;

interface Entry {
  readonly facts: Promise<ZoneFacts | null>;
  readonly readAt: number;
}

/** The cache. */
export interface ZoneFactsCache {
  facts(id: string): Promise<ZoneFacts | null>;
  invalidate(id: string): void;
  invalidateAll(): void;
}

/** Builds the cache. */
export function createZoneFacts(zones: Pick<ZoneStore, 'facts'>, clock: Clock): ZoneFactsCache {
  const entries = new Map<string, Entry>();
  return {
    facts(id) {
      const now = clock.monotonic();
      const known = entries.get(id);
      if (known !== undefined && now - known.readAt < FACTS_MS) return known.facts;
      const entry: Entry = { facts: zones.facts(id), readAt: now };
      entries.delete(id);
      entries.set(id, entry);
      boundMap(entries, ZONES_KEPT);
      entry.facts.catch(() => {
        if (entries.get(id) === entry) entries.delete(id);
      });
      return entry.facts;
    },
    invalidate: (id) => void entries.delete(id),
    invalidateAll: () => entries.clear(),
  };
}
