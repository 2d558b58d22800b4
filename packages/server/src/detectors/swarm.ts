/**
 * Swarm of triggers: many sensors of one zone within a short time.
 *
 * Rule: `sensors` distinct devices, each with a trigger in one stretch of `windowMs` by the triggers' own times, make
 * one event. Then it is quiet for `cooldownMs`, counted from the event's last trigger, unless a much stronger event
 * breaks through: only triggers over the bar count until then.
 *
 * The bar follows the amplitude decay of SeisComP's scautopick (documentation, "Phase detections"):
 * A >= T_offset + A_prev * exp(-(dt / T_dead)^2), with the cool-down as T_dead. Its offset is a fixed amplitude of a
 * filtered trace; our values have no common unit, so it is A_prev itself and the decaying part is twice that: three
 * times the last event's amplitude at first (half a unit of magnitude), still 1.7 times at the end.
 * The amplitude of an event is the median of its devices' amplitudes, so that one broken sensor moves no bar.
 *
 * Triggers may come in any order. What is decided depends on the order in the log alone, never on batches.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import type { Trigger } from '../profiles/seismic/trigger.ts';
import type { Detector, Finding, Step } from './detector.ts';

/** Parameters of a swarm. */
export interface SwarmOptions {
  readonly sensors: number;
  readonly windowMs: number;
  readonly cooldownMs: number;
  /** Triggers older than this at their arrival never reach the detector, ms. */
  readonly liveMs: number;
}

/** The event that was last told of. */
export interface SwarmEvent {
  readonly onset: number;
  /** Time of its newest trigger when it was decided; decay and cool-down count from here. */
  readonly decidedAt: number;
  readonly amplitude: number;
  /** Devices heard in its window, newest last. */
  readonly devices: readonly string[];
  readonly envelopes: readonly EnvelopeName[];
  /** How many devices the last finding named. */
  readonly told: number;
}

/** Which envelope of which device. */
export interface EnvelopeName {
  readonly deviceId: string;
  readonly envelopeId: string;
}

/** What a zone's swarm remembers: candidate triggers by time, and the last event. */
export interface SwarmState {
  readonly triggers: readonly Trigger[];
  readonly event: SwarmEvent | null;
}

const STRONGER = 2;
/** An event that grows is told of again when it has this many times the devices it was last told with. */
const GROWTH = 1.5;
/** More devices than this are not told apart in one event. */
const MOST_DEVICES = 10_000;
/** Candidates that a zone keeps at most; the oldest go first. Before a quorum there are far fewer. */
const MOST_TRIGGERS = 20_000;
/** From so many on they are not left to the next tick to sweep. */
const CROWDED = 2000;

const EMPTY: SwarmState = { triggers: [], event: null };

/** The detector of swarms; its key is `zone:<id>`. */
export function swarmDetector(options: SwarmOptions): Detector<SwarmState, Trigger> {
  return {
    name: 'swarm',
    step: (state, key, trigger, now) => {
      const known = state ?? EMPTY;
      // A record of a partition that is ahead must not sweep away what those behind still need; a tick waits for all.
      return step(options, known.triggers.length < CROWDED ? known : prune(options, known, now), key, trigger);
    },
    tick: (state, _key, now) => {
      const pruned = prune(options, state, now);
      const over = pruned.event === null || now > quietUntil(options, pruned.event) + options.liveMs;
      if (over && pruned.triggers.length === 0) return { state: null, findings: [] };
      return { state: pruned, findings: [] };
    },
  };
}

function step(options: SwarmOptions, state: SwarmState, key: string, trigger: Trigger): Step<SwarmState> {
  const { event } = state;
  if (event === null || trigger.at >= quietUntil(options, event)) return candidate(options, state, key, trigger);
  const grown = join(options, event, key, trigger);
  const joined = { ...state, event: grown.event };
  // Nothing is not stronger than nothing: triggers without an amplitude wait for the end of the cool-down.
  // Nor is an S wave another event than its P wave, however much stronger.
  if (trigger.again === true || trigger.amplitude === 0 || trigger.amplitude < bar(options, event, trigger.at))
    return { state: joined, findings: grown.findings };
  const next = candidate(options, joined, key, trigger);
  return { state: next.state, findings: [...grown.findings, ...next.findings] };
}

function quietUntil(options: SwarmOptions, event: SwarmEvent): number {
  return event.decidedAt + options.cooldownMs;
}

/** The least amplitude that counts at the time `at` after `event`. */
export function bar(options: SwarmOptions, event: SwarmEvent, at: number): number {
  const passed = Math.max(0, at - event.decidedAt) / Math.max(1, options.cooldownMs);
  return event.amplitude * (1 + STRONGER * Math.exp(-passed * passed));
}

/** Drops candidates that no trigger to come can share a window with. */
function prune(options: SwarmOptions, state: SwarmState, now: number): SwarmState {
  const oldest = now - options.liveMs - options.windowMs;
  const excess = state.triggers.length - MOST_TRIGGERS;
  const from = Math.max(lowerBound(state.triggers, oldest), excess);
  return from === 0 ? state : { ...state, triggers: state.triggers.slice(from) };
}

function candidate(options: SwarmOptions, state: SwarmState, key: string, trigger: Trigger): Step<SwarmState> {
  const triggers = insert(state.triggers, trigger, options.windowMs);
  const window = quorum(options, triggers, trigger.at);
  if (window === null) return { state: { ...state, triggers }, findings: [] };
  const event = eventOf(window);
  const end = quietUntil(options, event);
  return {
    state: { triggers: triggers.filter((other) => other.at >= end), event },
    findings: [findingOf(options, key, event)],
  };
}

