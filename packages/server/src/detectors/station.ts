/**
 * A station: waveform packets in, picks out. Pure, constant cost for each sample, state of some hundred numbers.
 *
 * Each axis: running mean off, Butterworth band-pass, recursive averages of the energy over a short and a long window
 * (Withers et al. 1998). Which axis stands upright nobody knows, and P waves are strongest on the upright one, S waves
 * on the others. So two ratios are watched: the mean over all axes, each in units of its own noise, and the largest
 * single one; each against the ratio that noise reaches equally rarely. The long average waits while a trigger lasts.
 *
 * A trigger becomes a pick once its energy is spread over more time than the filter's answer to a glitch or a step, and
 * its peak is over an absolute floor. Told at the end of the packet, and again while it grows. A second arrival within
 * the shaking (S, another earthquake) makes a pick of its own, `again`.
 *
 * Nothing is told before the noise level, the filter and the device's clock are known. Constant samples teach no noise
 * and their end is no step; a sensor that was stuck for long begins anew.
 */
import type { PickerParameters } from '../profiles/seismic/detection.ts';
import type { Section } from './butterworth.ts';
import type { OpenTrigger, Packet, PacketVerdict, StationState, Told, Work } from './station-state.ts';
import { continuation, correction, nextClock } from './timeline.ts';
import { judge, tell } from './trigger.ts';
import { tune, type Tuning } from './tuning.ts';

/** What a packet leads to. */
export interface StationStep {
  readonly state: StationState | null;
  readonly told: readonly Told[];
  readonly verdict: PacketVerdict;
}

/** A station's picker. */
export interface StationPicker {
  /** One packet that arrived at `now`, Unix ms. A state of null: never heard of. */
  step(state: StationState | null, packet: Packet, now: number): StationStep;
}

/** Rates of which the tuning is kept; a peer cannot make it grow. */
const MOST_RATES = 64;
/** Consecutive equal samples this far from the mean are clipped, m/s²: cheap accelerometers end at 2 g. */
const CLIPPED = 15;
/** Repetitions of the same sample from which it is. */
const CLIPPED_SAMPLES = 1;
const MOST_AXES = 3;
/**
 * No sample counts for more, m/s²: ten times what a sensor of 200 g says in gal. What a hostile one sends
 * beyond would overflow in the energies, and a state with Infinity or NaN is not the same once it was saved as JSON.
 */
const LARGEST = 2e6;
/** No acceleration in any unit: a failed read, or the largest number of some type. A packet that holds one is left out. */
const ABSURD = 1e9;

/** Builds the picker. */
export function createStationPicker(parameters: PickerParameters): StationPicker {
  const tunings = new Map<number, Tuning>();
  const tuningOf = (rate: number): Tuning => {
    const known = tunings.get(rate);
    if (known !== undefined) return known;
    if (tunings.size >= MOST_RATES) tunings.clear();
    const tuning = tune(parameters, rate);
    tunings.set(rate, tuning);
    return tuning;
  };
  return { step: (state, packet, now) => step(parameters, tuningOf, state, packet, now) };
}

function step(
  parameters: PickerParameters,
  tuningOf: (rate: number) => Tuning,
  state: StationState | null,
  packet: Packet,
  now: number,
): StationStep {
  const axes = packet.axes.slice(0, MOST_AXES);
  const samples = Math.min(...axes.map(({ length }) => length));
  if (axes.length === 0 || samples === 0) return { state, told: [], verdict: 'no-samples' };
  if (!(packet.rate >= parameters.leastHz && packet.rate <= parameters.mostHz))
    return { state, told: [], verdict: 'unusable-rate' };
  if (axes.some((axis) => axis.some((value) => Math.abs(value) > ABSURD)))
    return { state, told: [], verdict: 'no-acceleration' };
  const tuning = tuningOf(packet.rate);
  const work = begin(parameters, state, { ...packet, axes }, samples, now);
  if (work === 'behind')
    return { state: behindState(parameters, state, packet, samples, now), told: [], verdict: work };
  const period = 1000 / packet.rate;
  const first = packet.at + work.skip * period;
  work.clock = nextClock(parameters, work.clock, packet.at + (samples - 1) * period, now);
  const shift = correction(parameters, work.clock);
  const ended: OpenTrigger[] = [];
  for (let i = work.skip; i < samples; i += 1)
    sample(parameters, tuning, work, axes, i, first + (i - work.skip) * period, shift, ended);
  work.next = packet.at + samples * period;
  const told = tell(parameters, work, ended, period, now);
  return { state: finish(work), told, verdict: 'used' };
}

