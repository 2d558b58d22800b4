/**
 * Thresholds on a device's own numbers: a watcher that tells of a reading at or over its limit, at most once in each
 * cool-down of the device.
 *
 * Rule: an event is a reading that is over, lies outside of the device's cool-down by its arrival, and is newer than the one
 * that the last event was told for. The cool-down counts from the arrival of that one: it bounds how often people are told,
 * and several readings that arrive late together are one event. So a device that stays over is told of again after each
 * cool-down. A reading older than `liveMs` at its arrival raises nothing and changes nothing.
 *
 * Nothing is kept of a device that is not over: the state is null, no row in the store. A tick forgets a state as soon as
 * that changes no decision any more.
 */
import type { Reading } from '@tocsin/protocol/envelope';
import type { Origin, Watcher, WatcherStep } from '../profiles/profile.ts';

/** One rule. */
export interface ThresholdRule {
  /** The watcher's name in the store; never reused for another kind of state. */
  readonly name: string;
  readonly cooldownMs: number;
  /** A reading older than this at its arrival raises nothing, ms. */
  readonly liveMs: number;
  /** Whether a reading is at or over the limit. */
  readonly over: (reading: Reading) => boolean;
  /** What is told of it under the device's key. */
  readonly event: (origin: Origin, reading: Reading) => unknown;
}

/** What is kept of a device during a cool-down: the time of the reading that was told, and the arrival that ends it; Unix ms. */
export interface ThresholdState {
  readonly at: number;
  readonly until: number;
}

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
export function thresholdWatcher({ name, cooldownMs, liveMs, over, event }: ThresholdRule): Watcher<ThresholdState> {
  return {
    name,
    step: (state, origin, reading) => {
      const { deviceId, now } = origin;
      const { at } = reading;
      const quiet = !over(reading) || now - at > liveMs || (state !== null && (now < state.until || at <= state.at));
      if (quiet) return state === null ? QUIET : { state, notices: NONE };
      const notice = { key: deviceKey(deviceId), item: event(origin, reading) };
      return { state: { at, until: now + cooldownMs }, notices: [notice] };
    },
    tick: (state, _deviceId, now) => {
      // What is still to come arrived no earlier than this; readings up to `at` must be too old for it to be live.
      const since = now - LATE_MS;
      return { state: since >= state.until && since - state.at > liveMs ? null : state, findings: [] };
    },
  };
}
