/**
 * Triggers of a station: when shaking begins and ends, whether it is a pick, what of it is told. Changes the state that
 * it is given to work on, nothing else.
 */
import type { PickerParameters } from '../profiles/seismic/detection.ts';
import type { OpenTrigger, Pick, Told, Work } from './station-state.ts';
import { steady } from './timeline.ts';
import type { Tuning } from './tuning.ts';

/** One sample as the trigger sees it: ratio, energy in units of the noise, amplitude, time by the device's clock. */
export interface Heard {
  readonly mean: number;
  readonly on: boolean;
  readonly energies: number;
  readonly peak: number;
  readonly clipped: boolean;
  readonly time: number;
  readonly shift: number;
}

/** Begins, continues or ends a trigger. */
export function judge(
  parameters: PickerParameters,
  tuning: Tuning,
  work: Work,
  heard: Heard,
  ended: OpenTrigger[],
): void {
  const { trigger } = work;
  if (trigger === null) {
    // The onset is where the ratio last rose over the end of a trigger, at most two short windows ago.
    const back = Math.min(work.raised, tuning.back);
    if (heard.on) work.trigger = open(heard, heard.time - (back * 1000) / tuning.rate, false);
    return;
  }
  const { mean, energies, peak } = heard;
  trigger.samples += 1;
  trigger.sum += energies;
  trigger.sumOfSquares += energies * energies;
  trigger.peak = Math.max(trigger.peak, peak);
  trigger.level = Math.max(trigger.level, mean);
  if (heard.clipped) trigger.clipped = true;
  if (trigger.sum * trigger.sum >= tuning.spread * trigger.sumOfSquares) trigger.confirmed = true;
  if (mean < parameters.offRatio || trigger.samples > tuning.longest) {
    // What the shaking fell to is the noise that the next one has to stand out of; so is shaking that does not end.
    for (let axis = 0; axis < work.long.length; axis += 1)
      work.long[axis] = Math.max(work.long[axis] ?? 0, work.short[axis] ?? 0);
    close(work, ended);
  } else if (trigger.confirmed && trigger.samples > tuning.jump && mean > parameters.jumpRatio * work.middle) {
    close(work, ended);
    work.trigger = open(heard, heard.time, true);
  }
}

function close(work: Work, ended: OpenTrigger[]): void {
  if (work.trigger !== null) ended.push(work.trigger);
  work.trigger = null;
}

function open({ mean, peak, energies, clipped, time, shift }: Heard, onset: number, again: boolean): OpenTrigger {
  return {
    onset,
    at: Math.round(onset + shift),
    again,
    samples: Math.round(time - onset) > 0 ? 0 : 1,
    sum: energies,
    sumOfSquares: energies * energies,
    peak,
    level: mean,
    confirmed: false,
    clipped,
    told: 0,
    toldPeak: 0,
    toldLasting: false,
  };
}

/** What is worth telling after a packet. */
export function tell(
  parameters: PickerParameters,
  work: Work,
  ended: OpenTrigger[],
  period: number,
  now: number,
): Told[] {
  const told: Told[] = [];
  if (work.clock === null || !steady(parameters, work.clock)) return told;
  for (const trigger of work.trigger === null ? ended : [...ended, work.trigger]) {
    const lasting = !trigger.toldLasting && trigger.samples * period >= parameters.lastingSeconds * 1000;
    const due = trigger.told === 0 || lasting || trigger.peak >= trigger.toldPeak * parameters.growth;
    const worth =
      trigger.confirmed && trigger.peak >= parameters.leastAmplitude && trigger.told < parameters.mostUpdates;
    if (!due || !worth || now - trigger.at > parameters.liveMs) continue;
    trigger.told += 1;
    trigger.toldPeak = trigger.peak;
    if (lasting) trigger.toldLasting = true;
    told.push(pickOf(trigger, period));
  }
  if (now - work.aliveAt >= parameters.aliveSeconds * 1000) {
    work.aliveAt = now;
    told.push({ kind: 'alive', at: now, noise: Math.sqrt(work.long.reduce((sum, energy) => sum + energy, 0)) });
  }
  return told;
}

function pickOf({ at, again, peak, level, samples, clipped }: OpenTrigger, period: number): Pick {
  return { kind: 'pick', at, again, amplitude: peak, level, lasted: Math.round(samples * period), clipped };
}
