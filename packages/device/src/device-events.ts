/** What a device tells its app as it happens. */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { DeviceState } from './device-state.ts';
import type { DeadLetter } from './dead-letters.ts';

/** What comes with each event. */
export interface DeviceEvents {
  readonly state: DeviceState;
  /** An envelope is durable at the server; `replay`: an earlier try had reached it. */
  readonly delivered: { readonly id: string; readonly readings: number; readonly replay: boolean };
  /** An envelope had to go for newer ones. */
  readonly dropped: { readonly id: string; readonly readings: number; readonly urgent: boolean };
  /** The server will never take an envelope; it is in `dead-letters.jsonl`. */
  readonly 'dead-letter': {
    readonly id: string;
    readonly readings: number;
    readonly reason: DeadLetter['reason'];
    readonly detail: string;
    readonly errors: readonly ErrorDetail[];
  };
  /** The disk has damaged an envelope; it cannot be sent. */
  readonly damaged: { readonly id: string; readonly readings: number };
}

/** The name of an event. */
export type DeviceEventName = keyof DeviceEvents;

/** Hears events. */
export type Listener<Name extends DeviceEventName> = (event: DeviceEvents[Name]) => void;

/** Listeners by name. */
export interface Emitter {
  /** Answers how to stop listening. */
  on<Name extends DeviceEventName>(name: Name, listener: Listener<Name>): () => void;
  emit<Name extends DeviceEventName>(name: Name, event: DeviceEvents[Name]): void;
}

/** An emitter without listeners. A listener that throws does so outside of the SDK, as an uncaught exception of the app. */
export function createEmitter(): Emitter {
  const listeners = new Map<DeviceEventName, Set<(event: never) => void>>();
  return {
    on: (name, listener) => {
      const set = listeners.get(name) ?? new Set();
      listeners.set(name, set.add(listener));
      return () => void set.delete(listener);
    },
    emit: (name, event) => {
      for (const listener of listeners.get(name) ?? []) {
        try {
          listener(event as never);
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
  };
}
