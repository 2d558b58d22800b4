/**
 * A network of stations: what they tell in, earthquakes out. Pure; the same code live and in replay.
 *
 * A pick belongs to a known event when it comes between its P and S waves there, or later but not stronger than what the
 * event leaves (SeisComP's decaying bar): a larger second earthquake is over that bar, an aftershock right behind is not.
 * What belongs to no event waits; with each new or grown pick the waiting ones are associated (`association.ts`). An
 * event is decided by a quorum of votes, or by fewer stations that shake strongly; never by one. It is told once and
 * again when it grew by half, got worse, or its stations doubled what they shake.
 *
 * Stations without a place do not vote. A pick that stays alone makes its station busy and its next votes lighter.
 */
import { severityRank, type Severity } from '@tocsin/protocol/alert';
import type { NetworkParameters } from '../profiles/seismic/detection.ts';
import { associate, busyness, relocate, type Decision } from './association.ts';
import type { Detector, Finding, Step } from './detector.ts';
import { estimateMagnitude, intensityOf, type Magnitude } from './magnitude.ts';
import type { HeldPick, Member, NetworkEvent, NetworkInput, NetworkState, StationFacts } from './network-state.ts';
import { eventFinding } from './network-finding.ts';
import { distanceKm, pTravelMs, sTravelMs, toleranceMs } from './travel.ts';

/** Picks that wait at most; the oldest go first. */
const MOST_PICKS = 2000;
/** How long a pick waits for others, ms: S waves over 200 km. */
const WAIT_MS = 90_000;
const MOST_EVENTS = 16;
const MOST_MEMBERS = 500;
/** Members up to which the place is still improved. */
const MOST_LOCATED = 16;
/** A station's sign of life is noted at most as often, ms: in an earthquake thousands tell at once. */
const HEARD_MS = 10_000;
/** A station that was not heard of for a day is forgotten. */
const FORGET_MS = 86_400_000;

/** First magnitudes may be far too large: no source is given longer than one of this. */
const LONGEST_MAGNITUDE = 7;

const EMPTY: NetworkState = { stations: {}, picks: [], events: [] };

/** The detector of earthquakes; its key is `network:<id>`. */
export function networkDetector(parameters: NetworkParameters): Detector<NetworkState, NetworkInput> {
  return {
    name: 'network',
    step: (state, _key, input, now) => step(parameters, state ?? EMPTY, input, now),
    tick: (state, _key, now) => {
      const swept = forget(sweep(parameters, state, now), now);
      const empty = swept.picks.length === 0 && swept.events.length === 0 && Object.keys(swept.stations).length === 0;
      return { state: empty ? null : swept, findings: [] };
    },
  };
}

function step(
  parameters: NetworkParameters,
  known: NetworkState,
  input: NetworkInput,
  now: number,
): Step<NetworkState> {
  const state = heard(sweep(parameters, known, now), input, now);
  if (input.kind === 'alive') return { state, findings: [] };
  const pick = held(input);
  const index = state.events.findLastIndex((event) => belongs(parameters, event, pick));
  const event = state.events[index];
  if (event !== undefined) {
    const joined = join(parameters, event, pick, now);
    const events = state.events.with(index, joined.event);
    const picks = state.picks.filter((other) => !same(other, pick));
    const findings = joined.tell ? [findingOf(parameters, joined.event)] : [];
    return { state: { ...state, events, picks }, findings };
  }
  return decide(parameters, state, pick, now);
}

function decide(parameters: NetworkParameters, state: NetworkState, pick: HeldPick, now: number): Step<NetworkState> {
  const others = state.picks.filter((other) => !same(other, pick));
  const waiting = { ...state, picks: [...others, pick].slice(-MOST_PICKS) };
  const decision = associate(parameters, waiting, pick, now);
  if (decision === null) return { state: waiting, findings: [] };
  let event = eventOf(decision, now);
  const picks: HeldPick[] = [];
  // What waited and belongs to it, later phases of its stations too.
  for (const other of waiting.picks) {
    if (event.members.some((member) => same(member, other))) continue;
    if (belongs(parameters, event, other)) event = join(parameters, event, other, now).event;
    else picks.push(other);
  }
  event = told(event);
  const events = [...state.events, event].slice(-MOST_EVENTS);
  return { state: { ...waiting, picks, events }, findings: [findingOf(parameters, event)] };
}

