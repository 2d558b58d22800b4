/**
 * Delivery: takes what waits in the outbox, signs it, sends it, and does what the verdict on the answer says.
 *
 * Guarantees: an envelope is settled only once it is durable at the server, or is in the dead letters, or the disk has
 * lost it; each try is signed anew with the same id and the corrected time; a few are on their way at once, urgent ones
 * first, otherwise in the order of reports but for those that are tried again. No failure ends the loop.
 */
import type { DeviceClock } from './clock.ts';
import type { DeadLetter } from './dead-letters.ts';
import type { Emitter } from './device-events.ts';
import type { DeviceState } from './device-state.ts';
import { EnvelopeError, type Signer } from './envelope.ts';
import type { Outbox, Report, Waiting } from './outbox.ts';
import type { Pace } from './pace.ts';
import type { Sender } from './sender.ts';
import type { TimeSource } from './time-source.ts';
import { type Answer, judge, type Verdict } from './verdict.ts';

/** What delivery needs. */
export interface CourierPorts {
  readonly outbox: Outbox;
  readonly sender: Sender;
  readonly signer: Signer;
  readonly clock: DeviceClock;
  readonly pace: Pace;
  readonly time: TimeSource;
  readonly emit: Emitter['emit'];
  /** Keeps a dead letter on the disk. */
  readonly keep: (letter: DeadLetter) => Promise<void>;
}

/** Envelopes since the start. */
export interface CourierCounts {
  readonly delivered: number;
  /** Of these, how many the server had already. */
  readonly replays: number;
  readonly deadLetters: number;
  /** Lost by the disk since they were queued. */
  readonly damaged: number;
}

/** Running delivery. */
export interface Courier {
  /** Resolves once the server has told its time, or the first question for it has failed. */
  readonly timeAsked: Promise<void>;
  /** Something may be there to send. */
  wake(): void;
  state(): DeviceState;
  counts(): CourierCounts;
  /** Resolves with true once nothing waits, with false after `timeoutMs` or when it is stopped. */
  drained(timeoutMs: number): Promise<boolean>;
  /** Takes nothing more; resolves once nothing is on its way, or after `graceMs` cut off. */
  stop(graceMs: number): Promise<void>;
}

/** Signs of a stale or future time that are answered at once, in a row, before the device backs off. */
const SIGN_AGAIN_MOST = 2;
/** A clock that heard no `Date` for so long asks for one, ms. */
const ASK_TIME_MS = 3_600_000;

type Counts = { -readonly [Name in keyof CourierCounts]: number };

interface Try {
  readonly answer: Answer;
  readonly verdict: Verdict;
  /** Monotonic ms. */
  readonly sentAt: number;
}

