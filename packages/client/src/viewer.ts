/**
 * A viewer of alerts: keeps a connection, whatever happens to it, and hands each alert to the application once, in order.
 *
 * Guarantees, within one page: a revision of an alert is delivered once, never an older one after a newer one; live ones in
 * the order of their offsets; nothing that is malformed, or whose signature does not check. Alerts wait in a bounded inbox
 * while the application works; when it is full the connection is given up and resumed later.
 * Decisions are tables and functions elsewhere (`phases`, `verdict`, `protection`); here they are carried out.
 */
import type { Severity } from '@tocsin/protocol/alert';
import { CLOSE_CODES } from '@tocsin/protocol/close-codes';
import type { WelcomeMessage } from '@tocsin/protocol/messages';
import type { ViewerAlert } from './alert-shape.ts';
import type { Credentials } from './credentials.ts';
import { createEmitter } from './emitter.ts';
import type { Environment } from './environment.ts';
import type { AlertEvents, ErrorDetail, Gap, ViolationDetail } from './events.ts';
import { createGapFiller } from './gap.ts';
import { createAsk } from './http.ts';
import { createInbox, INBOX_MESSAGES } from './inbox.ts';
import { createKeyRing, type Trust } from './keys.ts';
import { type AlertMessage, type Link, openLink } from './link.ts';
import { delivers, type Phase, type PhaseEvent, PHASES } from './phases.ts';
import { type Protection, type ProtectionState, protectionOf } from './protection.ts';
import { createReceipts } from './receipts.ts';
import { readResumePoint, type ResumeStore } from './resume-point.ts';
import { createSeen } from './seen.ts';
import { judge, type LinkEnd, type Verdict, waitMs } from './verdict.ts';

/** Where and as whom to watch. */
export interface ConnectOptions {
  /** The server's base, `https://…` (`http://…` for tests). */
  readonly url: string;
  readonly credentials: Credentials;
  /** Only alerts of this zone. */
  readonly zone?: string;
  /** Only alerts that are at least this severe. */
  readonly minSeverity?: Severity;
  /** Whose signatures count; the server's own keys when absent. */
  readonly trust?: Trust;
  /** Keeps the place over reloads. */
  readonly resume?: ResumeStore;
}

/** Numbers since the start. */
export interface AlertCounts {
  readonly delivered: number;
  readonly duplicates: number;
  readonly violations: number;
  /** Connections that were welcomed. */
  readonly connections: number;
}

/** A viewer at work. */
export interface Alerts {
  readonly state: ProtectionState;
  readonly phase: Phase;
  readonly counts: AlertCounts;
  /** Listens; answers how to stop. */
  on<Name extends keyof AlertEvents>(name: Name, listener: AlertEvents[Name]): () => void;
  /** Ends the connection; no event comes after it. */
  close(): void;
}

/** What waits for the application. */
type Item =
  | { readonly kind: 'alert'; readonly epoch: string; readonly alert: ViewerAlert }
  | { readonly kind: 'late'; readonly alert: ViewerAlert; readonly done: (news: boolean) => void }
  | { readonly kind: 'mark'; readonly epoch: string; offset: number; at: number; heardAt: number };

/** How far this page is in the channel. `accepted` is in the inbox or beyond it, `handled` was with the application. */
interface Position {
  readonly epoch: string;
  accepted: number;
  handled: number;
  /** The newest time of the server, Unix ms. */
  at: number;
}

/** A gap is fetched from this much earlier than the newest known time, in ms: clocks of instances differ a little. */
const GAP_MARGIN_MS = 60_000;
/** An alert that does not check is asked for this often before it is passed over. */
const FORGED_TRIES = 3;
/** A page that woke comes back within this time, in ms: all of them wake at once. */
const WAKE_MS = 1000;
/** How soon to look again whether the application has caught up, in ms. */
const BUSY_MS = 250;

/** The address of the channel. Throws a TypeError when `url` is none. */
function channelUrl(base: string, { zone, minSeverity }: ConnectOptions): string {
  const url = new URL('ws/alerts', base);
  url.protocol = url.protocol.replace('http', 'ws');
  if (zone !== undefined) url.searchParams.set('zone', zone);
  if (minSeverity !== undefined) url.searchParams.set('minSeverity', minSeverity);
  return url.href;
}