function held(input: NetworkInput & { readonly kind: 'pick' }): HeldPick {
  const { deviceId, envelopeId, latitude, longitude, at, again, amplitude, level, lasted, clipped } = input;
  return { deviceId, envelopeId, latitude, longitude, at, again, amplitude, level, lasted, clipped };
}

function same(a: HeldPick, b: HeldPick): boolean {
  return a.deviceId === b.deviceId && a.at === b.at;
}

function heard(state: NetworkState, input: NetworkInput, now: number): NetworkState {
  const { deviceId, latitude, longitude } = input;
  const known = state.stations[deviceId];
  const moved = known === undefined || known.latitude !== latitude || known.longitude !== longitude;
  if (!moved && now - known.heardAt < HEARD_MS) return state;
  const facts: StationFacts = {
    latitude,
    longitude,
    heardAt: now,
    busy: known?.busy ?? 0,
    busyAt: known?.busyAt ?? now,
  };
  return { ...state, stations: { ...state.stations, [deviceId]: facts } };
}

/** Whether `event` explains the pick. */
function belongs(parameters: NetworkParameters, event: NetworkEvent, pick: HeldPick): boolean {
  const km = distanceKm(event, pick);
  if (km > parameters.joinKm) return false;
  const member = event.members.find(({ deviceId }) => deviceId === pick.deviceId);
  if (member !== undefined && member.at === pick.at) return true;
  const [p, s] = [pTravelMs(parameters, km), sTravelMs(parameters, km)];
  if (pick.at < event.origin + p - 2 * toleranceMs(parameters, p)) return false;
  const end = event.origin + s + 2 * toleranceMs(parameters, s) + ruptureMs(event);
  if (pick.at <= end) return true;
  const after = (pick.at - end) / 1000;
  if (member === undefined) return after <= parameters.lateSeconds;
  const bar = parameters.larger * member.peak * Math.exp(-((after / parameters.deadSeconds) ** 2));
  return pick.amplitude < bar;
}

/** How long the source lasts, ms: grows with the cube root of the moment (Kanamori & Brodsky 2004), 16 s for magnitude 7. */
function ruptureMs(event: NetworkEvent): number {
  return 1000 * 10 ** (0.5 * Math.min(LONGEST_MAGNITUDE, magnitudeOf(null, event)?.value ?? 5) - 2.3);
}

function join(
  parameters: NetworkParameters,
  event: NetworkEvent,
  pick: HeldPick,
  now: number,
): { event: NetworkEvent; tell: boolean } {
  const index = event.members.findIndex(({ deviceId }) => deviceId === pick.deviceId);
  const member = event.members[index];
  if (member === undefined && event.members.length >= MOST_MEMBERS) return { event, tell: false };
  const grown = member === undefined ? gain(parameters, event, pick, now) : raise(event, index, member, pick);
  const severity = severityRank(severityOf(grown));
  const tell = grown.members.length >= event.told * parameters.growth || severity > event.toldRank;
  return { event: tell ? told(grown) : grown, tell };
}

function gain(parameters: NetworkParameters, event: NetworkEvent, pick: HeldPick, now: number): NetworkEvent {
  const km = distanceKm(event, pick);
  const [p, s] = [pTravelMs(parameters, km), sTravelMs(parameters, km)];
  const phase = Math.abs(pick.at - event.origin - p) <= Math.abs(pick.at - event.origin - s) ? 'P' : 'S';
  const members = [...event.members, { ...pick, phase, peak: pick.amplitude, peakAt: pick.at } satisfies Member];
  const grown = { ...event, members, gainedAt: now };
  if (members.length > MOST_LOCATED) return grown;
  const better = relocate(parameters, event, members);
  if (better === null) return grown;
  return { ...grown, latitude: better.latitude, longitude: better.longitude, origin: better.origin };
}

