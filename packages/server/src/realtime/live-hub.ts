/**
 * The viewers of the live state that are connected to this process.
 *
 * Guarantees: `welcome` (form `tocsin`), then the snapshot when any device is active, then each change; what changes together
 * leaves in one write, the same bytes for everybody. A viewer that is slower than the changes is sent the latest of each
 * device, all in turn, and ends where the board is; it is never closed for being slow at that, and what it lacks costs no
 * memory: two numbers say it. A watermark says that all that was known as of its time was sent on that connection; it comes
 * while the board is fed, and not to who is behind.
 * Failure: until the board was read from the store newcomers are refused. There is no history: who asks to resume is told
 * `recovered: false` and begins with the snapshot like everybody.
 */
import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';
import type { Refusal } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Clock } from '../lib/clock.ts';
import { FANOUT_SLICE_MS, VIEWERS_PER_LOOK } from './fanout.ts';
import { textFrame } from './frame.ts';
import { type HubStanding, type ResumePoint, type ViewerHandle, waitingFor, type WelcomePart } from './hub.ts';
import { JOIN_BYTES } from './chunk.ts';
import { type LiveBatch, type LiveForm, LiveFrames, type LiveWalk } from './live-frames.ts';
import type { LiveState } from './live-state.ts';
import type { QueueLimits } from './queue.ts';
import { createSchedule } from './schedule.ts';
import type { Sink } from './sink.ts';
import { Viewer, type ViewerHome } from './viewer.ts';

/** The name of the channel, and the epoch of all its instances: it has no history that could begin anew. */
export const LIVE_CHANNEL = 'devices';
export const LIVE_EPOCH = 'live';

/** How a viewer begins. */
export interface LivePlan {
  readonly kind: 'fresh' | 'unrecovered';
}

/** What happens, for metrics. */
export interface LiveHubEvents {
  /** Time from the first change of a batch to the last viewer (s), and messages written. */
  fanout(seconds: number, messages: number): void;
  /** Messages written. */
  sent(messages: number): void;
}

/** What it needs. */
export interface LiveHubOptions {
  readonly state: LiveState;
  readonly clock: Clock;
  readonly watermarkSeconds: number;
  readonly ready: () => boolean;
  /** As of when the board shows all there is, Unix ms; null: nobody says. */
  readonly fedAt: () => number | null;
  readonly events?: Partial<LiveHubEvents>;
  readonly queue?: QueueLimits;
}

/** How viewers of one form come in. */
export interface LiveDoor {
  plan(resume: ResumePoint | null): Promise<LivePlan | Refusal>;
  attach(sink: Sink, plan: LivePlan, filter: unknown, welcome: WelcomePart): ViewerHandle;
}

/** The viewers. */
export interface LiveHub {
  door(form: LiveForm): LiveDoor;
  viewers(): number;
  /** Looks at every viewer: how many are behind, what else waits for them, and how long ago the board was fed, ms. */
  standing(): HubStanding;
  start(): void;
  /** Ends its timer; closes who is left with 1001. */
  stop(): void;
}

const QUEUE_LIMITS: QueueLimits = {
  socketBytes: LIMITS.socketBufferBytes.value,
  messages: LIMITS.viewerQueueMessages.value,
  bytes: LIMITS.viewerQueueBytes.value,
};
const NOT_READY: Refusal = { code: 'store-unavailable', detail: 'The live state is not known yet', retryAfterMs: 1000 };
/** A snapshot is built once for all who come within this time, ms; what changed meanwhile follows it. */
const SNAPSHOT_MS = 100;
/** Time between two looks whether a watermark is due, at most, ms. */
const TICK_MS = 1000;
const EVERYTHING = { zone: null, minSeverity: null } as const;

/** Where a viewer is: what it has seen. */
type Place =
  /** The snapshot is still to be sent. */
  | { readonly kind: 'new' }
  /** It has everything up to this change. */
  | { readonly kind: 'level'; readonly upTo: number }
  /** It is being told what it lacks. */
  | { readonly kind: 'behind'; readonly walk: LiveWalk };