/** A sample that no arithmetic here overflows on. */
function bounded(value: number): number {
  return value > LARGEST ? LARGEST : value < -LARGEST ? -LARGEST : value;
}

function firstOf(packet: Packet): number[] {
  return packet.axes.map((axis) => bounded(axis[0] ?? 0));
}

function fresh(parameters: PickerParameters, packet: Packet, now: number): Work {
  const zeros = packet.axes.map(() => 0);
  return {
    rate: packet.rate,
    base: firstOf(packet),
    last: packet.axes.map(() => Number.NaN),
    constant: [...zeros],
    delays: packet.axes.flatMap(() => Array.from({ length: 2 * parameters.order }, () => 0)),
    short: [...zeros],
    long: [...zeros],
    middle: 1,
    learnt: 0,
    settled: 0,
    raised: 0,
    next: packet.at,
    trigger: null,
    clock: null,
    aliveAt: now,
    skip: 0,
  };
}

function begin(
  parameters: PickerParameters,
  state: StationState | null,
  packet: Packet,
  samples: number,
  now: number,
): Work | 'behind' {
  if (state === null || state.base.length !== packet.axes.length) return fresh(parameters, packet, now);
  const how = continuation(parameters, state, packet, samples, now);
  if (how.kind === 'behind') return 'behind';
  if (how.kind === 'clock-set') return fresh(parameters, packet, now);
  if (how.kind === 'gap' && how.seconds > parameters.forgetSeconds) return fresh(parameters, packet, now);
  const work = resume(state);
  if (how.kind === 'on') work.skip = how.skip;
  if (how.kind === 'gap' || state.rate !== packet.rate) restart(work, packet);
  return work;
}

/** The filter begins anew, the noise level stays. */
function restart(work: Work, packet: Packet): void {
  work.rate = packet.rate;
  work.base = firstOf(packet);
  work.last = work.last.map(() => Number.NaN);
  work.delays.fill(0);
  work.short = [...work.long];
  work.middle = 1;
  work.settled = 0;
  work.raised = 0;
  work.trigger = null;
}

function resume(state: StationState): Work {
  return {
    ...state,
    // JSON has no NaN: null stands for "no sample yet".
    last: state.last.map((value) => value ?? Number.NaN),
    base: [...state.base],
    constant: [...state.constant],
    delays: [...state.delays],
    short: [...state.short],
    long: [...state.long],
    trigger: state.trigger === null ? null : { ...state.trigger },
    skip: 0,
  };
}

function finish(work: Work): StationState {
  const { skip: _skip, clock, ...rest } = work;
  if (clock === null) throw new TypeError('a station without a clock');
  return { ...rest, clock, behind: null };
}

function behindState(
  parameters: PickerParameters,
  state: StationState | null,
  packet: Packet,
  samples: number,
  now: number,
): StationState | null {
  if (state === null) return null;
  const how = continuation(parameters, state, packet, samples, now);
  return how.kind === 'behind' ? { ...state, behind: how.behind } : state;
}

