/**
 * The way of a channel's messages to one destination. The channel is the outbox: the destination is a position in it.
 *
 * Guarantees: one worker of the installation at a time posts (a lease, renewed before each post that it would not outlast); posts are in
 * the order of the channel, and the position moves after each; so whatever happens in between, every message that is to be told is
 * told at least once, and again only when its outcome could not be written down before another worker took over, or this process ended.
 * What could not be written down and is still known here is not posted again. While a post is put off everything after it waits.
 * Failure: a store that does not answer is reported and asked again; a post that fails is put off (`retry.ts`) or becomes a dead
 * letter. Nothing is thrown.
 */
import type { Clock } from '../lib/clock.ts';
import type { ChannelStore } from '../store/ports/channels.ts';
import type { DeadLetter, Destination, NotificationStore, Step } from '../store/ports/notifications.ts';
import type { Wants } from './decide.ts';
import { letterOf, noticeOf, planNext, type Settled, toldOf } from './plan.ts';
import type { DestinationKind, Notice, Notifier, Outcome } from './notifier.ts';
import { pauseAfter, TELL_WITHIN_MS } from './retry.ts';
import type { SummaryLane } from './summary-lane.ts';

/** What became of messages, as metrics count it. */
export type DeliveryResult = 'sent' | 'retry' | 'dead' | 'lost' | 'summary' | 'summary-dropped';

/** What logs and metrics hear. */
export interface DeliveryEvents {
  /** `messages` of them. */
  result(kind: DestinationKind, result: DeliveryResult, messages: number): void;
  /** A post is put off for `pauseMs`. */
  delayed(destination: string, reason: string, attempts: number, pauseMs: number): void;
  /** Messages will not be told: dead letters, or (`not-kept`) no longer in the channel. */
  gaveUp(destination: string, reason: string, messages: number): void;
  /** The store did not answer. */
  failed(destination: string, error: unknown): void;
}

/** What {@link createDelivery} needs. */
export interface DeliveryOptions {
  readonly notifier: Notifier;
  readonly wants: Wants;
  readonly store: NotificationStore;
  readonly channel: Pick<ChannelStore, 'head' | 'read'>;
  readonly channelName: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** The name of this process in leases. */
  readonly owner: string;
  /** Nobody else can hold it: leases of the process before need not run out. */
  readonly seize: boolean;
  readonly summaries: SummaryLane | null;
  readonly events: DeliveryEvents;
  /** Longest wait for news, ms. */
  readonly pollMs?: number;
  /** How long a lease lasts beyond a post, ms: after a worker's sudden end another one takes over that much later. */
  readonly leaseBeyondMs?: number;
}

/** How it stands here. */
export interface DeliveryStanding {
  readonly kind: DestinationKind;
  /** This process delivers. */
  readonly held: boolean;
  /** Messages of the channel that wait. */
  readonly lag: number;
  /** A post is put off. */
  readonly delayed: boolean;
}

/** A destination's delivery. */
export interface Delivery {
  start(): void;
  /** There is news in the channel. */
  wake(): void;
  standing(): DeliveryStanding;
  /** Ends it: a post that is under way has {@link STOP_MS}, then the lease is given up. */
  stop(): Promise<void>;
}

const POLL_MS = 1000;
const LEASE_BEYOND_MS = 10_000;
/** Of the time that a lease lasts beyond a post: when less than this is left it is renewed first. */
const MARGIN_SHARE = 0.3;
/** Messages of one read. */
const PAGE = 100;
/** How long a stop waits for a post. */
const STOP_MS = 1500;
/** Shortest wait of the loop, ms. */
const LEAST_WAIT_MS = 5;

/** Builds the delivery of one destination. */
export function createDelivery(options: DeliveryOptions): Delivery {
  const { notifier, events, pollMs = POLL_MS } = options;
  const { destination, kind } = notifier;
  const stopping = new AbortController();
  const ended = new AbortController();
  const bell = createBell();
  const round = createRound(options, ended.signal);
  let running: Promise<void> | undefined;

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      let wait = pollMs;
      try {
        wait = await round.step(pollMs);
      } catch (error) {
        round.forget();
        events.failed(destination, error);
      }
      if (wait > 0 && !stopping.signal.aborted) await bell.wait(Math.max(wait, LEAST_WAIT_MS));
    }
    await round.release().catch((error: unknown) => events.failed(destination, error));
  };

  return {
    start: () => void (running ??= run()),
    wake: bell.ring,
    standing: () => ({ kind, ...round.standing() }),
    async stop() {
      stopping.abort();
      bell.ring();
      const timer = setTimeout(() => ended.abort(), STOP_MS);
      await running;
      clearTimeout(timer);
      notifier.close();
    },
  };
}

