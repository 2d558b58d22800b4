/**
 * Chance that can be had again: the same seed gives the same numbers, on every machine. Not for secrets.
 *
 * The generator is sfc32 (Chris Doty-Humphrey, PractRand), seeded by FNV-1a over the seed's text.
 */

/** A stream of chance. */
export interface Random {
  /** At least 0, below 1; 32 bits. */
  uniform(): number;
  /** A whole number from 0 to `below` - 1. */
  integer(below: number): number;
  /** Mean 0, standard deviation 1. */
  normal(): number;
  /** Of mean 1: the distances of a Poisson process. */
  exponential(): number;
}

const WARM_UP = 12;

/** A stream of its own for each seed. */
export function createRandom(seed: string): Random {
  let [a, b, c, count] = [fnv(`${seed}/a`), fnv(`${seed}/b`), fnv(`${seed}/c`), 1];
  const next = (): number => {
    const sum = (a + b + count) | 0;
    count = (count + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < WARM_UP; i += 1) next();
  const uniform = (): number => next() / 2 ** 32;
  return {
    uniform,
    integer: (below) => Math.floor(uniform() * below),
    // Box and Muller (1958).
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    exponential: () => -Math.log(1 - uniform()),
  };
}

function fnv(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash | 0;
}
