/**
 * The viewers of one channel that are connected to this process.
 *
 * Guarantees: a viewer's first message is `welcome`; after it come the messages after `welcome.offset` that its filter
 * lets through, in order, once. A watermark says that everything up to its offset was sent on that connection, as read
 * from the store at its time; while the store does not answer there is none.
 * `welcome.offset` is the offset that was asked for when the resume succeeds (what was missed follows), else the head.
 * Failure: a viewer whose queue overflows is closed with 4008, one whose history cannot be read with 1013, all of them
 * with 1012 when the channel's history began anew; each may resume.
 */
import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';
import type { Refusal } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import type { PublishSubscribe } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { ChannelMessage, ChannelStore } from '../store/ports/channels.ts';
import type { DropReason } from './channel.ts';
import type { DeliveryAccount } from './delivery.ts';
import { type Entry, entryOf, type Filter } from './entry.ts';
import { createFanout } from './fanout.ts';
import { createFeed } from './feed.ts';
import { textFrame } from './frame.ts';
import type { QueueLimits } from './queue.ts';
import { createPageReader, entryAt } from './pages.ts';
import { createRecovery } from './recovery.ts';
import { createRing } from './ring.ts';
import { createSchedule } from './schedule.ts';
import type { Sink } from './sink.ts';
import { Viewer, type ViewerHome } from './viewer.ts';

/** Where a viewer wants to go on. */
export interface ResumePoint {
  readonly epoch: string;
  readonly offset: number;
}

/** What {@link Hub.plan} found; only good for `attach` of the same hub, soon. */
export type Plan =
  | { readonly kind: 'fresh' }
  | { readonly kind: 'resume'; readonly epoch: string; readonly offset: number; readonly page: readonly Entry[] }
  | { readonly kind: 'unrecovered' };

/** The parts of `welcome` that the transport knows. Times are Unix ms. */
export interface WelcomePart {
  readonly connection: string;
  readonly heartbeatSeconds: number;
  readonly reauthenticateBy: number;
}

/** One viewer, as its transport holds it. */
export type ViewerHandle = Pick<Viewer, 'offset' | 'received' | 'send' | 'close'>;

/** What happens, for metrics and logs. */
export interface HubEvents {
  /** Time from the first message of a batch to the last viewer (s), and messages queued. */
  fanout(seconds: number, messages: number): void;
  /** Messages queued for viewers. */
  sent(messages: number): void;
  /** Of these, messages for viewers that had missed them. */
  replayed(messages: number): void;
  dropped(reason: DropReason): void;
  lag(ms: number): void;
  failure(part: 'store' | 'bus', error: unknown): void;
  /** The channel's history began anew. */
  restarted(): void;
}

/** What a hub needs. */
export interface HubOptions {
  readonly channel: string;
  readonly store: ChannelStore;
  readonly pubsub: PublishSubscribe;
  readonly clock: Clock;
  readonly watermarkSeconds: number;
  /** Time between two reads of the head, in ms; 1000 when absent. */
  readonly pollMs?: number;
  readonly queue?: QueueLimits;
  readonly ringMessages?: number;
  readonly events?: Partial<HubEvents>;
  /** Counts what becomes of messages; nothing is counted when absent. */
  readonly deliveries?: DeliveryAccount;
}

/** How a hub stands. */
export interface HubStanding {
  /** Viewers for whom something waits beyond their sockets, and the bytes of it. */
  readonly waiting: number;
  readonly queuedBytes: number;
  /** Since the store last said where the channel stands and all of it was delivered, ms; null before the first time. */
  readonly checkedMs: number | null;
}

/** The viewers of one channel. */
export interface Hub {
  /** Resolves after the first try to reach store and bus; keeps trying after that. */
  start(): Promise<void>;
  /** True once the store has told where the channel stands. */
  ready(): boolean;
  /** Viewers that are not closing. */
  viewers(): number;
  /** Looks at every viewer. */
  standing(): HubStanding;
  /** The offset up to which this process has every message. */
  offset(): number;
  /** Reads the head from the store now; answers whether that worked. */
  refresh(): Promise<boolean>;
  /** Decides before the upgrade how a viewer begins. `null`: a fresh one. Refuses when the store does not answer. */
  plan(resume: ResumePoint | null): Promise<Plan | Refusal>;
  /** Adds a viewer whose socket is open and untouched: writes `welcome` at once. */
  attach(sink: Sink, plan: Plan, filter: Filter, welcome: WelcomePart): ViewerHandle;
  /** Ends timers and the subscription; closes who is left with 1001. */
  stop(): Promise<void>;
}

