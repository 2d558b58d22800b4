/** What follows from a sampling rate: filter, weights of the averages, lengths in samples, thresholds. Pure. */
import type { PickerParameters } from '../profiles/seismic/detection.ts';
import { butterworthBandPass, type Section } from './butterworth.ts';
import { degreesOfFreedom, ratioAt, recursiveWeight } from './sta-lta.ts';

/** What follows from a sampling rate. */
export interface Tuning {
  readonly rate: number;
  readonly sections: readonly Section[];
  readonly short: number;
  readonly long: number;
  readonly middle: number;
  readonly mean: number;
  readonly warm: number;
  readonly settle: number;
  readonly longest: number;
  readonly constant: number;
  readonly stuck: number;
  readonly jump: number;
  readonly spread: number;
  readonly back: number;
  /** Ratios that begin a trigger: of one axis, and of the mean over 0 to 3 axes. */
  readonly single: number;
  readonly all: readonly number[];
}

/** The tuning for `rate` samples a second. */
export function tune(parameters: PickerParameters, rate: number): Tuning {
  const high = Math.min(parameters.highHz, parameters.highShare * rate);
  const bandwidth = high - parameters.lowHz;
  const freedom = degreesOfFreedom(bandwidth, parameters.staSeconds);
  const samples = (seconds: number): number => Math.max(1, Math.round(seconds * rate));
  return {
    rate,
    sections: butterworthBandPass(parameters.order, parameters.lowHz, high, rate),
    short: recursiveWeight(parameters.staSeconds * rate),
    long: recursiveWeight(parameters.ltaSeconds * rate),
    middle: recursiveWeight(parameters.jumpSeconds * rate),
    mean: recursiveWeight(parameters.meanSeconds * rate),
    warm: samples(parameters.warmSeconds),
    settle: samples(parameters.settleSeconds),
    longest: samples(parameters.longestSeconds),
    constant: samples(parameters.constantSeconds),
    stuck: samples(parameters.stuckSeconds),
    jump: samples(parameters.jumpSeconds),
    spread: (parameters.leastSpread / bandwidth) * rate,
    back: samples(parameters.staSeconds * 2),
    single: ratioAt(parameters.onSigma, freedom),
    all: [Infinity, 1, 2, 3].map((axes) => ratioAt(parameters.onSigma, freedom * axes)),
  };
}
