/**
 * Keys of what simulated devices tell. Pure.
 *
 * A notice from an exercise device goes under its key with a prefix (`exercise:zone:z1` beside `zone:z1`): own records of
 * the log, own states of detectors, own fingerprints. So it can neither vote in a real alert nor delay or hide one. Detectors
 * are given the plain key and know nothing of it; only what is found under such a key is told as an exercise.
 */
const PREFIX = 'exercise:';

/** The key under which an exercise device tells what concerns `key`. */
export function exerciseKey(key: string): string {
  return `${PREFIX}${key}`;
}

/** True for a key of {@link exerciseKey}. No other key begins so: prefixes of detectors are theirs, ids have no colon. */
export function isExerciseKey(key: string): boolean {
  return key.startsWith(PREFIX);
}

/** The key as detectors know it. */
export function plainKey(key: string): string {
  return isExerciseKey(key) ? key.slice(PREFIX.length) : key;
}
