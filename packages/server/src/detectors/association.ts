/**
 * Association: which picks are one earthquake's. A search over places on rings around the stations that were first, as
 * a source lies near them; at each place every pick says when the earthquake would have begun if it were its P or its
 * S wave. The time that most stations agree on within the allowed residual wins; one vote for each station.
 *
 * The share of silent stations counts: what is felt far away is felt nearby (EPIC's rule of 40 %).
 */
import type { NetworkParameters } from '../profiles/seismic/detection.ts';
import type { HeldPick, Lane, Member, NetworkState, StationFacts } from './network-state.ts';
import { distanceKm, offset, pTravelMs, sTravelMs, toleranceMs, type Place } from './travel.ts';

/** A source that explains some picks. `misfit`: mean square of the residuals in units of what is allowed. */
export interface Source extends Place {
  readonly origin: number;
  readonly voters: readonly Voter[];
  readonly misfit: number;
}

/** A pick that agrees with a source. */
export interface Voter {
  readonly pick: HeldPick;
  readonly phase: 'P' | 'S';
  readonly km: number;
  /** The most that the station has told since that pick. */
  readonly level: number;
  readonly amplitude: number;
  readonly lasted: number;
}

/** An earthquake that the picks make. */
export interface Decision {
  readonly source: Source;
  readonly lane: Lane;
}

const RINGS_KM: readonly number[] = [10, 20, 35, 50, 75, 100, 140, 180];
const BEARINGS: readonly number[] = Array.from({ length: 12 }, (_, i) => i * 30);
/** Stations whose surroundings are searched. */
const CENTRES = 3;
/** Sources with the same number of votes that are looked at closer. */
const MOST_SOURCES = 12;
/** An S wave explains an onset less well than a P wave, in units of misfit. */
const S_PENALTY = 0.25;
/** A second arrival is rather not a P wave. */
const AGAIN_PENALTY = 0.5;
/** Mean distance of the stations that counts like a residual as large as is allowed, km. */
const FAR_KM = 200;
const MINUTE_MS = 60_000;
/** Picks so near in time to simultaneous ones tell a wave from the mains; picks nearer than this are the mains' as well. */
const SPIKE_CONTRAST_MS = 2000;
const SPIKE_AFTER_MS = 1000;

/** The earthquake that `newest` makes together with other picks, or null. */
export function associate(
  parameters: NetworkParameters,
  state: NetworkState,
  newest: HeldPick,
  now: number,
): Decision | null {
  const candidates = withoutSpikes(parameters, candidatesFor(parameters, state.picks, newest));
  if (!candidates.includes(newest)) return null;
  if (new Set(candidates.map(({ deviceId }) => deviceId)).size < 2) return null;
  const best = ranked(parameters, state, search(parameters, candidates, newest), now).find(
    ({ source: { voters }, silent }) => voters.length >= parameters.leastShare * (voters.length + silent),
  );
  return best === undefined ? null : { source: best.source, lane: best.lane };
}

/**
 * Sources that a lane lets pass, by votes less silent stations: a chance pick far away that would make more votes makes
 * more silence, too. The silent ones are counted last, they are the dear part.
 */
function ranked(
  parameters: NetworkParameters,
  state: NetworkState,
  sources: readonly Source[],
  now: number,
): readonly (Decision & { readonly silent: number })[] {
  const weights = new Map<string, number>();
  const weight = (deviceId: string): number => {
    const known = weights.get(deviceId) ?? weightOf(parameters, state, deviceId, now);
    weights.set(deviceId, known);
    return known;
  };
  const counts = new Map<number, number>();
  const kept = sources.flatMap((source): Decision[] => {
    const count = (counts.get(source.voters.length) ?? 0) + 1;
    counts.set(source.voters.length, count);
    const lane = count > MOST_SOURCES ? null : laneOf(parameters, weight, source);
    return lane === null ? [] : [{ source, lane }];
  });
  return kept
    .map((decision) => ({ ...decision, silent: silentAbout(parameters, state, decision.source, now) }))
    .sort((a, b) => {
      const votes = b.source.voters.length - b.silent - (a.source.voters.length - a.silent);
      return votes || a.source.misfit - b.source.misfit;
    });
}

