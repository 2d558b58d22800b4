/**
 * The recursive STA/LTA of Withers et al. (1998, BSSA 88, 95-106) as ObsPy's `recursive_sta_lta` computes it, and what
 * a ratio of energies means: how likely Gaussian noise reaches it.
 */

/** Recursive average of energies over a window of `samples`: the weight of the newest. */
export function recursiveWeight(samples: number): number {
  return 1 / Math.max(1, samples);
}

/**
 * Characteristic function of a whole trace: ratio of the recursive averages over `sta` and `lta` samples, 0 for the
 * first `lta` samples. Equal to ObsPy's, sample by sample (its first sample is not used, its LTA begins at 1e-99).
 */
export function recursiveStaLta(trace: ArrayLike<number>, sta: number, lta: number): Float64Array {
  const [weightShort, weightLong] = [recursiveWeight(sta), recursiveWeight(lta)];
  const ratios = new Float64Array(trace.length);
  let short = 0;
  let long = 1e-99;
  for (let i = 1; i < trace.length; i += 1) {
    const energy = (trace[i] ?? 0) ** 2;
    short += weightShort * (energy - short);
    long += weightLong * (energy - long);
    if (i >= lta) ratios[i] = short / long;
  }
  return ratios;
}

/**
 * Degrees of freedom of the recursive average of the energy of band-limited noise: a plain average over T seconds has
 * 2 B T (Bendat & Piersol 2010, ch. 8), a recursive one with that time constant twice as many.
 */
export function degreesOfFreedom(bandwidthHz: number, seconds: number): number {
  return 4 * bandwidthHz * seconds;
}

/** The ratio to its mean that chi-square of `freedom` degrees exceeds as rarely as a normal variable `sigma` (Wilson & Hilferty 1931). */
export function ratioAt(sigma: number, freedom: number): number {
  const spread = 2 / (9 * freedom);
  return (1 - spread + sigma * Math.sqrt(spread)) ** 3;
}