/** Starts delivery. */
export function startCourier(ports: CourierPorts): Courier {
  const { outbox, sender, clock, pace, time } = ports;
  const counts: Counts = { delivered: 0, replays: 0, deadLetters: 0, damaged: 0 };
  const waiters = new Set<() => void>();
  let active = 0;
  let stopping = false;
  let forgetTimer: () => void = () => undefined;
  let shown: DeviceState = { state: 'idle' };

  const state = (): DeviceState => {
    if (stopping) return { state: 'closed' };
    if (outbox.count() === 0) return { state: 'idle' };
    const now = time.monotonic();
    const unix = (monotonic: number): number => Math.round(clock.now() + Math.max(monotonic - now, 0));
    const pause = pace.pause();
    if (pause !== null && pause.refused && pause.reason !== 'folder-unusable') {
      return { state: 'refused', until: unix(pause.until), reason: pause.reason };
    }
    if (pause !== null && now < pause.until)
      return { state: 'waiting', until: unix(pause.until), reason: pause.reason };
    const earliest = active > 0 ? null : outbox.earliest();
    if (earliest === null || earliest <= now) return { state: 'sending' };
    return { state: 'waiting', until: unix(earliest), reason: 'put-off' };
  };
  const show = (): void => {
    const now = state();
    if (sameState(now, shown)) return;
    shown = now;
    ports.emit('state', now);
  };
  const next = (): Waiting | null => {
    const now = time.monotonic();
    return active < pace.window(now) ? outbox.take(now) : null;
  };
  const pump = (): void => {
    forgetTimer();
    for (let entry = stopping ? null : next(); entry !== null; entry = next()) {
      active += 1;
      void deliver(ports, counts, entry).finally(() => {
        active -= 1;
        pump();
      });
    }
    if (!stopping && active === 0) forgetTimer = wakeLater(ports, pump);
    show();
    for (const waiter of waiters) waiter();
  };
  const { asked: timeAsked, end: forgetClock } = keepTime(ports);
  pump();
  return {
    timeAsked,
    wake: pump,
    state,
    counts: () => ({ ...counts }),
    drained: (timeoutMs) =>
      waitFor(
        { time, waiters, timeoutMs },
        () => outbox.count() === 0,
        () => stopping,
      ),
    stop: async (graceMs) => {
      stopping = true;
      forgetClock();
      pump();
      const idle = (): boolean => active === 0;
      await waitFor({ time, waiters, timeoutMs: graceMs }, idle, () => false);
      await sender.close();
      // What was cut off answers at once.
      await waitFor({ time, waiters, timeoutMs: graceMs }, idle, () => false);
    },
  };
}

function sameState(a: DeviceState, b: DeviceState): boolean {
  // `until` is worked out anew each time and may differ by the rounding.
  const parts = ({ state, ...rest }: DeviceState): string => `${state} ${'reason' in rest ? rest.reason : ''}`;
  if (parts(a) !== parts(b)) return false;
  return !('until' in a && 'until' in b) || Math.abs(a.until - b.until) < 100;
}

/** Wakes at the end of the pause, or when the first that was put off is due. */
function wakeLater({ outbox, pace, time }: CourierPorts, wake: () => void): () => void {
  const now = time.monotonic();
  const earliest = outbox.earliest();
  if (earliest === null) return () => undefined;
  const until = Math.max(earliest, pace.pause()?.until ?? 0);
  return until <= now ? () => undefined : time.after(until - now, wake);
}

/** One envelope, one verdict (or a few at once, where only the time was wrong). Never rejects. */
async function deliver(ports: CourierPorts, counts: Counts, entry: Waiting): Promise<void> {
  const { outbox, pace, time } = ports;
  try {
    const report = await outbox.read(entry);
    if (report === null) {
      void outbox.settle(entry);
      counts.damaged += 1;
      ports.emit('damaged', { id: entry.id, readings: entry.count });
      return;
    }
    await conclude(ports, counts, entry, report);
  } catch {
    // The disk: what was to be read, or to be kept as a dead letter, stays queued.
    const now = time.monotonic();
    pace.failed({ action: 'wait', reason: 'folder-unusable' }, { now, sentAt: now, retryAfterMs: null });
    putOff(ports, entry, now);
  }
}

async function conclude(ports: CourierPorts, counts: Counts, entry: Waiting, report: Report): Promise<void> {
  const { outbox, pace, time } = ports;
  const outcome = await tryToSend(ports, entry.id, report);
  if (outcome instanceof EnvelopeError) {
    await setAside(ports, counts, entry, report, { reason: 'cannot-be-signed', detail: outcome.message, errors: [] });
    return;
  }
  const { answer, verdict, sentAt } = outcome;
  const now = time.monotonic();
  const retryAfterMs = answer.kind === 'answered' ? answer.retryAfterMs : null;
  switch (verdict.action) {
    case 'delivered':
      void outbox.settle(entry);
      pace.delivered(now);
      counts.delivered += 1;
      if (verdict.reason === 'replay') counts.replays += 1;
      ports.emit('delivered', { id: entry.id, readings: entry.count, replay: verdict.reason === 'replay' });
      return;
    case 'set-aside': {
      const { detail, errors } = answer.kind === 'answered' ? answer : { detail: '', errors: [] };
      await setAside(ports, counts, entry, report, { reason: verdict.reason, detail, errors });
      // The server works and said so.
      pace.delivered(now);
      return;
    }
    case 'wait':
      pace.failed(verdict, { now, sentAt, retryAfterMs });
      if (verdict.own) putOff(ports, entry, now);
      else outbox.giveBack(entry, 0);
      return;
    case 'resign':
    case 'hold':
      pace.failed(verdict, { now, sentAt, retryAfterMs });
      outbox.giveBack(entry, 0);
  }
}

