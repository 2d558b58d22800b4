/**
 * A viewer of alerts: keeps a connection, whatever happens to it, and knows whether the application is protected.
 *
 * What may follow what is the table of `phases`, what follows from an end that of `verdict`, the state that of `protection`;
 * here they are carried out. Two connections at most: the main one, and while the viewer moves the next one. What becomes of
 * their messages is the matter of `intake`.
 */
import type { CLOSE_CODES, CloseName } from '@tocsin/protocol/close-codes';
import type { WelcomeMessage } from '@tocsin/protocol/messages';
import type { Environment } from './environment.ts';
import type { AlertEvents } from './events.ts';
import { createAsk } from './http.ts';
import { INBOX_MESSAGES } from './inbox.ts';
import { createIntake } from './intake.ts';
import { type Link, openLink } from './link.ts';
import { baseOf, channelUrl, type ConnectOptions } from './options.ts';
import { delivers, type Phase, type PhaseEvent, PHASES } from './phases.ts';
import { type Protection, type ProtectionState, protectionOf } from './protection.ts';
import { type AlertCounts, createTeller } from './teller.ts';
import { type DropReason, judge, type LinkEnd, NETWORK_LOSS, type Retry, waitMs } from './verdict.ts';

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

/** A page that woke comes back within this time, in ms: all of them wake at once. */
const WAKE_MS = 1000;
/** How soon to look again whether the application has caught up, in ms. */
const BUSY_MS = 250;
/** How often the clock is looked at while somebody feels protected, and what is late then, in ms. */
const LOOK_MS = 1000;
const LATE_MS = 3000;
const REPLACED: CloseName = 'replaced';
const RESTART: (typeof CLOSE_CODES)['restart']['code'] = 1012;
/** So long after a connection of ours that failed the server may still let it in, in place of the one that works; in ms. */
const STRAY_MS = 60_000;