/** First index whose trigger is not before `at`. */
function lowerBound(triggers: readonly Trigger[], at: number): number {
  let low = 0;
  let high = triggers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((triggers[middle]?.at ?? 0) < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Adds a trigger in the order of time. A trigger of a device between two others of it that lie at most a window apart
 * is in no window without one of them: it is dropped, its amplitude kept by the earlier one.
 */
function insert(triggers: readonly Trigger[], trigger: Trigger, windowMs: number): Trigger[] {
  const index = lowerBound(triggers, trigger.at);
  const result = triggers.toSpliced(index, 0, trigger);
  const same: number[] = [];
  const until = trigger.at + windowMs;
  for (
    let i = lowerBound(triggers, trigger.at - windowMs);
    i < result.length && (result[i]?.at ?? 0) <= until;
    i += 1
  ) {
    if (result[i]?.deviceId === trigger.deviceId) same.push(i);
  }
  for (let i = same.length - 2; i >= 1; i -= 1) {
    const [before, middle, after] = [same[i - 1] ?? 0, same[i] ?? 0, same[i + 1] ?? 0];
    const [a, b, c] = [result[before], result[middle], result[after]];
    if (a === undefined || b === undefined || c === undefined || c.at - a.at > windowMs) continue;
    if (b.amplitude > a.amplitude) result[before] = { ...a, amplitude: b.amplitude };
    result.splice(middle, 1);
    same.splice(i, 1);
    for (let j = i; j < same.length; j += 1) same[j] = (same[j] ?? 0) - 1;
  }
  return result;
}

/** The earliest window around `at` with enough distinct devices, or null. */
function quorum(options: SwarmOptions, triggers: readonly Trigger[], at: number): readonly Trigger[] | null {
  const first = lowerBound(triggers, at - options.windowMs);
  const last = lowerBound(triggers, at + options.windowMs + 1);
  if (last - first < options.sensors) return null;
  const counts = new Map<string, number>();
  let end = first;
  for (let start = first; start < last; start += 1) {
    const from = triggers[start];
    if (from === undefined || from.at > at) return null;
    for (
      let next = triggers[end];
      end < last && next !== undefined && next.at - from.at <= options.windowMs;
      next = triggers[end]
    ) {
      counts.set(next.deviceId, (counts.get(next.deviceId) ?? 0) + 1);
      end += 1;
    }
    if (counts.size >= options.sensors) return triggers.slice(start, end);
    const left = (counts.get(from.deviceId) ?? 1) - 1;
    if (left === 0) counts.delete(from.deviceId);
    else counts.set(from.deviceId, left);
  }
  return null;
}

function eventOf(window: readonly Trigger[]): SwarmEvent {
  const amplitudes = new Map<string, number>();
  const envelopes: EnvelopeName[] = [];
  for (const { deviceId, amplitude, envelopeId } of window) {
    if (!amplitudes.has(deviceId) && envelopes.length < LIMITS.evidenceEnvelopes.value)
      envelopes.push({ deviceId, envelopeId });
    amplitudes.set(deviceId, Math.max(amplitudes.get(deviceId) ?? 0, amplitude));
  }
  return {
    onset: window[0]?.at ?? 0,
    decidedAt: window.at(-1)?.at ?? 0,
    amplitude: median([...amplitudes.values()]),
    devices: [...amplitudes.keys()],
    envelopes,
    told: amplitudes.size,
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >>> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

/** A trigger within the event's window makes the event larger; told again when it has grown by half. */
function join(
  options: SwarmOptions,
  event: SwarmEvent,
  key: string,
  trigger: Trigger,
): { event: SwarmEvent; findings: Finding[] } {
  const { at, deviceId, envelopeId } = trigger;
  const outside = at < event.onset || at > event.onset + options.windowMs;
  if (outside || event.devices.length >= MOST_DEVICES || event.devices.includes(deviceId))
    return { event, findings: [] };
  const room = event.envelopes.length < LIMITS.evidenceEnvelopes.value;
  const joined: SwarmEvent = {
    ...event,
    devices: [...event.devices, deviceId],
    envelopes: room ? [...event.envelopes, { deviceId, envelopeId }] : event.envelopes,
  };
  if (joined.devices.length < event.told * GROWTH) return { event: joined, findings: [] };
  const told = { ...joined, told: joined.devices.length };
  return { event: told, findings: [findingOf(options, key, told)] };
}

function findingOf(options: SwarmOptions, key: string, event: SwarmEvent): Finding {
  const devices = event.devices.length;
  const seconds = options.windowMs / 1000;
  return {
    kind: 'seismic.swarm',
    severity: devices >= 2 * options.sensors ? 'extreme' : 'severe',
    status: 'actual',
    headline: `Seismic alarm in {zone}: ${devices} sensors within ${seconds} s`,
    description:
      `${devices} sensors of {zone} were triggered within ${seconds} s (alarm from ${options.sensors}). ` +
      `Median amplitude ${Number(event.amplitude.toPrecision(6))}.`,
    zoneId: key.slice('zone:'.length),
    deviceId: null,
    latitude: null,
    longitude: null,
    onset: event.onset,
    evidence: {
      sensors: devices,
      quorum: options.sensors,
      windowSeconds: seconds,
      amplitude: event.amplitude,
      envelopes: event.envelopes,
    },
  };
}