function raise(event: NetworkEvent, index: number, member: Member, pick: HeldPick): NetworkEvent {
  if (pick.amplitude <= member.peak) return event;
  const raised = { ...member, peak: pick.amplitude, peakAt: pick.at, clipped: member.clipped || pick.clipped };
  return { ...event, members: event.members.with(index, raised) };
}

function eventOf({ source, lane }: Decision, now: number): NetworkEvent {
  const members = source.voters
    .map(({ pick, phase }): Member => ({ ...pick, phase, peak: pick.amplitude, peakAt: pick.at }))
    .sort((a, b) => a.at - b.at);
  const { latitude, longitude, origin } = source;
  const onset = members[0]?.at ?? origin;
  return { latitude, longitude, origin, onset, decidedAt: now, lane, members, told: 0, toldRank: 0, gainedAt: now };
}

function told(event: NetworkEvent): NetworkEvent {
  return { ...event, told: event.members.length, toldRank: severityRank(severityOf(event)) };
}

/** Magnitude from what the members shook so far; of the S wave where its time had come. */
function magnitudeOf(parameters: NetworkParameters | null, event: NetworkEvent): Magnitude | null {
  const depth = parameters?.depthKm ?? 20;
  return estimateMagnitude(
    event.members.map(({ peak, peakAt, at, phase, latitude, longitude }) => {
      const km = Math.hypot(distanceKm(event, { latitude, longitude }), depth);
      return { amplitude: peak, km, phase: phase === 'S' || peakAt > at ? 'S' : 'P' };
    }),
  );
}

/** The worst intensity that was felt, and the magnitude: VI or 6 is extreme, V or 5 severe, IV moderate. */
function severityOf(event: NetworkEvent): Severity {
  // The second largest: one station alone sets no severity.
  const peaks = event.members.map(({ peak }) => peak).sort((a, b) => b - a);
  const intensity = intensityOf(peaks[1] ?? 0);
  if (intensity >= 6) return 'extreme';
  if (intensity >= 5) return 'severe';
  return intensity >= 4 ? 'moderate' : 'minor';
}

function findingOf(parameters: NetworkParameters, event: NetworkEvent): Finding {
  return eventFinding(event, severityOf(event), magnitudeOf(parameters, event));
}

/** Forgets what is over. Picks that stayed alone make their stations busy. */
function sweep(parameters: NetworkParameters, state: NetworkState, now: number): NetworkState {
  const over = state.picks.filter((pick) => now - pick.at > WAIT_MS);
  const ended = state.events.some((event) => isOver(parameters, event, now));
  if (over.length === 0 && !ended) return state;
  const stations = { ...state.stations };
  for (const { deviceId } of over) {
    const station = stations[deviceId];
    if (station === undefined) continue;
    stations[deviceId] = { ...station, busy: busyness(parameters, station, now) + 1, busyAt: now };
  }
  return {
    stations,
    picks: state.picks.filter((pick) => now - pick.at <= WAIT_MS),
    events: state.events.filter((event) => !isOver(parameters, event, now)),
  };
}

function forget(state: NetworkState, now: number): NetworkState {
  const kept = Object.entries(state.stations).filter(([, { heardAt }]) => now - heardAt <= FORGET_MS);
  return kept.length === Object.keys(state.stations).length ? state : { ...state, stations: Object.fromEntries(kept) };
}

/** An event is over when it gained nothing for long and its bar is gone. */
function isOver(parameters: NetworkParameters, event: NetworkEvent, now: number): boolean {
  return now - event.gainedAt > (parameters.endSeconds + 3 * parameters.deadSeconds) * 1000;
}
