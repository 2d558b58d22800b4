/** What a long run says about memory. Pure. */

/** Parts that a run is divided into; the first is warm-up. */
const PARTS = 5;
/** Growth from the second part to the last that counts, and samples without which nothing is said. */
const GROWTH = 1.15;
const SAMPLES_LEAST = 10;

/**
 * True when memory grows steadily: the least of each part (so that a collector's saw teeth do not count) is above the one
 * before, and the last at least 15 % above the second. False for fewer than ten samples.
 */
export function growsSteadily(samples: readonly number[]): boolean {
  if (samples.length < SAMPLES_LEAST) return false;
  const least = Array.from({ length: PARTS }, (_, part) => {
    const from = Math.floor((part * samples.length) / PARTS);
    return Math.min(...samples.slice(from, Math.floor(((part + 1) * samples.length) / PARTS)));
  });
  const after = least.slice(1);
  const rising = after.every((value, i) => i === 0 || value > (after[i - 1] ?? 0));
  return rising && (after.at(-1) ?? 0) > (after[0] ?? 0) * GROWTH;
}
