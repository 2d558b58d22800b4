/**
 * Why a server should end: the first signal, the first error that nobody caught, or the app's own word that it cannot go on. Later signals change nothing; later
 * errors are logged.
 */
import type { ProcessEvents } from './command.ts';

/** The cause of an end. */
export type EndingCause =
  | { readonly kind: 'signal'; readonly signal: string }
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'crash'; readonly error: unknown };

/** Waits for a cause. */
export interface EndingWatch {
  /** Resolves with the first cause; never rejects. */
  readonly cause: Promise<EndingCause>;
  /** Ends it because the app cannot go on. */
  lost(reason: string): void;
  /** Stops listening: the process's own behaviour is back. */
  close(): void;
}

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
const CRASHES = ['uncaughtException', 'unhandledRejection'] as const;

/**
 * Listens from now on. `onCrash` hears every uncaught error. `onHangUp` is asked what SIGHUP means: true when it has done
 * something else with it than to end.
 */
export function watchEnding(
  events: ProcessEvents,
  onCrash: (error: unknown) => void,
  onHangUp: () => boolean = () => false,
): EndingWatch {
  const { promise, resolve } = withResolvers<EndingCause>();
  const listeners: (readonly [string, (...values: unknown[]) => void])[] = [
    ...SIGNALS.map((signal) => {
      const listener = (): void => {
        if (signal !== 'SIGHUP' || !onHangUp()) resolve({ kind: 'signal', signal });
      };
      return [signal, listener] as const;
    }),
    ...CRASHES.map((event) => {
      const listener = (error: unknown): void => {
        onCrash(error);
        resolve({ kind: 'crash', error });
      };
      return [event, listener] as const;
    }),
  ];
  for (const [event, listener] of listeners) events.on(event, listener);
  return {
    cause: promise,
    lost: (reason) => resolve({ kind: 'lost', reason }),
    close() {
      for (const [event, listener] of listeners) events.off(event, listener);
    },
  };
}

function withResolvers<Value>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => undefined;
  const promise = new Promise<Value>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
