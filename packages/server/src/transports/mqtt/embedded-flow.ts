/**
 * The messages of one connection on their way in: each is taken, in order for each device, and answered in the order in
 * which they came, only after its verdict.
 *
 * What cannot be stored yet (`later`) is tried again for a bounded time; then the flow asks to be cut, so that the device
 * sends it again. Nothing after it of the same device is taken meanwhile.
 * Bound: the caller hands over no more than its window at once.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Clock } from '../../lib/clock.ts';
import type { MqttMessage, TakeMqttMessage } from './message.ts';

/** Between two tries, ms: at least, at most. */
const RETRY_LEAST_MS = 50;
const RETRY_MOST_MS = 5000;

/** The flow of a connection. */
export interface Flow {
  /** Takes it; `answer` is called once it may be acknowledged, and never if it may not. */
  accept(deviceId: string, message: MqttMessage, qos: 0 | 1 | 2, answer: () => void): void;
  /** Answers in its turn what needs no taking. */
  pass(answer: () => void): void;
  /** Nobody hears an answer any more: nothing is tried again but QoS 0, which nobody would send again. */
  deaf(): void;
  /** Nothing is tried again; what waits for that is cut. */
  stop(): void;
  /** Resolves when nothing is on its way. */
  idle(): Promise<void>;
}

/** What {@link createFlow} needs. */
export interface FlowOptions {
  readonly take: TakeMqttMessage;
  readonly clock: Clock;
  /** So many bytes more, or less, are kept here: of messages that have no verdict yet. */
  readonly kept: (bytes: number) => void;
  /** A message could not be stored in time. */
  readonly cut: () => void;
}

/** Creates it. */
export function createFlow({ take, clock, kept, cut }: FlowOptions): Flow {
  const lastOf = new Map<string, Promise<boolean>>();
  let answered: Promise<unknown> = Promise.resolve();
  let isDeaf = false;
  const ending = new AbortController();
  // One for each message that waits.
  setMaxListeners(LIMITS.mqttInFlight.value + 1, ending.signal);

  /** Whether it was stored, or refused for good. */
  async function settle(message: MqttMessage, qos: 0 | 1 | 2): Promise<boolean> {
    const until = clock.monotonic() + LIMITS.mqttHoldMs.value;
    for (;;) {
      const verdict = await take(message);
      if (verdict.kind === 'acknowledge') return true;
      const wait = Math.min(Math.max(verdict.retryAfterMs, RETRY_LEAST_MS), RETRY_MOST_MS);
      if (clock.monotonic() + wait > until) return false;
      await pause(wait, undefined, { signal: ending.signal }).catch(() => undefined);
      // Each message is tried once in any case: what came before the end is not lost by it.
      if (ending.signal.aborted || (isDeaf && qos > 0)) return false;
    }
  }

  return {
    accept(deviceId, message, qos, answer) {
      const before = lastOf.get(deviceId) ?? Promise.resolve(true);
      // After one that was given up, the rest of its device must not overtake it; the connection is cut anyway.
      const own = before.then((went) => went && settle(message, qos));
      const bytes = message.payload.length + message.topic.length;
      kept(bytes);
      void own.then(() => kept(-bytes));
      lastOf.set(deviceId, own);
      answered = Promise.all([answered, own]).then(([, stored]) => {
        if (lastOf.get(deviceId) === own) lastOf.delete(deviceId);
        if (stored) answer();
        else cut();
      });
    },
    pass(answer) {
      answered = answered.then(answer);
    },
    deaf() {
      isDeaf = true;
    },
    stop: () => ending.abort(),
    async idle() {
      for (let seen: unknown = null; seen !== answered; ) {
        seen = answered;
        await answered;
      }
    },
  };
}