/** Picks that may be of one earthquake with `newest`: no farther in time than an S wave behind a P wave. */
function candidatesFor(parameters: NetworkParameters, picks: readonly HeldPick[], newest: HeldPick): HeldPick[] {
  const near = picks.filter((pick) => {
    if (Math.abs(pick.at - newest.at) > MINUTE_MS) return false;
    const km = distanceKm(pick, newest);
    if (km > 2 * parameters.reachKm) return false;
    const most = sTravelMs(parameters, parameters.reachKm) - pTravelMs(parameters, parameters.reachKm);
    return Math.abs(pick.at - newest.at) <= (km / parameters.sSpeed) * 1000 + most;
  });
  if (near.length <= parameters.mostCandidates) return near;
  return near
    .toSorted((a, b) => Math.abs(a.at - newest.at) - Math.abs(b.at - newest.at))
    .slice(0, parameters.mostCandidates);
}

/** Sources that `newest` and another station agree on, the best first. */
function search(parameters: NetworkParameters, candidates: readonly HeldPick[], newest: HeldPick): Source[] {
  const first = candidates.toSorted((a, b) => a.at - b.at).slice(0, CENTRES);
  const centres = new Map([...first, newest].map((pick) => [`${pick.latitude} ${pick.longitude}`, pick]));
  const found: Source[] = [];
  for (const centre of centres.values())
    for (const place of surroundings(centre, RINGS_KM)) {
      const source = agreement(parameters, place, candidates, newest);
      if (source !== null) found.push(source);
    }
  return found.sort((a, b) => b.voters.length - a.voters.length || a.misfit - b.misfit);
}

function surroundings(centre: Place, rings: readonly number[]): Place[] {
  return [centre, ...rings.flatMap((km) => BEARINGS.map((bearing) => offset(centre, km, bearing)))];
}

interface Claim {
  readonly pick: HeldPick;
  readonly phase: 'P' | 'S';
  readonly km: number;
  readonly origin: number;
  readonly tolerance: number;
}

/** The time of origin at `place` that most stations agree on, `newest` among them. */
function agreement(
  parameters: NetworkParameters,
  place: Place,
  candidates: readonly HeldPick[],
  newest: HeldPick,
): Source | null {
  const claims: Claim[] = [];
  for (const pick of candidates) {
    const km = distanceKm(place, pick);
    if (km > parameters.reachKm) continue;
    const [p, s] = [pTravelMs(parameters, km), sTravelMs(parameters, km)];
    claims.push({ pick, phase: 'P', km, origin: pick.at - p, tolerance: toleranceMs(parameters, p) });
    claims.push({ pick, phase: 'S', km, origin: pick.at - s, tolerance: toleranceMs(parameters, s) });
  }
  // The newest must agree, too: most times of origin are ruled out by that before anything is counted.
  const needed = claims.filter(({ pick }) => pick === newest);
  let best: Source | null = null;
  for (const anchor of claims) {
    if (!needed.some((claim) => agrees(claim, anchor.origin))) continue;
    const source = votesAt(place, anchor.origin, claims);
    if (source === null) continue;
    const votes = source.voters.length - (best?.voters.length ?? 0);
    if (votes > 0 || (votes === 0 && source.misfit < (best?.misfit ?? Infinity))) best = source;
  }
  return best;
}

/** Whether a pick is explained by an earthquake that began at `begin`. */
function agrees({ origin, tolerance }: Claim, begin: number): boolean {
  return Math.abs(origin - begin) <= tolerance;
}

