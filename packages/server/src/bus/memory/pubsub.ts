/**
 * Publish-subscribe within one process. Listeners are called in a later microtask, in the order of publication, so that
 * nobody can rely on being called inside `publish`.
 */
import type { PublishSubscribe } from '../ports/bus.ts';

/** Creates it; `onListenerError` hears what listeners throw. */
export function createMemoryPubSub(onListenerError: (error: unknown) => void): PublishSubscribe {
  const topics = new Map<string, Set<{ readonly listener: (payload: string) => void }>>();

  function deliver(topic: string, payload: string): void {
    for (const { listener } of topics.get(topic) ?? []) {
      try {
        listener(payload);
      } catch (error) {
        onListenerError(error);
      }
    }
  }

  return {
    async publish(topic, payload) {
      await Promise.resolve();
      deliver(topic, payload);
    },
    async subscribe(topic, listener) {
      const listeners = topics.get(topic) ?? new Set();
      const entry = { listener };
      listeners.add(entry);
      topics.set(topic, listeners);
      return async () => {
        listeners.delete(entry);
        if (listeners.size === 0 && topics.get(topic) === listeners) topics.delete(topic);
      };
    },
  };
}
