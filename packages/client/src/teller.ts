/** Tells an application what happens, and counts. After `end` nothing is told any more. */
import { createEmitter, type Emitter } from './emitter.ts';
import type { AlertEvents, ErrorDetail, ViolationDetail } from './events.ts';

/** Numbers since the start. */
export interface AlertCounts {
  readonly delivered: number;
  readonly duplicates: number;
  readonly violations: number;
  /** Connections that were welcomed. */
  readonly connections: number;
}

/** The way to the application. */
export interface Teller {
  readonly on: Emitter<AlertEvents>['on'];
  readonly ended: boolean;
  counts(): AlertCounts;
  count(what: keyof AlertCounts): void;
  /** Resolves when all listeners are done. Never rejects. */
  tell<Name extends keyof AlertEvents>(name: Name, ...values: Parameters<AlertEvents[Name]>): Promise<void>;
  error(during: ErrorDetail['during'], error: unknown): void;
  violation(reason: ViolationDetail['reason'], offset: number | null): void;
  end(): void;
}

/** Creates it. */
export function createTeller(): Teller {
  const counts = { delivered: 0, duplicates: 0, violations: 0, connections: 0 };
  let ended = false;
  const emitter = createEmitter<AlertEvents>((error, name) => {
    // One that fails while it hears of failures is not told of its own.
    if (name !== 'error') teller.error('handler', error);
  });
  const teller: Teller = {
    on: emitter.on,
    get ended() {
      return ended;
    },
    counts: () => ({ ...counts }),
    count: (what) => void (counts[what] += 1),
    tell: async (name, ...values) => {
      if (!ended) await emitter.emit(name, ...values);
    },
    error: (during, error) => void teller.tell('error', { during, error }),
    violation(reason, offset) {
      teller.count('violations');
      void teller.tell('violation', { reason, offset, count: counts.violations });
    },
    end() {
      ended = true;
    },
  };
  return teller;
}