const RING_MESSAGES = 2048;
const RING_BYTES = 8_388_608;
/** Viewers that must come back after a restart of the history are spread over this time, in ms. */
const RESTART_SPREAD_MS = 3000;
/** A reading of the store is worth a watermark for so many polls; after that the store may be away. */
const VOUCH_POLLS = 2;
/** Above this backlog bus messages are left to the store. */
const BACKLOG_MOST = 5000;

const NOT_READY: Refusal = { code: 'store-unavailable', detail: 'The channel cannot be read', retryAfterMs: 1000 };

/** What waits for one viewer before it counts as slow. */
const QUEUE_LIMITS: QueueLimits = {
  socketBytes: LIMITS.socketBufferBytes.value,
  messages: LIMITS.viewerQueueMessages.value,
  bytes: LIMITS.viewerQueueBytes.value,
};

/** What waits for viewers beyond their sockets. */
export function waitingFor(viewers: Iterable<Viewer>): Omit<HubStanding, 'checkedMs'> {
  let [waiting, queuedBytes] = [0, 0];
  for (const { queue } of viewers) {
    if (queue.empty) continue;
    waiting += 1;
    queuedBytes += queue.bytes;
  }
  return { waiting, queuedBytes };
}

/** Up to where the store was read and delivered, and as of when (Unix ms). */
interface Checked {
  readonly offset: number;
  readonly at: number;
  /** `at` by the monotonic clock, about. */
  readonly since: number;
}

const watermarkFrame = ({ offset, at }: Checked): Buffer =>
  textFrame(JSON.stringify({ type: 'watermark', offset, at }));

/** The head was read of late. */
function isYoung(checked: Checked | null, now: number, pollMs: number): checked is Checked {
  return checked !== null && now - checked.since <= VOUCH_POLLS * pollMs;
}

/** Who missed something has it all now, and need not wait for the next watermark to know; none while the store is away. */
function vouches(checked: Checked | null, viewer: Viewer, now: number, pollMs: number): checked is Checked {
  return viewer.resumed && checked?.offset === viewer.cursor && isYoung(checked, now, pollMs);
}