/** Starts watching, as soon as the caller has added its listeners. Throws a TypeError when `url` is no URL. */
export function createViewer(env: Environment, options: ConnectOptions): Alerts {
  const { credentials, zone = null, minSeverity = null } = options;
  const base = new URL(options.url.replace(/\/?$/, '/')).href;
  const url = channelUrl(base, options);
  const ask = createAsk(env, base);
  const context = { ask, monotonic: env.monotonic };
  const emitter = createEmitter<AlertEvents>(onListenerError);
  const seen = createSeen();
  const inbox = createInbox<Item>(handle);
  const keys = createKeyRing(env, ask, options.trust ?? 'server', refresh);
  const receipts = createReceipts(env, sendReceipt);
  const gaps = createGapFiller({
    env,
    ask,
    zone,
    minSeverity,
    bearer: async () => (credentials.kind === 'token' ? credentials.secret('connect', context) : null),
    deliver: deliverLate,
    onMalformed: () => violation('shape', null),
    onDone: (outcome, alerts) => {
      tellGap({ outcome, missed, alerts });
      save();
    },
  });
  const counts = { delivered: 0, duplicates: 0, violations: 0, connections: 0 };
  let phase: Phase = 'idle';
  let main: Link | null = null;
  let next: Link | null = null;
  let position: Position | null = null;
  let protection: Protection = { state: 'not-protected', reason: 'idle', until: null };
  let reason = 'idle';
  let welcomedAt = 0;
  let coveredAt: number | null = null;
  let missed: Gap['missed'] = null;
  let tainted = false;
  let forged = { offset: -1, tries: 0 };
  let holeAfter = -1;
  let attempts = 0;
  let last: Pick<Extract<Verdict, { action: 'retry' }>, 'renew' | 'ask'> = { renew: false, ask: false };
  /** When we may come back at the earliest, as we were told; monotonic ms. */
  let notBefore = 0;
  let cancelMove: (() => void) | null = null;
  let cancelUntil: (() => void) | null = null;
  const stopWaking = env.onWake(wake);

  function onListenerError(error: unknown, name: keyof AlertEvents): void {
    // One that fails while it hears of failures is not told of its own.
    if (name !== 'error') tellError('handler', error);
  }
  function tellError(during: ErrorDetail['during'], error: unknown): void {
    if (phase !== 'closed') void emitter.emit('error', { during, error });
  }
  function tellGap(gap: Gap): void {
    refresh();
    if (phase !== 'closed') void emitter.emit('gap', gap);
  }
  function violation(why: ViolationDetail['reason'], offset: number | null): void {
    counts.violations += 1;
    if (phase !== 'closed') void emitter.emit('violation', { reason: why, offset, count: counts.violations });
  }

  /** Recomputes the state and tells it when it is another one. */
  function refresh(): void {
    cancelUntil?.();
    if (phase === 'closed') return;
    const now = env.monotonic();
    const before = protection;
    const periodMs = main?.periodMs ?? 0;
    const delivering = delivers(phase) && periodMs > 0;
    const gapOpen = gaps.open;
    protection = protectionOf({
      now,
      delivering,
      lostReason: reason,
      welcomedAt,
      periodMs,
      coveredAt,
      gapOpen,
      keysReady: keys.ready,
      tainted,
    });
    if (protection.until !== null) cancelUntil = env.after(protection.until - now, refresh);
    if (before.state === protection.state && before.reason === protection.reason) return;
    void emitter.emit('state', protection.state, { reason: protection.reason, verifying: env.subtle !== null });
  }

  /** Takes a step of the table; answers where that led. Listeners may have closed us meanwhile. */
  function step(event: PhaseEvent, why: string): Phase {
    const to = PHASES[phase][event];
    if (to === null) return phase;
    const from = phase;
    phase = to;
    // The end of a wait is no news: why there was one is.
    if (event !== 'due') reason = why;
    cancelMove?.();
    void emitter.emit('transition', { from, to, event, reason: why });
    refresh();
    return phase;
  }

  function open(): Link {
    const resume = position === null ? null : { epoch: position.epoch, offset: position.accepted };
    const need = last.renew ? 'refused' : 'connect';
    const link = openLink(
      { env, credentials, context, url, resume, need, ask: last.ask, filtered: zone !== null || minSeverity !== null },
      {
        greeted,
        alert: accept,
        watermark: mark,
        moving: move,
        malformed: (_link, offset) => violation('shape', offset),
        hole,
        duplicate: () => void (counts.duplicates += 1),
        error: (error) => tellError('connection', error),
        ended,
      },
    );
    last = { renew: false, ask: false };
    return link;
  }

  function greeted(link: Link, welcome: WelcomeMessage): void {
    counts.connections += 1;
    if (link === main) {
      welcomedAt = env.monotonic();
      coveredAt = null;
    }
    if (position === null) begin(welcome);
    else if (!welcome.recovered) lose(welcome, position);
    step(link === main ? 'greeted' : 'next-greeted', 'welcome');
    // What a cut kept back.
    receipts.handled(position?.handled ?? 0);
    settle();
  }
  /** The first welcome of all: what was before it is nobody's business. */
  function begin(welcome: WelcomeMessage): void {
    position = { epoch: welcome.epoch, accepted: welcome.offset, handled: welcome.offset, at: env.now() };
    receipts.restart(welcome.offset);
    coveredAt = welcome.recovered ? env.monotonic() : null;
    save();
  }
  /** The server cannot bring what we missed. */
  function lose(welcome: WelcomeMessage, before: Position): void {
    const anew = welcome.epoch !== before.epoch;
    missed = anew ? null : { after: before.accepted, upTo: welcome.offset };
    position = { ...before, epoch: welcome.epoch, accepted: welcome.offset, handled: welcome.offset };
    receipts.restart(welcome.offset);
    const since = Math.min(before.at, seen.oldestOpen() ?? before.at) - GAP_MARGIN_MS;
    gaps.fill(since, (alert) => anew || alert.offset <= welcome.offset);
    tellGap({ outcome: 'pending', missed, alerts: 0 });
  }

  function accept(link: Link, { data, offset }: AlertMessage, characters: number): void {
    const epoch = link.welcome?.epoch;
    if (position === null || epoch !== position.epoch || offset <= position.accepted) {
      counts.duplicates += 1;
    } else if (inbox.push({ kind: 'alert', epoch, alert: data }, characters)) {
      position.accepted = offset;
    } else {
      return dropAll({ kind: 'dropped', why: 'overflow' });
    }
    settle();
  }
  function mark(link: Link, offset: number, at: number): void {
    const epoch = link.welcome?.epoch;
    if (link === main) attempts = 0;
    if (position === null || epoch !== position.epoch) return;
    position.accepted = Math.max(position.accepted, offset);
    const heardAt = env.monotonic();
    const newest = inbox.last();
    // Of marks with nothing between them the last says it all.
    if (newest?.kind === 'mark' && newest.epoch === epoch) Object.assign(newest, { offset, at, heardAt });
    else inbox.push({ kind: 'mark', epoch, offset, at, heardAt }, 0);
    settle();
  }
  function hole(_link: Link, offset: number): boolean {
    if (holeAfter !== offset) {
      holeAfter = offset;
      return true;
    }
    // The server leaves it out again: it is told, and the rest must not wait for ever.
    violation('hole', offset + 1);
    return false;
  }
  /** Lets go of the old connection once the new one has all that it had. */
  function settle(): void {
    if (phase !== 'handing-over' || next === null || main === null) return;
    if (next.progress < main.progress && !next.vouched) return;
    const old = main;
    main = next;
    next = null;
    old.release();
    step('next-ready', 'caught-up');
  }

  function move(link: Link, retryAfterMs: number): void {
    if (link !== main) {
      // It was let in by another one that ends: as if it had not been.
      if (link === next) link.drop({ kind: 'closed', code: CLOSE_CODES.restart.code });
      return;
    }
    notBefore = env.monotonic() + retryAfterMs;
    if (step('moving', 'moving') === 'leaving') cancelMove = env.after(retryAfterMs, due);
  }
  function due(): void {
    if (phase === 'resting' && inbox.size > INBOX_MESSAGES / 2) {
      cancelMove = env.after(BUSY_MS, due);
      return;
    }
    const to = step('due', phase === 'resting' ? 'back-off' : 'moving');
    if (to === 'opening') main = open();
    else if (to === 'overlapping') next = open();
  }
  function rest(verdict: Extract<Verdict, { action: 'retry' }>): void {
    const now = env.monotonic();
    notBefore = Math.max(notBefore, now + verdict.leastMs);
    last = verdict;
    cancelMove = env.after(waitMs(verdict.pace, attempts++, notBefore - now, env.random()), due);
    notBefore = Math.max(notBefore, now);
  }
  function wake(): void {
    main?.probe();
    next?.probe();
    if (phase !== 'resting') return;
    cancelMove?.();
    cancelMove = env.after(Math.max(0, notBefore - env.monotonic()) + env.random() * WAKE_MS, due);
  }

  function ended(link: Link, end: LinkEnd): void {
    const verdict = judge(end);
    if (link === next) {
      next = null;
      if (verdict.action === 'retry') last = verdict;
      step('next-failed', verdict.reason);
      return;
    }
    if (link !== main) return;
    // Our own next connection took its place: that is what we wanted.
    const replaced = next !== null && end.kind === 'closed' && end.code === CLOSE_CODES.replaced.code;
    if (verdict.action === 'stop' && !replaced) return stop(verdict.reason);
    main = next;
    next = null;
    if (step('lost', verdict.reason) === 'resting' && verdict.action === 'retry') rest(verdict);
  }
  function dropAll(end: LinkEnd): void {
    next?.drop(end);
    main?.drop(end);
  }

  async function handle(item: Item): Promise<void> {
    if (phase === 'closed') return;
    if (item.kind === 'mark') {
      if (item.epoch !== position?.epoch) return;
      coveredAt = item.heardAt;
      reached(item.offset, item.at);
      return refresh();
    }
    const verification = await keys.check(item.alert);
    const { alert } = item;
    if (verification === 'forged') {
      violation('signature', alert.offset);
      if (item.kind === 'late') return passOver(item);
      return suspect(item);
    }
    const news = await deliver(alert, item.kind === 'late' ? 'gap' : 'live', verification === 'verified');
    if (item.kind === 'late') return item.done(news);
    if (item.epoch !== position?.epoch) return;
    reached(alert.offset, alert.updatedAt);
    receipts.handled(position.handled);
  }
  async function deliver(alert: ViewerAlert, source: 'live' | 'gap', verified: boolean): Promise<boolean> {
    if (phase === 'closed') return false;
    const kind = seen.classify(alert);
    if (kind === 'old') {
      counts.duplicates += 1;
      return false;
    }
    counts.delivered += 1;
    await emitter.emit(kind === 'first' ? 'alert' : 'update', alert, { source, verified });
    return true;
  }
  async function deliverLate(alert: ViewerAlert): Promise<boolean> {
    const size = JSON.stringify(alert).length;
    for (;;) {
      const pushed = new Promise<boolean | null>((done) => {
        if (!inbox.push({ kind: 'late', alert, done }, size)) done(null);
      });
      const news = await pushed;
      if (news !== null || phase === 'closed') return news === true;
      await new Promise<void>((resolve) => void env.after(BUSY_MS, resolve));
    }
  }
  /** A live alert does not check: perhaps somebody is between us and the server. Come back, ask for it again. */
  function suspect(item: Extract<Item, { kind: 'alert' }>): void {
    const { offset } = item.alert;
    if (position === null || item.epoch !== position.epoch) return;
    forged = { offset, tries: forged.offset === offset ? forged.tries + 1 : 1 };
    if (forged.tries >= FORGED_TRIES) return passOver(item);
    inbox.clear();
    position.accepted = position.handled;
    dropAll({ kind: 'dropped', why: 'forged' });
  }
  /** It stays away for good; what comes behind it is delivered, but nobody may feel protected any more. */
  function passOver(item: Exclude<Item, { kind: 'mark' }>): void {
    tainted = true;
    if (item.kind === 'late') item.done(false);
    else if (item.epoch === position?.epoch) reached(item.alert.offset, 0);
    refresh();
  }

  function reached(offset: number, at: number): void {
    if (position === null) return;
    position.handled = Math.max(position.handled, offset);
    position.at = Math.max(position.at, at);
    save();
  }
  function save(): void {
    // While a gap is open a reload has to find it again.
    if (options.resume === undefined || position === null || gaps.open) return;
    const { epoch, handled: offset, at } = position;
    guard(() => options.resume?.save({ epoch, offset, at }));
  }
  function guard(work: () => unknown): void {
    new Promise((resolve) => resolve(work())).catch((error: unknown) => tellError('resume', error));
  }
  function sendReceipt(newest: number): number | null {
    const offset = Math.min(newest, main?.progress ?? 0);
    if (!delivers(phase) || main?.welcome?.epoch !== position?.epoch) return null;
    main?.send({ type: 'received', offset });
    return offset;
  }

  async function start(): Promise<void> {
    try {
      const point = readResumePoint(await options.resume?.load());
      if (point !== null) position = { ...point, accepted: point.offset, handled: point.offset };
    } catch (error) {
      tellError('resume', error);
    }
    if (env.subtle === null && typeof options.trust === 'object') return stop('no-webcrypto');
    if (step('start', 'start') === 'opening') main = open();
  }
  function stop(why: string): void {
    if (step('refused', why) !== 'stopped') return;
    shutDown();
    void emitter.emit('stopped', why);
  }
  /** Ends what runs; what is in the inbox is still delivered. */
  function shutDown(): void {
    next?.release();
    main?.release();
    next = null;
    main = null;
    cancelMove?.();
    receipts.stop();
    gaps.stop();
    stopWaking();
    if (keys.ready) keys.stop();
  }

  const cancelStart = env.after(0, () => void start());
  return {
    get state() {
      return protection.state;
    },
    get phase() {
      return phase;
    },
    get counts() {
      return { ...counts };
    },
    on: emitter.on,
    close() {
      cancelStart();
      step('close', 'close');
      shutDown();
      keys.stop();
      inbox.clear();
      cancelUntil?.();
    },
  };
}
