/**
 * A viewer of alerts: keeps a connection, whatever happens to it, and knows whether the application is protected.
 *
 * What may follow what is the table of `phases`, what follows from an end that of `verdict`, the state that of `protection`;
 * here they are carried out. Two connections at most: the main one, and while the viewer moves the next one. What becomes of
 * their messages is the matter of `intake`.
 */
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
import { CLOSE_POLICY, judge, type LinkEnd, type Verdict, waitMs } from './verdict.ts';

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

type Retry = Extract<Verdict, { action: 'retry' }>;

/** A page that woke comes back within this time, in ms: all of them wake at once. */
const WAKE_MS = 1000;
/** How soon to look again whether the application has caught up, in ms. */
const BUSY_MS = 250;

/** Starts watching, as soon as the caller has added its listeners. Throws a TypeError when `url` is no URL. */
export function createViewer(env: Environment, options: ConnectOptions): Alerts {
  const base = baseOf(options);
  const url = channelUrl(base, options);
  const filtered = options.zone !== undefined || options.minSeverity !== undefined;
  const context = { ask: createAsk(env, base), monotonic: env.monotonic };
  const teller = createTeller();
  const intake = createIntake({ env, options, context, teller, sendReceipt, onChange: refresh, onForged });
  let phase: Phase = 'idle';
  let main: Link | null = null;
  let next: Link | null = null;
  let protection: Protection = { state: 'not-protected', reason: 'idle', until: null };
  let reason = 'idle';
  let welcomedAt = 0;
  let holeAfter = -1;
  let attempts = 0;
  let last: Pick<Retry, 'renew' | 'ask'> = { renew: false, ask: false };
  /** When we may come back at the earliest, as we were told; monotonic ms. */
  let notBefore = 0;
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
    const { coveredAt, gapOpen, keysReady, tainted } = intake;
    const lostReason = reason;
    const seen = { coveredAt, gapOpen, keysReady, tainted };
    protection = protectionOf({ now, delivering, lostReason, welcomedAt, periodMs, ...seen });
    if (protection.until !== null) cancelUntil = env.after(protection.until - now, refresh);
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
    const need = last.renew ? 'refused' : 'connect';
    const link = openLink(
      { env, credentials, context, url, resume, need, ask: last.ask, filtered },
      {
        greeted,
        alert(from, { data }, characters) {
          if (!intake.accept(from.welcome?.epoch ?? '', data, characters))
            dropAll({ kind: 'dropped', why: 'overflow' });
          else settle();
        },
        watermark(from, offset, at) {
          if (from === main) attempts = 0;
          intake.mark(from.welcome?.epoch ?? '', offset, at);
          settle();
        },
        moving: move,
        malformed: (_from, offset) => teller.violation('shape', offset),
        hole,
        duplicate: () => teller.count('duplicates'),
        error: (error) => teller.error('connection', error),
        ended,
      },
    );
    last = { renew: false, ask: false };
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
    if (link !== main) {
      // It was let in by another one that ends: as if it had not been.
      if (link === next) link.drop({ kind: 'closed', code: CLOSE_POLICY.restart.code });
      return;
    }
    notBefore = env.monotonic() + retryAfterMs;
    if (step('moving', 'moving') === 'leaving') cancelMove = env.after(retryAfterMs, due);
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
      if (verdict.action === 'retry') {
        last = verdict;
        notBefore = Math.max(notBefore, env.monotonic() + verdict.leastMs);
      }
      step('next-failed', verdict.reason);
      return;
    }
    if (link !== main) return;
    // Our own next connection took its place: that is what we wanted.
    const replaced = next !== null && end.kind === 'closed' && end.code === CLOSE_POLICY.replaced.code;
    if (verdict.action === 'stop' && !replaced) return stop(verdict.reason);
    main = next;
    next = null;
    if (step('lost', verdict.reason) === 'resting' && verdict.action === 'retry') rest(verdict);
  }
  function dropAll(end: LinkEnd): void {
    next?.drop(end);
    main?.drop(end);
  }
  function onForged(): void {
    dropAll({ kind: 'dropped', why: 'forged' });
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
