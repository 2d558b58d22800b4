/** Typed events. Listeners are called in the order in which they were added; what they throw goes to `onError`. */

/** Events by name, as functions. */
export type EventMap<Events> = { [Name in keyof Events]: (...values: never[]) => unknown };

/** Listeners of events. */
export interface Emitter<Events extends EventMap<Events>> {
  /** Answers how to stop listening. */
  on<Name extends keyof Events>(name: Name, listener: Events[Name]): () => void;
  /** Calls all listeners; resolves when all of them, and the promises that they answered, are done. Never rejects. */
  emit<Name extends keyof Events>(name: Name, ...values: Parameters<Events[Name]>): Promise<void>;
}

/** Creates it. */
export function createEmitter<Events extends EventMap<Events>>(
  onError: (error: unknown, name: keyof Events) => void,
): Emitter<Events> {
  const listeners = new Map<keyof Events, Set<{ call: (...values: never[]) => unknown }>>();
  return {
    on(name, call) {
      const entry = { call };
      const set = listeners.get(name) ?? new Set();
      listeners.set(name, set.add(entry));
      return () => void set.delete(entry);
    },
    async emit(name, ...values) {
      const running: Promise<void>[] = [];
      // An async function runs to its first wait at once: every listener is called before this one waits.
      for (const { call } of listeners.get(name) ?? []) {
        running.push(
          (async () => {
            try {
              await call(...values);
            } catch (error) {
              onError(error, name);
            }
          })(),
        );
      }
      await Promise.all(running);
    },
  };
}
