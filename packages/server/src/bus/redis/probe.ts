/**
 * Liveness by delivery: a connection that is open proves nothing. Every process sends itself a probe on every topic it
 * hears, the way messages go, so that each shard's subscription is proved by what arrives.
 *
 * Guarantees: a topic whose probes Redis takes but which hears none for 5 s is deaf: the hearing connection is made anew,
 * after 0 s, then 1 s, 2 s … at most 30 s, with jitter, until every topic is heard. `healthy` is false before the first
 * probe came back, and while some topic has heard none for 10 s. Probes that Redis does not take say nothing of the
 * subscription: then only `healthy` tells. A process that itself stood still blames nobody for that time.
 */
import type { Clock } from '../../lib/clock.ts';

/** Times in ms. */
export interface ProbeTimes {
  /** Between two probes, a fifth more or less; a quarter of it while something is wrong. */
  readonly everyMs: number;
  /** Unheard for so long, a topic is deaf. */
  readonly deafMs: number;
  /** Unheard for so long, the bus is not healthy. */
  readonly unhealthyMs: number;
}

/** The times of the product. */
export const PROBE_TIMES: ProbeTimes = { everyMs: 2000, deafMs: 5000, unhealthyMs: 10_000 };
const BACK_OFF_FIRST_MS = 1000;
const BACK_OFF_MOST_MS = 30_000;

/** What a probe needs. */
export interface ProbeOptions {
  readonly clock: Clock;
  readonly times?: ProbeTimes;
  /** Topics that are subscribed now. */
  readonly topics: () => readonly string[];
  /** Sends a probe; resolves when Redis took it. */
  readonly send: (topic: string, payload: string) => Promise<void>;
  /** Makes the hearing connection anew. */
  readonly remake: (deaf: readonly string[]) => void;
  /** A probe came back after so many seconds. */
  readonly onTravel: (seconds: number) => void;
}

/** The probe of one process. */
export interface Probe {
  /** Sends the first probes at once, then goes on until `stop`. */
  start(): void;
  stop(): void;
  /** A topic is new: a probe goes out on it at once. */
  noteTopic(topic: string): void;
  /** A probe of this process came back. */
  heard(topic: string, payload: string): void;
  healthy(): boolean;
  /** Age of the last probe that came back, of the topic where it is oldest; before the first one since the start. In ms. */
  lagMs(): number;
  /** One round: judges, then sends. For tests with a clock of their own; `start` calls it. */
  round(): void;
}

interface TopicState {
  /** When it was first looked at; stands for a probe that came back until one does. Monotonic, as all times here. */
  since: number;
  /** The number and the time of sending of the youngest probe that came back. */
  heardNumber: number;
  heardSentAt: number | null;
  /** Since when Redis takes probes that are not heard. */
  unheardSince: number | null;
  /** Probes on their way, by number: time of sending. */
  readonly sent: Map<number, number>;
}

/** Probes of a topic that are remembered. */
const SENT_MOST = 16;

/** Creates the probe; it does nothing before `start`. */
export function createProbe(options: ProbeOptions): Probe {
  const { clock } = options;
  const times = options.times ?? PROBE_TIMES;
  const states = new Map<string, TopicState>();
  const startedAt = clock.monotonic();
  let number = 0;
  let ever = false;
  let remakes = 0;
  let remakeNotBefore = startedAt;
  let lastRound = startedAt;
  let timer: NodeJS.Timeout | null = null;
  let stopped = false;

  function stateOf(topic: string): TopicState {
    let state = states.get(topic);
    if (state === undefined) {
      state = { since: clock.monotonic(), heardNumber: 0, heardSentAt: null, unheardSince: null, sent: new Map() };
      states.set(topic, state);
    }
    return state;
  }

  function send(topic: string): void {
    const state = stateOf(topic);
    const mine = ++number;
    const sentAt = clock.monotonic();
    state.sent.set(mine, sentAt);
    if (state.sent.size > SENT_MOST) state.sent.delete(state.sent.keys().next().value ?? mine);
    options.send(topic, String(mine)).then(
      () => {
        // It may have been heard before Redis's answer to its sending was.
        if (mine > state.heardNumber) state.unheardSince ??= clock.monotonic();
      },
      () => state.sent.delete(mine),
    );
  }

  /** Forgets topics that are subscribed no more, and answers those of the others that are deaf. */
  function deaf(now: number): string[] {
    const topics = new Set(options.topics());
    for (const topic of states.keys()) if (!topics.has(topic)) states.delete(topic);
    return [...topics].filter((topic) => {
      const since = stateOf(topic).unheardSince;
      return since !== null && now - since >= times.deafMs;
    });
  }

  function judge(now: number): void {
    const topics = deaf(now);
    if (topics.length === 0) {
      if (allHeard(now)) remakes = 0;
      return;
    }
    if (now < remakeNotBefore) return;
    const backOff = Math.min(BACK_OFF_MOST_MS, BACK_OFF_FIRST_MS * 2 ** remakes);
    remakes += 1;
    remakeNotBefore = now + times.deafMs + backOff * (0.5 + Math.random() / 2);
    for (const state of states.values()) state.unheardSince = null;
    options.remake(topics);
  }

  function allHeard(now: number): boolean {
    return [...states.values()].every(({ heardSentAt }) => heardSentAt !== null && now - heardSentAt < times.deafMs);
  }

  function round(): void {
    const now = clock.monotonic();
    if (now - lastRound > 2 * times.everyMs) {
      // This process stood still; what came meanwhile waits to be read after this turn.
      for (const state of states.values()) if (state.unheardSince !== null) state.unheardSince = now;
    }
    lastRound = now;
    judge(now);
    for (const topic of options.topics()) send(topic);
  }

  function next(): void {
    if (stopped) return;
    round();
    const every = ever && allHeard(clock.monotonic()) ? times.everyMs : times.everyMs / 4;
    timer = setTimeout(next, every * (0.8 + Math.random() * 0.4));
  }

  return {
    start: next,
    stop() {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
    },
    noteTopic(topic) {
      if (!stopped) send(topic);
    },
    heard(topic, payload) {
      const state = states.get(topic);
      const sentAt = state?.sent.get(Number(payload));
      if (state === undefined || sentAt === undefined) return;
      ever = true;
      state.heardNumber = Number(payload);
      state.heardSentAt = sentAt;
      state.unheardSince = null;
      for (const older of state.sent.keys()) if (older <= state.heardNumber) state.sent.delete(older);
      options.onTravel((clock.monotonic() - sentAt) / 1000);
    },
    healthy() {
      const now = clock.monotonic();
      return (
        ever && [...states.values()].every(({ since, heardSentAt }) => now - (heardSentAt ?? since) < times.unhealthyMs)
      );
    },
    lagMs() {
      const now = clock.monotonic();
      let most = ever ? 0 : now - startedAt;
      for (const { since, heardSentAt } of states.values()) most = Math.max(most, now - (heardSentAt ?? since));
      return most;
    },
    round,
  };
}