/** One step after the other of what a holder does. */
interface Round {
  /** Does what is due; answers how long to wait before the next one, ms (0: go on). Rejects when the store does. */
  step(pollMs: number): Promise<number>;
  standing(): Omit<DeliveryStanding, 'kind'>;
  /** What is known of the lease may be wrong: it is taken anew. */
  forget(): void;
  release(): Promise<void>;
}

function createRound(options: DeliveryOptions, ended: AbortSignal): Round {
  const { notifier, store, channel, channelName, clock, wants, events, summaries } = options;
  const { destination, kind } = notifier;
  const beyondMs = options.leaseBeyondMs ?? LEASE_BEYOND_MS;
  const leaseMs = notifier.timeoutMs + beyondMs;
  let held: Destination | null = null;
  let leaseUntil = 0;
  let lag = 0;
  /** Refused posts of several notices are tried one by one up to here. */
  let singlyUntil = 0;
  const settled = new Map<number, Settled>();

  /** True while the lease outlasts a post. */
  const keep = async (hold: Destination): Promise<boolean> => {
    if (leaseUntil - clock.monotonic() > notifier.timeoutMs + beyondMs * MARGIN_SHARE) return true;
    const asked = clock.monotonic();
    if (await store.renew(hold, leaseMs)) leaseUntil = asked + leaseMs;
    else held = null;
    return held !== null;
  };

  const claim = async (): Promise<Destination | null> => {
    const asked = clock.monotonic();
    held = await store.claim(destination, options.owner, leaseMs, options.seize);
    leaseUntil = asked + leaseMs;
    if (held === null) return null;
    for (const offset of settled.keys()) if (offset <= held.position) settled.delete(offset);
    summaries?.begin(held.summaryAt, clock.now());
    return held;
  };

  const advance = async (hold: Destination, step: Omit<Step, 'from'>): Promise<boolean> => {
    if (!(await store.advance(hold, { from: hold.position, ...step }, clock.now()))) {
      held = null;
      return false;
    }
    const retry = step.answered ? { attempts: 0, notBefore: 0 } : {};
    held = { ...hold, position: step.to, ...retry };
    for (const offset of settled.keys()) if (offset <= step.to) settled.delete(offset);
    return true;
  };

  const putOff = async (hold: Destination, outcome: Outcome & { kind: 'later' }): Promise<void> => {
    const attempts = hold.attempts + 1;
    const pauseMs = pauseAfter(attempts, outcome.retryAfterMs, options.random());
    const now = clock.now();
    held = { ...hold, attempts, notBefore: now + pauseMs };
    events.result(kind, 'retry', 1);
    events.delayed(destination, outcome.reason, attempts, pauseMs);
    if (!(await store.delay(hold, { attempts, notBefore: now + pauseMs, error: outcome.reason }, now))) held = null;
  };

  /** Posts the first of these and writes down what became of it. */
  const post = async (hold: Destination, waiting: readonly Notice[]): Promise<void> => {
    const first = waiting[0]?.offset ?? 0;
    const group = waiting.slice(0, first <= singlyUntil ? 1 : Math.max(1, notifier.join(waiting)));
    const last = group.at(-1)?.offset ?? 0;
    const outcome = await notifier.post(group, ended);
    if (outcome.kind === 'later') return ended.aborted ? undefined : putOff(hold, outcome);
    if (outcome.kind === 'refused' && group.length > 1) {
      singlyUntil = last;
      return;
    }
    const reason = outcome.kind === 'refused' ? outcome.reason : null;
    for (const { offset } of group) {
      settled.set(offset, reason === null ? { kind: 'told' } : { kind: 'dead', reason });
    }
    events.result(kind, reason === null ? 'sent' : 'dead', group.length);
    if (reason !== null) events.gaveUp(destination, reason, group.length);
    await advance(hold, {
      to: last,
      told: reason === null ? group.map(toldOf) : [],
      dead: reason === null ? [] : group.map((notice) => letterOf(notice, reason)),
      lost: 0,
      answered: true,
    });
  };

  /** Brings the position forward by one piece of work; false when the channel has nothing more. */
  const tell = async (hold: Destination): Promise<boolean> => {
    const messages = await channel.read(channelName, hold.position, PAGE);
    const [first] = messages;
    lag = messages.length < PAGE ? messages.length : (await channel.head(channelName)).head - hold.position;
    if (first === undefined) return false;
    const lost = first.offset - hold.position - 1;
    if (lost > 0) {
      if (!(await advance(hold, { to: first.offset - 1, told: [], dead: [], lost, answered: false }))) return true;
      events.result(kind, 'lost', lost);
      events.gaveUp(destination, 'not-kept', lost);
      return true;
    }
    const ids = messages.flatMap((message) => noticeOf(message, 'raised')?.alert.id ?? []);
    const told = await store.told(destination, ids);
    const plan = planNext({ messages, told, wants, settled, now: clock.now() });
    if (plan.kind === 'post') await post(hold, plan.waiting);
    if (plan.kind === 'pass') {
      const { to, dead } = plan;
      const fresh = dead.filter(({ offset }) => !settled.has(offset)).length;
      if ((await advance(hold, { to, told: plan.told, dead, lost: 0, answered: false })) && fresh > 0) {
        events.result(kind, 'dead', fresh);
        events.gaveUp(destination, 'too-old', fresh);
      }
    }
    return true;
  };

  const letters = createLetters(options, ended);
  const answered = (hold: Destination): Promise<boolean> =>
    advance(hold, { to: hold.position, told: [], dead: [], lost: 0, answered: true });

  return {
    standing: () => ({
      held: held !== null,
      lag: held === null ? 0 : lag,
      delayed: (held?.notBefore ?? 0) > clock.now(),
    }),
    forget: () => void (held = null),
    async release() {
      if (held !== null) await store.release(held);
      held = null;
    },
    async step(pollMs) {
      const hold = held ?? (await claim());
      if (hold === null) return pollMs;
      if (!(await keep(hold))) return 0;
      const now = clock.now();
      if (summaries !== null && summaries.due(now) && !(await store.summaryDue(hold, now))) held = null;
      if (hold.notBefore > now) return Math.min(hold.notBefore - now, pollMs);
      if (await tell(hold)) return 0;
      const letter = await letters.next();
      if (letter !== null) {
        const outcome = await letters.send(hold, letter);
        if (outcome === 'lost') held = null;
        else if (outcome.kind === 'later') await putOff(hold, outcome);
        else held = { ...hold, attempts: 0, notBefore: 0 };
        return 0;
      }
      const summed = (await summaries?.post(notifier, ended)) ?? null;
      if (summed === null) return Math.min(pollMs, summaries?.waitMs(clock.now()) ?? pollMs);
      if (summed.kind === 'later') {
        if (!ended.aborted) await putOff(hold, summed);
      } else {
        events.result(kind, summed.kind === 'sent' ? 'summary' : 'summary-dropped', 1);
        if (summed.kind === 'refused') events.gaveUp(destination, summed.reason, 0);
        if (hold.attempts > 0) await answered(hold);
      }
      return 0;
    },
  };
}