function votesAt(place: Place, origin: number, claims: readonly Claim[]): Source | null {
  const votes = new Map<string, { claim: Claim; residual: number; misfit: number }>();
  for (const claim of claims) {
    if (!agrees(claim, origin)) continue;
    const residual = (claim.origin - origin) / claim.tolerance;
    const misfit = residual * residual + oddness(claim);
    const known = votes.get(claim.pick.deviceId);
    if (known === undefined || misfit < known.misfit) votes.set(claim.pick.deviceId, { claim, residual, misfit });
  }
  if (votes.size < 2) return null;
  const all = [...votes.values()];
  const count = all.length;
  const mean = all.reduce((sum, { residual }) => sum + residual, 0) / count;
  const misfit = all.reduce((sum, vote) => sum + vote.misfit, 0) / count - mean * mean;
  // Of places that fit equally well the near ones are likelier: what is far would have been felt by more.
  const far = all.reduce((sum, { claim }) => sum + claim.km, 0) / count / FAR_KM;
  const centred = origin + all.reduce((sum, { claim }) => sum + claim.origin - origin, 0) / count;
  const voters = all.map(({ claim }) => voterOf(claim, claims));
  return { ...bare(place), origin: centred, misfit: misfit + far * far, voters };
}

function voterOf({ pick, phase, km }: Claim, claims: readonly Claim[]): Voter {
  let { level, amplitude, lasted } = pick;
  for (const { pick: other } of claims) {
    if (other.deviceId !== pick.deviceId || other.at < pick.at) continue;
    level = Math.max(level, other.level);
    amplitude = Math.max(amplitude, other.amplitude);
    lasted = Math.max(lasted, other.lasted);
  }
  return { pick, phase, km, level, amplitude, lasted };
}

function oddness({ phase, pick }: Claim): number {
  if (phase === 'S') return S_PENALTY;
  return pick.again ? AGAIN_PENALTY : 0;
}

function bare({ latitude, longitude }: Place): Place {
  return { latitude, longitude };
}

/** Which lane lets the source pass, or null. */
function laneOf(parameters: NetworkParameters, weight: (deviceId: string) => number, source: Source): Lane | null {
  const { voters } = source;
  // S waves may come in a longer window, by chance as well: half a vote.
  const votes = voters.reduce((sum, { pick, phase }) => sum + (phase === 'S' ? 0.5 : 1) * weight(pick.deviceId), 0);
  // Half a vote of leeway: four stations of which one was a little noisy are still four.
  if (voters.length >= parameters.quorum && votes >= parameters.quorum - 0.5) return 'quorum';
  if (sites(parameters, voters, parameters.fastThreeLevel).length >= 3) return 'three-strong';
  const two = sites(parameters, voters, parameters.fastTwoLevel);
  const close = two.some((a) => two.some((b) => a !== b && distanceKm(a.pick, b.pick) <= parameters.fastTwoKm));
  return close ? 'two-very-strong' : null;
}

/** Voters that shake at least so much, each at a site and a moment of its own. */
function sites(parameters: NetworkParameters, voters: readonly Voter[], least: number): Voter[] {
  const kept: Voter[] = [];
  for (const voter of voters) {
    const { level, amplitude, phase, lasted } = voter;
    if (phase === 'S' || level < least || amplitude < parameters.fastAmplitude) continue;
    if (lasted < parameters.fastSeconds * 1000) continue;
    const alone = kept.every(({ pick }) => {
      const km = distanceKm(pick, voter.pick);
      if (km < parameters.apartKm) return false;
      return km < parameters.spikeKm || Math.abs(pick.at - voter.pick.at) > parameters.spikeSeconds * 1000;
    });
    if (alone) kept.push(voter);
  }
  return kept;
}

/**
 * Without picks that no wave makes: three stations or more at the same moment, far apart, and fewer others about that
 * time (a wave that crosses a dense network is at many places one after another). What the mains did to the others is
 * left out, too.
 */