/** Starts watching, as soon as the caller has added its listeners. Throws a TypeError when `url` is no URL. */
export function createViewer(env: Environment, options: ConnectOptions): Alerts {
  const base = baseOf(options);
  const url = channelUrl(base, options);
  const filtered = options.zone !== undefined || options.minSeverity !== undefined;
  const context = { ask: createAsk(env, base), monotonic: env.monotonic };
  const teller = createTeller();
  const intake = createIntake({
    env,
    options,
    context,
    teller,
    sendReceipt,
    onChange: refresh,
    onForged: () => dropAll('forged'),
  });
  let phase: Phase = 'idle';
  let main: Link | null = null;
  let next: Link | null = null;
  let protection: Protection = { state: 'not-protected', reason: 'idle', until: null };
  let reason = 'idle';
  let welcomedAt = 0;
  let holeAfter = -1;
  let attempts = 0;
  let last: Pick<Retry, 'need' | 'ask'> = { need: 'connect', ask: false };
  /** When we may come back at the earliest, as we were told; monotonic ms. */
  let notBefore = 0;
  /** When a connection of ours failed that the server may have let in. */
  let strayAt = Number.NEGATIVE_INFINITY;
  let cancelMove: (() => void) | null = null;
  let cancelUntil: (() => void) | null = null;
  const stopWaking = env.onWake(wake);
  const cancelStart = env.after(0, () => void start());

  /** Recomputes the state and tells it when it is another one. */
  function refresh(): void {
    cancelUntil?.();
    if (teller.ended) return;
    const before = protection;
    const now = env.monotonic();
    const periodMs = main?.periodMs ?? 0;
    const delivering = delivers(phase) && periodMs > 0;
    protection = protectionOf({ ...intake, now, delivering, lostReason: reason, welcomedAt, periodMs });
    const lookAt = Math.min(protection.until ?? 0, now + LOOK_MS);
    // A machine that slept: its timers slept with it, its connections may be gone.
    if (lookAt > 0)
      cancelUntil = env.after(lookAt - now, () => (env.monotonic() - lookAt > LATE_MS ? wake() : refresh()));
    if (before.state === protection.state && before.reason === protection.reason) return;
    void teller.tell('state', protection.state, { reason: protection.reason, verifying: env.subtle !== null });
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
    void teller.tell('transition', { from, to, event, reason: why });
    refresh();
    return phase;
  }

  function open(): Link {
    const { credentials } = options;
    const resume = intake.epoch === null ? null : { epoch: intake.epoch, offset: intake.accepted };
    const link = openLink(
      { env, credentials, context, url, resume, filtered, ...last },
      {
        greeted,
        alert(from, { data }, characters) {
          if (!intake.accept(from.welcome?.epoch ?? '', data, characters)) dropAll('overflow');
          else settle();
        },
        watermark(from, offset, at, sentAt) {
          if (from === main) attempts = 0;
          intake.mark(from.welcome?.epoch ?? '', offset, at, sentAt);
          settle();
        },
        moving: move,
        malformed(_from, offset, lost) {
          teller.violation('shape', offset);
          if (lost) intake.taint('shape');
        },
        hole,
        duplicate: () => teller.count('duplicates'),
        error: (error) => teller.error('connection', error),
        ended,
      },
    );
    last = { need: 'connect', ask: false };
    return link;
  }

  function greeted(link: Link, welcome: WelcomeMessage): void {
    teller.count('connections');
    if (link === main) {
      welcomedAt = env.monotonic();
      intake.reopened();
    }
    intake.welcomed(welcome);
    step(link === main ? 'greeted' : 'next-greeted', 'welcome');
    // What a cut kept back.
    intake.acknowledge();
    settle();
  }
  function hole(_link: Link, offset: number): boolean {
    if (holeAfter !== offset) {
      holeAfter = offset;
      return true;
    }
    // The server leaves it out again: it is told, and the rest must not wait for ever.
    teller.violation('hole', offset + 1);
    intake.taint('hole');
    return false;
  }
  /** Lets go of the old connection once the new one has all that it had. */
  function settle(): void {
    if (phase !== 'handing-over' || next === null || main === null) return;
    if (next.progress < main.progress && !next.vouched) return;
    const old = main;
    intake.acknowledge(true);
    main = next;
    next = null;
    old.release();
    step('next-ready', 'caught-up');
  }

  function move(link: Link, retryAfterMs: number): void {
    // The next one was let in by a server that ends, too: as if it had not been.
    if (link !== main) return link.drop({ kind: 'closed', code: RESTART });
    const now = env.monotonic();
    // A refusal of a while ago may have asked for more.
    notBefore = Math.max(notBefore, now + retryAfterMs);
    if (step('moving', 'moving') === 'leaving') cancelMove = env.after(notBefore - now, due);
  }
  function due(): void {
    if (phase === 'resting' && intake.backlog > INBOX_MESSAGES / 2) {
      cancelMove = env.after(BUSY_MS, due);
      return;
    }
    const to = step('due', phase === 'resting' ? 'back-off' : 'moving');
    if (to === 'opening') main = open();
    else if (to === 'overlapping') next = open();
  }
  function rest(verdict: Retry): void {
    const now = env.monotonic();
    notBefore = Math.max(notBefore, now + verdict.leastMs);
    last = verdict;
    cancelMove = env.after(waitMs(verdict.pace, attempts++, notBefore - now, env.random()), due);
  }
  function wake(): void {
    refresh();
    main?.probe();
    next?.probe();
    if (phase !== 'resting') return;
    cancelMove?.();
    cancelMove = env.after(Math.max(0, notBefore - env.monotonic()) + env.random() * WAKE_MS, due);
  }

  function ended(link: Link, end: LinkEnd): void {
    const verdict = judge(end);
    const now = env.monotonic();
    const stray = now - strayAt < STRAY_MS;
    if (link === next || link.periodMs === 0) strayAt = now;
    if (link === next) {
      next = null;
      if (verdict.action === 'retry') {
        last = verdict;
        notBefore = Math.max(notBefore, now + verdict.leastMs);
      }
      step('next-failed', verdict.reason);
      return;
    }
    if (link !== main) return;
    // Our own next connection took its place, which is what we wanted, or one of ours that failed.
    const ours = (next !== null || stray) && verdict.reason === REPLACED;
    if (verdict.action === 'stop' && !ours) return stop(verdict.reason);
    // Once: if it is somebody else, the two must not replace each other for ever.
    if (ours) strayAt = Number.NEGATIVE_INFINITY;
    main = next;
    next = null;
    if (step('lost', verdict.reason) === 'resting') rest(verdict.action === 'retry' ? verdict : NETWORK_LOSS);
  }
  function dropAll(why: DropReason): void {
    const end: LinkEnd = { kind: 'dropped', why };
    next?.drop(end);
    main?.drop(end);
  }

  function sendReceipt(newest: number): number | null {
    if (main === null || !delivers(phase) || main.welcome?.epoch !== intake.epoch) return null;
    const offset = Math.min(newest, main.progress);
    main.send({ type: 'received', offset });
    return offset;
  }

  async function start(): Promise<void> {
    await intake.load();
    // Who names keys wants them checked.
    if (env.subtle === null && typeof options.trust === 'object') return stop('no-webcrypto');
    if (step('start', 'start') === 'opening') main = open();
  }
  function stop(why: string): void {
    if (step('refused', why) !== 'stopped') return;
    shutDown();
    void teller.tell('stopped', why);
  }
  function shutDown(): void {
    next?.release();
    main?.release();
    next = null;
    main = null;
    cancelMove?.();
    stopWaking();
    intake.finish();
  }

  return {
    get state() {
      // Timers of a hidden page come late.
      refresh();
      return protection.state;
    },
    get phase() {
      return phase;
    },
    get counts() {
      return teller.counts();
    },
    on: teller.on,
    close() {
      cancelStart();
      intake.acknowledge(true);
      step('close', 'close');
      shutDown();
      intake.stop();
      teller.end();
      cancelUntil?.();
    },
  };
}
