/**
 * Thresholds on a device's own numbers: a watcher that tells of a reading at or over its limit, at most once in each
 * cool-down of the device, and of its end.
 *
 * Rule: an event is a reading that is at or over, lies outside of the device's cool-down by its arrival, and is newer than
 * the one that was told last. The cool-down counts from the arrival of that one: it bounds how often people are told, and
 * several readings that arrive late together are one event. So a device that stays over is told of again after each
 * cool-down, each time as an event of its own, and the one before it ends then. The open one ends with a newer reading below
 * the limit less `HYSTERESIS` (at 0 for limits that leave no room below); between these two nothing changes. A reading
 * without a number says nothing.
 *
 * Times of readings are their own, except that frames count as of their arrival (`Origin.byArrival`). A reading older than
 * `liveMs` at its arrival raises nothing and changes nothing.
 *
 * Nothing is kept of a device that is not over and was not of late: the state is null, no row in the store. A tick forgets a
 * state as soon as that changes no decision any more; never one whose event is open. That one ends by itself when nothing
 * was told for `LAPSE_MS` (the device is silent, or stays between the two limits), and when the rule is switched off.
 */
import type { Reading } from '@tocsin/protocol/envelope';
import type { Notice, Origin, TimedNotice, Watcher, WatcherStep } from '../profiles/profile.ts';

/** One rule. */
export interface ThresholdRule {
  /** The watcher's name in the store; never reused for another kind of state. */
  readonly name: string;
  /** A reading at it is over; null: the rule is switched off. */
  readonly limit: number | null;
  readonly cooldownMs: number;
  /** A reading older than this at its arrival raises nothing, ms. */
  readonly liveMs: number;
  /** The number of a reading; null: it has none. Numbers are 0 or more. */
  readonly value: (reading: Reading) => number | null;
  /** What is told under the device's key of a reading that is over; `at` is the onset. */
  readonly event: (origin: Origin, reading: Reading, at: number, limit: number) => unknown;
  /** What is told under the device's key of the end of the event with this onset. */
  readonly ended: (end: ThresholdEnd) => unknown;
}

/**
 * Why an event ended: `below` the limit; `again` over after a cool-down, which is another event; `lapsed`, nothing was told
 * for long; `off`, the rule is.
 */
export type EndReason = 'below' | 'again' | 'lapsed' | 'off';

/** The end of an event. */
export interface ThresholdEnd {
  readonly onset: number;
  /** Unix ms: of the reading that ended it, else of the tick. */
  readonly at: number;
  readonly reason: EndReason;
  /** Of the reading that ended it; null when none did. */
  readonly value: number | null;
}

/** What is kept of a device. */
export interface ThresholdState {
  /** The time of the reading that something was told for last, and the arrival that ends the cool-down; Unix ms. */
  readonly at: number;
  readonly until: number;
  /** Onset of the event that is open; absent: none is. */
  readonly open?: number;
  /** The device is a simulated one. */
  readonly exercise?: true;
}

/** Points below the limit at which an event ends. */
export const HYSTERESIS = 5;
/** An open event that nothing was told of for this long ends by itself, ms. */
export const LAPSE_MS = 86_400_000;
/**
 * How much earlier than a tick before it a record may have arrived, ms: a minute, by which every commit of the log has
 * ended (`store/ports/log.ts`, `completeUntil`).
 */
const LATE_MS = 60_000;

const NONE: WatcherStep<ThresholdState>['notices'] = [];
/** Shared, so that a quiet device costs no allocation. */
const QUIET: WatcherStep<ThresholdState> = { state: null, notices: NONE };

/** The key under which a device's events are told. */
export function deviceKey(deviceId: string): string {
  return `device:${deviceId}`;
}

/** Builds the watcher of a rule. */
export function thresholdWatcher(rule: ThresholdRule): Watcher<ThresholdState> {
  return {
    name: rule.name,
    step: (state, origin, reading) => step(rule, state, origin, reading),
    tick: (state, deviceId, now) => {
      // What is still to come arrived no earlier than this; readings up to `at` must be too old for it to be live.
      const since = now - LATE_MS;
      if (state.open === undefined) {
        return { state: since >= state.until && since - state.at > rule.liveMs ? null : state, findings: [] };
      }
      const lapsed = since - state.until > LAPSE_MS;
      if (rule.limit !== null && !lapsed) return { state, findings: [] };
      const reason = rule.limit === null ? 'off' : 'lapsed';
      const end: TimedNotice = {
        ...endOf(rule, deviceId, { onset: state.open, at: now, reason, value: null }),
        ...exerciseOf(state),
      };
      return { state: closed(state, state.at), findings: [], notices: [end] };
    },
  };
}

function step(
  rule: ThresholdRule,
  state: ThresholdState | null,
  origin: Origin,
  reading: Reading,
): WatcherStep<ThresholdState> {
  const { deviceId, now, byArrival } = origin;
  const { limit } = rule;
  const at = byArrival ? now : reading.at;
  const value = rule.value(reading);
  const silent = value === null || now - at > rule.liveMs || (state !== null && at <= state.at);
  if (!silent && limit !== null && value >= limit && (state === null || now >= state.until)) {
    const event: Notice = { key: deviceKey(deviceId), item: rule.event(origin, reading, at, limit) };
    const opened = { at, until: now + rule.cooldownMs, open: at, ...exerciseOf(origin) };
    if (state?.open === undefined) return { state: opened, notices: [event] };
    const before = endOf(rule, deviceId, { onset: state.open, at, reason: 'again', value });
    return { state: opened, notices: [before, event] };
  }
  if (!silent && state?.open !== undefined && (limit === null || isClear(value, limit))) {
    const reason = limit === null ? 'off' : 'below';
    const end = endOf(rule, deviceId, { onset: state.open, at, reason, value });
    return { state: closed(state, at), notices: [end] };
  }
  return state === null ? QUIET : { state, notices: NONE };
}

/** Low enough for the event to end. Limits of up to HYSTERESIS leave nothing below them but 0. */
function isClear(value: number, limit: number): boolean {
  return value < limit - HYSTERESIS || (value <= 0 && value < limit);
}

function endOf(rule: ThresholdRule, deviceId: string, end: ThresholdEnd): Notice {
  return { key: deviceKey(deviceId), item: rule.ended(end) };
}

/** Without an open event; the cool-down goes on. */
function closed({ open: _open, ...state }: ThresholdState, at: number): ThresholdState {
  return { ...state, at };
}

function exerciseOf({ exercise }: { readonly exercise?: true }): { readonly exercise?: true } {
  return exercise === true ? { exercise } : {};
}