function withoutSpikes(parameters: NetworkParameters, picks: readonly HeldPick[]): readonly HeldPick[] {
  const sorted = picks.toSorted((a, b) => a.at - b.at);
  const same = parameters.spikeSeconds * 1000;
  const spikes: number[] = [];
  for (const first of sorted) {
    const together = sorted.filter(({ at }) => at >= first.at && at - first.at <= same);
    if (new Set(together.map(({ deviceId }) => deviceId)).size < 3) continue;
    const about = sorted.filter(({ at }) => Math.abs(at - first.at) <= SPIKE_CONTRAST_MS).length;
    if (about >= 2 * together.length) continue;
    if (together.some((a) => together.some((b) => distanceKm(a, b) > parameters.spikeKm))) spikes.push(first.at);
  }
  if (spikes.length === 0) return picks;
  return picks.filter(({ at }) => spikes.every((spike) => Math.abs(at - spike) > SPIKE_AFTER_MS));
}

/**
 * Weight of a station's vote, 0 to 1: how much less likely than chance its pick is, against a healthy station's
 * (the logarithm of a Poisson coincidence).
 */
export function weightOf(parameters: NetworkParameters, state: NetworkState, deviceId: string, now: number): number {
  const station = state.stations[deviceId];
  const healthy = (parameters.healthyPerHour / 3600) * parameters.chanceSeconds;
  // Picks that still wait, but for longer than a wave needs from station to station, count already.
  const waiting = state.picks.filter(
    (pick) => pick.deviceId === deviceId && !pick.again && now - pick.at > parameters.chanceSeconds * 1000,
  ).length;
  const busy = waiting + (station === undefined ? 0 : busyness(parameters, station, now));
  const rate = healthy + (busy / parameters.busySeconds) * parameters.chanceSeconds;
  return Math.max(0, Math.min(1, Math.log(rate) / Math.log(healthy)));
}

/** Picks of late of a station that belonged to no event, as of `now`. */
export function busyness(parameters: NetworkParameters, { busy, busyAt }: StationFacts, now: number): number {
  return busy * Math.exp(-Math.max(0, now - busyAt) / 1000 / parameters.busySeconds);
}

/** Stations as near as the farthest voter that should have told by now and did not. */
function silentAbout(parameters: NetworkParameters, state: NetworkState, source: Source, now: number): number {
  const farthest = Math.max(...source.voters.map(({ km }) => km));
  const felt = new Set(source.voters.map(({ pick }) => pick.deviceId));
  // A station that still shakes from a known event is not silent: what it feels now may be hidden.
  for (const { members } of state.events) for (const { deviceId } of members) felt.add(deviceId);
  let silent = 0;
  for (const [deviceId, station] of Object.entries(state.stations)) {
    if (felt.has(deviceId) || now - station.heardAt > parameters.aliveSeconds * 1000) continue;
    // A degree of latitude is 111 km everywhere; most stations of a large network are left out by that alone.
    if (Math.abs(source.latitude - station.latitude) * 110 > farthest) continue;
    const km = distanceKm(source, station);
    if (km > farthest) continue;
    if (source.origin + pTravelMs(parameters, km) + parameters.tellSeconds * 1000 < now) silent += 1;
  }
  return silent;
}

/** A better place for an event from its members: a finer search around the old one. Never more votes lost than won. */
export function relocate(parameters: NetworkParameters, place: Place, members: readonly Member[]): Source | null {
  const near = members.filter((member) => distanceKm(place, member) <= parameters.reachKm);
  const newest = near.at(-1);
  if (newest === undefined || near.length < 3) return null;
  let best: Source | null = null;
  for (const candidate of surroundings(place, [5, ...RINGS_KM])) {
    const source = agreement(parameters, candidate, near, newest);
    if (source === null) continue;
    const votes = source.voters.length - (best?.voters.length ?? 0);
    if (votes > 0 || (votes === 0 && source.misfit < (best?.misfit ?? Infinity))) best = source;
  }
  return best;
}