/** One sample of all axes; `time` by the device's clock. */
function sample(
  parameters: PickerParameters,
  tuning: Tuning,
  work: Work,
  axes: readonly (readonly number[])[],
  index: number,
  time: number,
  shift: number,
  ended: OpenTrigger[],
): void {
  const count = axes.length;
  const floor = parameters.floor * parameters.floor;
  // While the noise level is young it is the plain mean of what was heard.
  const learning = work.settled < tuning.settle ? 0 : Math.max(tuning.long, 1 / (work.learnt + 1));
  const limit = work.learnt < tuning.warm ? Infinity : parameters.mostTaught;
  let sum = 0;
  let single = 0;
  let energies = 0;
  let peak = 0;
  let stuck = 0;
  let clipped = false;
  for (let axis = 0; axis < count; axis += 1) {
    const raw = bounded(axes[axis]?.[index] ?? 0);
    const before = work.constant[axis] ?? 0;
    const run = raw === work.last[axis] ? before + 1 : 0;
    if (run === 0 && before >= tuning.stuck) stuck += 1;
    if (run === 0 && before >= tuning.constant) wake(tuning, work, axis, raw);
    work.constant[axis] = run;
    work.last[axis] = raw;
    const base = (work.base[axis] ?? 0) + tuning.mean * (raw - (work.base[axis] ?? 0));
    work.base[axis] = base;
    if (run >= CLIPPED_SAMPLES && Math.abs(raw - base) >= CLIPPED) clipped = true;
    const value = filter(tuning.sections, work.delays, axis, raw - base);
    const energy = value * value;
    peak += energy;
    const short = (work.short[axis] ?? 0) + tuning.short * (energy - (work.short[axis] ?? 0));
    work.short[axis] = short;
    const known = work.long[axis] ?? 0;
    const most = limit * (known > floor ? known : floor);
    const taught = energy < most ? energy : most;
    const long = work.trigger === null && run < tuning.constant ? known + learning * (taught - known) : known;
    work.long[axis] = long;
    const noise = long > floor ? long : floor;
    const ratio = short / noise;
    sum += ratio;
    if (ratio > single) single = ratio;
    energies += energy / noise;
  }
  const mean = sum / count;
  work.middle += tuning.middle * (mean - work.middle);
  if (stuck > 0) return relearn(work);
  work.settled += 1;
  if (work.settled <= tuning.settle) return void (work.middle = 1);
  work.learnt += 1;
  work.raised = mean < parameters.offRatio ? 0 : work.raised + 1;
  if (work.learnt < tuning.warm) return;
  const on = mean > (tuning.all[count] ?? Infinity) || single > tuning.single;
  // Nothing is made for a sample of noise: this line is why a core carries so many stations.
  if (!on && work.trigger === null) return;
  const heard = { mean, on, energies: energies / count, peak: Math.sqrt(peak), clipped, time, shift };
  judge(parameters, tuning, work, heard, ended);
}

function filter(sections: readonly Section[], delays: number[], axis: number, input: number): number {
  let value = input;
  let at = axis * sections.length * 2;
  for (const { b0, b1, b2, a1, a2 } of sections) {
    const out = b0 * value + (delays[at] ?? 0);
    delays[at] = b1 * value - a1 * out + (delays[at + 1] ?? 0);
    delays[at + 1] = b2 * value - a2 * out;
    value = out;
    at += 2;
  }
  return value;
}

/** An axis that stood still moves again: not a step from where it stood, but a beginning. */
function wake(tuning: Tuning, work: Work, axis: number, raw: number): void {
  const delays = tuning.sections.length * 2;
  work.delays.fill(0, axis * delays, (axis + 1) * delays);
  work.base[axis] = raw;
  work.short[axis] = work.long[axis] ?? 0;
}

/** A sensor that was stuck: what it said before means nothing now. */
function relearn(work: Work): void {
  work.base = work.last.map((value) => value);
  work.delays.fill(0);
  work.short.fill(0);
  work.long.fill(0);
  work.middle = 1;
  work.learnt = 0;
  work.settled = 0;
  work.trigger = null;
}