class LiveViewer extends Viewer {
  readonly form: LiveForm;
  place: Place = { kind: 'new' };
  /** It has no room; it goes on by itself once it has. */
  waiting = false;

  constructor(home: ViewerHome, sink: Sink, limits: QueueLimits, form: LiveForm) {
    super(home, sink, limits, EVERYTHING, 0, 0);
    this.form = form;
  }

  /** The raw form has no messages of the connection's own. */
  override send(message: object): void {
    if (this.form === 'tocsin') super.send(message);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Snapshots, each built once for a while. */
function createSnapshots(
  frames: LiveFrames,
  state: LiveState,
  clock: Clock,
): (form: LiveForm) => { bytes: Buffer; upTo: number } | null {
  interface Held {
    readonly bytes: Buffer;
    readonly upTo: number;
    readonly removals: number;
    readonly until: number;
  }
  const held: Partial<Record<LiveForm, Held>> = {};
  return (form) => {
    if (state.size() === 0) return null;
    const now = clock.monotonic();
    let one = held[form];
    if (one === undefined || now >= one.until || one.removals !== frames.removals) {
      const { last: upTo, removals } = frames;
      one = { bytes: frames.snapshot(form), upTo, removals, until: now + SNAPSHOT_MS };
      held[form] = one;
    }
    return one;
  };
}

/** Creates the hub of a live state; it watches it from now on. */
export function createLiveHub(options: LiveHubOptions): LiveHub {
  const { state, clock, events = {}, queue: limits = QUEUE_LIMITS } = options;
  const viewers = new Set<LiveViewer>();
  const frames = new LiveFrames();
  const snapshot = createSnapshots(frames, state, clock);
  const period = options.watermarkSeconds * 1000;
  const watermarks = createSchedule(period, Math.min(TICK_MS / 2, period / 4));
  let timer: NodeJS.Timeout | null = null;
  let running = false;
  let firstChangeAt = 0;
  let watermarkAt: number | null = null;
  let checkedAt: number | null = null;

  state.watch({
    changed(device) {
      frames.change(device);
      if (viewers.size > 0) wake();
    },
    gone: (deviceId) => frames.remove(deviceId),
  });

  function close(viewer: Viewer, name?: CloseName): void {
    if (!viewer.step('close')) return;
    viewers.delete(viewer as LiveViewer);
    viewer.queue.end();
    if (name === undefined) return;
    const row = CLOSE_CODES[name];
    viewer.sink.close(row.code, row.meaning);
  }
  const home: ViewerHome = { close, received: () => undefined };

  function wait(viewer: LiveViewer): void {
    viewer.waiting = true;
    viewer.queue.whenDrained(() => {
      viewer.waiting = false;
      const messages = catchUp(viewer);
      if (messages > 0) events.sent?.(messages);
    });
  }

  /** Sends what the viewer lacks while it has room; answers how many messages. */
  function catchUp(viewer: LiveViewer): number {
    let messages = 0;
    for (;;) {
      const { place, queue, form } = viewer;
      if (place.kind === 'level') {
        if (place.upTo === frames.last) return messages;
        viewer.place = { kind: 'behind', walk: { after: place.upTo, upTo: frames.last, slot: 0 } };
        continue;
      }
      if (place.kind === 'new') {
        const whole = snapshot(form);
        if (whole !== null && !queue.offer(whole.bytes)) break;
        if (whole !== null) messages += 1;
        viewer.place = { kind: 'level', upTo: whole?.upTo ?? frames.last };
        continue;
      }
      // Asked before the chunk is built: who is slow asks often.
      if (!queue.hasRoom(JOIN_BYTES)) break;
      const chunk = frames.walk(place.walk, form);
      if (chunk === null) {
        viewer.place = { kind: 'level', upTo: place.walk.upTo };
        continue;
      }
      queue.offer(chunk.bytes);
      messages += chunk.messages;
    }
    wait(viewer);
    return messages;
  }

  function deliver(viewer: LiveViewer, batch: LiveBatch): number {
    if (viewer.waiting) return 0;
    let messages = 0;
    if (viewer.place.kind === 'level' && viewer.place.upTo === batch.after) {
      for (const chunk of batch.chunks(viewer.form)) {
        if (!viewer.queue.offer(chunk.bytes)) break;
        viewer.place = { kind: 'level', upTo: chunk.upTo };
        messages += chunk.messages;
      }
    }
    return messages + catchUp(viewer);
  }

  const isLevel = ({ place, waiting }: LiveViewer): boolean =>
    !waiting && place.kind === 'level' && place.upTo === frames.last;

  async function hand(batch: LiveBatch | null, watermark: Buffer | null): Promise<number> {
    let [messages, looked] = [0, 0];
    let endsAt = clock.monotonic() + FANOUT_SLICE_MS;
    // A Set may change while it is walked: who leaves is skipped, who joins has what the batch holds.
    for (const viewer of viewers) {
      if (batch !== null) messages += deliver(viewer, batch);
      if (watermark !== null && viewer.form === 'tocsin' && isLevel(viewer) && viewer.queue.offer(watermark))
        messages++;
      if (++looked % VIEWERS_PER_LOOK !== 0 || clock.monotonic() < endsAt) continue;
      await turn();
      endsAt = clock.monotonic() + FANOUT_SLICE_MS;
    }
    return messages;
  }

  async function run(): Promise<void> {
    await turn();
    while (frames.pending || watermarkAt !== null) {
      const at = watermarkAt;
      const begun = firstChangeAt;
      watermarkAt = null;
      const batch = frames.number();
      const watermark = at === null ? null : textFrame(JSON.stringify({ type: 'watermark', offset: 0, at }));
      const messages = await hand(batch, watermark);
      if (batch !== null) events.fanout?.((clock.monotonic() - begun) / 1000, messages);
      events.sent?.(messages);
      firstChangeAt = clock.monotonic();
    }
    running = false;
  }

  function wake(): void {
    if (running) return;
    running = true;
    firstChangeAt = clock.monotonic();
    void run();
  }

  function tick(): void {
    // Looked at for its own sake, too: devices leave by it while nothing comes.
    state.size();
    const at = options.fedAt();
    if (at === null) return;
    checkedAt = clock.monotonic();
    if (viewers.size === 0 || !watermarks.due(checkedAt)) return;
    watermarkAt = at;
    wake();
  }

  function attach(form: LiveForm, sink: Sink, plan: LivePlan, part: WelcomePart): ViewerHandle {
    const viewer = new LiveViewer(home, sink, limits, form);
    // What changed while nobody looked is in the snapshot, and not to be told once more.
    if (viewers.size === 0 && !running) frames.number();
    viewers.add(viewer);
    viewer.send({
      type: 'welcome',
      connection: part.connection,
      channel: LIVE_CHANNEL,
      epoch: LIVE_EPOCH,
      offset: 0,
      recovered: plan.kind === 'fresh',
      heartbeatSeconds: part.heartbeatSeconds,
      watermarkSeconds: options.watermarkSeconds,
      reauthenticateBy: part.reauthenticateBy,
    });
    viewer.step('caught-up');
    const messages = catchUp(viewer);
    events.sent?.(messages);
    return viewer;
  }

  return {
    door: (form) => ({
      plan: async (resume) => (options.ready() ? { kind: resume === null ? 'fresh' : 'unrecovered' } : NOT_READY),
      attach: (sink, plan, _filter, part) => attach(form, sink, plan, part),
    }),
    viewers: () => viewers.size,
    standing: () => ({
      ...waitingFor(viewers),
      waiting: [...viewers].filter(({ waiting }) => waiting).length,
      checkedMs: checkedAt === null ? null : clock.monotonic() - checkedAt,
    }),
    start: () => void (timer = setInterval(tick, Math.min(TICK_MS, period / 4))),
    stop() {
      if (timer !== null) clearInterval(timer);
      for (const viewer of [...viewers]) close(viewer, 'end');
    },
  };
}