/** Signs and sends; a wrong time is mended at once, a few times. */
async function tryToSend(ports: CourierPorts, id: string, report: Report): Promise<Try | EnvelopeError> {
  const { clock, sender, signer, time } = ports;
  const readings = JSON.parse(report.readings) as readonly object[];
  for (let again = 0; ; again += 1) {
    const sealed = seal(signer, { id, at: clock.now(), profile: report.profile, readings });
    if (sealed instanceof EnvelopeError) return sealed;
    const sentAt = time.monotonic();
    // A sender of the app's own may break its promise.
    const answer: Answer = await sender.send(sealed, id).catch(() => ({ kind: 'failed', reason: 'connection-lost' }));
    if (answer.kind === 'answered' && answer.sample !== null) clock.learn(answer.sample);
    const verdict = judge(answer);
    if (verdict.action !== 'resign' || again >= SIGN_AGAIN_MOST) return { answer, verdict, sentAt };
  }
}

function seal(signer: Signer, content: Parameters<Signer['seal']>[0]): string | EnvelopeError {
  try {
    return signer.seal(content);
  } catch (error) {
    if (error instanceof EnvelopeError) return error;
    throw error;
  }
}

async function setAside(
  ports: CourierPorts,
  counts: Counts,
  entry: Waiting,
  report: Report,
  why: Pick<DeadLetter, 'reason' | 'detail' | 'errors'>,
): Promise<void> {
  const { profile, readings } = report;
  await ports.keep({ id: entry.id, at: ports.clock.now(), ...why, profile, readings });
  void ports.outbox.settle(entry);
  counts.deadLetters += 1;
  ports.emit('dead-letter', { id: entry.id, readings: entry.count, ...why });
}

/** Beyond the end of the device's pause: after it another one goes first, if there is one. */
function putOff({ outbox, pace }: CourierPorts, entry: Waiting, now: number): void {
  entry.attempts += 1;
  outbox.giveBack(entry, Math.max(now + pace.putOffMs(entry.attempts), (pace.pause()?.until ?? 0) + 1));
}

/** Asks for the time at once, and again when no answer has told it for long; `asked`: see {@link Courier}. */
function keepTime({ clock, sender, time }: CourierPorts): { readonly asked: Promise<void>; readonly end: () => void } {
  let ended = false;
  let forget: () => void = () => undefined;
  const ask = async (): Promise<void> => {
    const sample = await sender.askTime().catch(() => null);
    if (ended) return;
    if (sample !== null) clock.learn(sample);
    forget = time.after(ASK_TIME_MS, () => void ask());
  };
  return {
    asked: ask(),
    end: () => {
      ended = true;
      forget();
    },
  };
}

interface Waiters {
  readonly time: TimeSource;
  readonly waiters: Set<() => void>;
  readonly timeoutMs: number;
}

function waitFor(
  { time, waiters, timeoutMs }: Waiters,
  done: () => boolean,
  hopeless: () => boolean,
): Promise<boolean> {
  return new Promise((resolve) => {
    let forget: () => void = () => undefined;
    const finish = (result: boolean): void => {
      waiters.delete(look);
      forget();
      resolve(result);
    };
    const look = (): void => {
      if (done()) finish(true);
      else if (hopeless()) finish(false);
    };
    waiters.add(look);
    forget = time.after(timeoutMs, () => finish(done()));
    look();
  });
}