/** Creates the hub of a channel. */
export function createHub(options: HubOptions): Hub {
  const { channel, clock, events = {}, deliveries } = options;
  const { queue: limits = QUEUE_LIMITS, ringMessages = RING_MESSAGES, pollMs = 1000 } = options;
  const viewers = new Set<Viewer>();
  const ring = createRing(ringMessages, RING_BYTES);
  const pages = createPageReader(options.store, channel);
  const period = options.watermarkSeconds * 1000;
  const watermarks = createSchedule(period, Math.min(pollMs / 2, period / 4));
  let checked: Checked | null = null;

  const fanout = createFanout({
    clock,
    onBatch(seconds, messages) {
      events.fanout?.(seconds, messages);
      events.sent?.(messages);
    },
    onHanded: (entries, count) => deliveries?.handed(entries, count),
  });

  const feed = createFeed({
    channel,
    store: options.store,
    pubsub: options.pubsub,
    clock,
    pollMs,
    preload: Math.min(ringMessages, 500),
    onMessages: deliver,
    onChecked: watermark,
    onRestart: restart,
    settled: () => fanout.settled(),
    hasRoom: () => fanout.backlog < BACKLOG_MOST,
    onDropped: (reason) => events.dropped?.(reason),
    onLag: (ms) => events.lag?.(ms),
    onFailure: (part, error) => events.failure?.(part, error),
  });

  const recovery = createRecovery({
    ring,
    pages,
    delivered: () => feed.delivered,
    onSent(viewer, { messages, entries }) {
      events.sent?.(messages);
      events.replayed?.(messages);
      deliveries?.caughtUp(entries, viewer.joinedAt);
    },
    onCaughtUp(viewer) {
      if (!viewer.step('caught-up')) return;
      fanout.add(viewer);
      if (vouches(checked, viewer, clock.monotonic(), pollMs)) viewer.queue.push('alerts', watermarkFrame(checked));
    },
    onLost: (viewer) => close(viewer, 'overloaded'),
  });

  function deliver(messages: readonly ChannelMessage[]): void {
    for (const message of messages) {
      const entry = entryOf(message);
      ring.push(entry);
      deliveries?.published(entry);
      fanout.push(entry);
    }
  }

  function watermark(offset: number, at: number): void {
    checked = { offset, at, since: clock.monotonic() };
    if (watermarks.due(checked.since)) fanout.control(watermarkFrame(checked));
  }

  function restart(): void {
    fanout.clear();
    ring.clear();
    pages.clear();
    recovery.clear();
    deliveries?.clear();
    checked = null;
    events.restarted?.();
    for (const viewer of [...viewers]) {
      const retryAfterMs = Math.floor(Math.random() * RESTART_SPREAD_MS);
      viewer.send({ type: 'moving', retryAfterMs });
      close(viewer, 'restart');
    }
  }

  function close(viewer: Viewer, name?: CloseName): void {
    if (!viewer.step('close')) return;
    viewers.delete(viewer);
    fanout.remove(viewer);
    deliveries?.closed(viewer.filter);
    viewer.queue.end();
    if (name === undefined) return;
    const row = CLOSE_CODES[name];
    viewer.sink.close(row.code, row.meaning);
  }

  const home: ViewerHome = { close, received: (filter, after, upTo) => deliveries?.received(filter, after, upTo) };

  function judge(resume: ResumePoint): boolean {
    const gap = feed.delivered - resume.offset;
    return resume.epoch === feed.epoch && gap >= 0 && gap <= LIMITS.resumeMessages.value;
  }

  async function plan(resume: ResumePoint | null): Promise<Plan | Refusal> {
    if (feed.epoch === null && !(await feed.refresh())) return NOT_READY;
    // The welcome of a fresh viewer says that this is the head: nobody says so while the store is away.
    if (resume === null)
      return isYoung(checked, clock.monotonic(), pollMs) || (await feed.refresh()) ? { kind: 'fresh' } : NOT_READY;
    // Another process may have shown this viewer more than this one has seen: ask before saying no.
    if ((resume.offset > feed.delivered || resume.epoch !== feed.epoch) && !(await feed.refresh())) return NOT_READY;
    if (!judge(resume)) return { kind: 'unrecovered' };
    if (resume.offset === feed.delivered || ring.get(resume.offset + 1) !== undefined) {
      return { kind: 'resume', ...resume, page: [] };
    }
    try {
      const page = await pages.page(resume.offset);
      return entryAt(page, resume.offset + 1) !== undefined
        ? { kind: 'resume', ...resume, page }
        : { kind: 'unrecovered' };
    } catch (error) {
      events.failure?.('store', error);
      return NOT_READY;
    }
  }

  function attach(sink: Sink, planned: Plan, filter: Filter, part: WelcomePart): ViewerHandle {
    const resume = planned.kind === 'resume' && judge(planned) ? planned : null;
    const recovered = resume !== null || planned.kind === 'fresh';
    const offset = resume?.offset ?? feed.delivered;
    const viewer = new Viewer(home, sink, limits, fanout.shared(filter), offset, feed.delivered);
    viewer.resumed = resume !== null;
    viewers.add(viewer);
    deliveries?.opened(viewer.filter);
    viewer.send({
      type: 'welcome',
      connection: part.connection,
      channel,
      epoch: feed.epoch,
      offset,
      recovered,
      heartbeatSeconds: part.heartbeatSeconds,
      watermarkSeconds: options.watermarkSeconds,
      reauthenticateBy: part.reauthenticateBy,
    });
    recovery.start(viewer, resume?.page);
    return viewer;
  }

  return {
    start: () => feed.start(),
    ready: () => feed.epoch !== null,
    viewers: () => viewers.size,
    standing: () => ({
      ...waitingFor(viewers),
      checkedMs: checked === null ? null : clock.monotonic() - checked.since,
    }),
    offset: () => feed.delivered,
    refresh: () => feed.refresh(),
    plan,
    attach,
    async stop() {
      for (const viewer of [...viewers]) close(viewer, 'end');
      await feed.stop();
    },
  };
}
