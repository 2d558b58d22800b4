/** What simulated devices measure when nothing is the matter, and hosts that now and then are hot. Pure but for chance. */
import type { Felt } from './earthquake.ts';
import type { Random } from './random.ts';

/** When hosts are hot: every so often another one, for so long. Milliseconds. */
export interface HotPlan {
  readonly everyMs: number;
  readonly lastingMs: number;
}

/** Triggers of a quiet day: a lorry, a door. In the unit of the sensor, here cm/s². */
const QUIET = 2;

/** `count` triggers of a quiet day, the last one at `at`, 10 ms apart. */
export function quietTriggers(at: number, count: number, random: Random): { at: number; value: number }[] {
  return Array.from({ length: count }, (_, i) => ({
    at: at - (count - 1 - i) * 10,
    value: round(QUIET * (0.2 + random.exponential())),
  }));
}

/** The trigger of a P wave: grows with the earthquake, falls with the distance, 20 % of noise. `at` is the wave's time. */
export function shakenTrigger(felt: Felt, at: number, random: Random): { at: number; value: number } {
  return { at, value: round(felt.pPeak * 100 * Math.exp(0.2 * random.normal())) };
}

/** Whether host number `index` of `hosts` is hot at `ms` of the run: never in the first period, then one in turn. */
export function isHot(plan: HotPlan, index: number, hosts: number, ms: number): boolean {
  const turn = Math.floor(ms / plan.everyMs);
  return turn >= 1 && ms - turn * plan.everyMs < plan.lastingMs && (turn * 7919) % hosts === index;
}

/** `count` frames of a host, the last one at `at`, a second apart. A hot one is at 93 to 99 %. */
export function hostFrames(at: number, count: number, index: number, hot: boolean, random: Random): object[] {
  return Array.from({ length: count }, (_, i) => {
    const when = at - (count - 1 - i) * 1000;
    const load = 35 + 20 * Math.sin(when / 300_000 + index) + 6 * random.normal();
    return {
      at: when,
      cpu_percent: round(hot ? 93 + 6 * random.uniform() : clamp(load, 1, 85)),
      mem_percent: round(clamp(55 + ((index * 13) % 30) + random.normal(), 1, 95)),
      disk_percent: round(20 + ((index * 7) % 60)),
    };
  });
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
