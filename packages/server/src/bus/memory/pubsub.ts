/**
 * Publish-subscribe within one process. Listeners are called in a later microtask, in the order of publication, so that
 * nobody can rely on being called inside `publish`.
 */
import type { Clock } from '../../lib/clock.ts';
import type { PublishSubscribe, TopicListener } from '../ports/bus.ts';

/** Creates it; `onListenerError` hears what listeners throw. */
export function createMemoryPubSub(clock: Clock, onListenerError: (error: unknown) => void): PublishSubscribe {
  const topics = new Map<string, Set<{ readonly listener: TopicListener }>>();

  function deliver(topic: string, payload: string, publishedAt: number): void {
    for (const { listener } of topics.get(topic) ?? []) {
      try {
        listener(payload, publishedAt);
      } catch (error) {
        onListenerError(error);
      }
    }
  }

  return {
    async publish(topic, payload) {
      const publishedAt = clock.now();
      await Promise.resolve();
      deliver(topic, payload, publishedAt);
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
