/**
 * News of the registry between processes, on the bus topic `registry`: which zone or device changed, never how, or which
 * hosts there are now (many in one message: they appear by thousands and belong to no zone yet). Sent after the commit, heard by every process; the sender hears it at once, without the bus.
 * A message that is lost costs the 5 s (devices) or 10 s (zones) after which everybody reads anew anyway.
 */
import type { PublishSubscribe } from '../bus/ports/bus.ts';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { throttled } from '../ops/throttled-log.ts';

/** The topic. */
export const REGISTRY_TOPIC = 'registry';

/** What changed. `counts`: the number of registered devices too. `hosts`: self-reported ones that were not there before. */
export type RegistryChange =
  | { readonly noun: 'zone' | 'device'; readonly id: string; readonly counts: boolean }
  | { readonly noun: 'hosts'; readonly ids: readonly string[] };

/** The most ids of one message. */
export const ANNOUNCED_MOST = 1000;

/** The log's part that is written to. */
export interface RegistryLog {
  warn(fields: object, message: string): void;
}

/** Changes that could not be published are told once in this time, ms. */
const TOLD_MS = 1000;

/** Announces changes and hears those of others. */
export interface Changes {
  announce(change: RegistryChange): void;
  close(): Promise<void>;
}

/** Reads a message; null when it is none of ours. Pure. */
export function parseChange(payload: string): RegistryChange | null {
  let value: unknown;
  try {
    value = JSON.parse(payload);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { noun, id, ids, counts } = value as Record<string, unknown>;
  if (noun === 'hosts') {
    const good = Array.isArray(ids) && ids.length <= ANNOUNCED_MOST && ids.every(isIdentifier);
    return good ? { noun, ids } : null;
  }
  if ((noun !== 'zone' && noun !== 'device') || !isIdentifier(id)) return null;
  return { noun, id, counts: counts === true };
}

/** Subscribes; `heard` is called for every change, own ones included (twice, then: at once and by the bus). */
export async function openChanges(
  pubsub: PublishSubscribe,
  heard: (change: RegistryChange) => void,
  log: RegistryLog,
): Promise<Changes> {
  const unsubscribe = await pubsub.subscribe(REGISTRY_TOPIC, (payload) => {
    const change = parseChange(payload);
    if (change !== null) heard(change);
  });
  const warn = (fields: object, message: string): void => log.warn(fields, message);
  const failures = throttled({ warn, error: warn }, TOLD_MS);
  return {
    announce(change) {
      heard(change);
      pubsub.publish(REGISTRY_TOPIC, JSON.stringify(change)).catch((error: unknown) => {
        const what = change.noun === 'hosts' ? { hosts: change.ids.length } : { id: change.id };
        const fields = { err: error, noun: change.noun, ...what };
        failures.warn('unpublished', fields, 'a change of the registry was not published');
      });
    },
    close: unsubscribe,
  };
}