/** Dead letters that an operator wants tried again. */
interface Letters {
  next(): Promise<DeadLetter | null>;
  /** What came of one; `lost`: the lease is another's. */
  send(hold: Destination, letter: DeadLetter): Promise<Outcome | 'lost'>;
}

function createLetters(options: DeliveryOptions, ended: AbortSignal): Letters {
  const { notifier, store, channel, channelName, clock, events } = options;
  const { destination, kind } = notifier;
  /** Those that were told and could not be written down. */
  const told = new Set<number>();
  const outcomeOf = async (letter: DeadLetter, notice: Notice | null): Promise<Outcome> => {
    if (told.has(letter.id)) return { kind: 'sent' };
    if (notice === null) return { kind: 'refused', reason: 'not-kept' };
    if (clock.now() - (letter.requestedAt ?? 0) > TELL_WITHIN_MS) return { kind: 'refused', reason: 'too-old' };
    return notifier.post([notice], ended);
  };
  return {
    next: async () => (await store.requested(destination, 1))[0] ?? null,
    async send(hold, letter) {
      const [message] = await channel.read(channelName, letter.offset - 1, 1);
      const notice = message?.offset === letter.offset ? noticeOf(message, letter.event) : null;
      const outcome = await outcomeOf(letter, notice);
      if (outcome.kind === 'later') return outcome;
      if (outcome.kind === 'sent' && notice !== null) {
        told.add(letter.id);
        const end = { kind: 'told', told: toldOf(notice) } as const;
        if (!(await store.settle(hold, letter.id, end, clock.now()))) return 'lost';
        told.delete(letter.id);
        events.result(kind, 'sent', 1);
        return outcome;
      }
      const reason = outcome.kind === 'refused' ? outcome.reason : 'not-kept';
      if (!(await store.settle(hold, letter.id, { kind: 'dead', reason }, clock.now()))) return 'lost';
      events.result(kind, 'dead', 1);
      events.gaveUp(destination, reason, 1);
      return outcome;
    },
  };
}

/** A wait that can be cut short; a ring while nobody waits cuts the next wait. */
function createBell(): { ring(): void; wait(ms: number): Promise<void> } {
  let rung = false;
  let waiting: (() => void) | undefined;
  return {
    ring() {
      rung = true;
      waiting?.();
    },
    wait: (ms) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => waiting?.(), ms);
        waiting = () => {
          clearTimeout(timer);
          waiting = undefined;
          rung = false;
          resolve();
        };
        if (rung) waiting();
      }),
  };
}
