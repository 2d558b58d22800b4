/**
 * ULIDs (github.com/ulid/spec): 48 bits of Unix ms and 80 random bits, 26 characters of Crockford's base 32, so that
 * the order of ids is the order of time.
 *
 * Guarantee: ids of one factory rise strictly, also within a millisecond and when the clock goes back.
 */
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const RANDOM_BITS = 80n;
const RANDOM_END = 1n << RANDOM_BITS;
const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

/** Makes ids for the time given (Unix ms). */
export type IdFactory = (now: number) => string;

/** True when `value` is a ULID as this module writes it (upper case). */
export function isUlid(value: unknown): value is string {
  return typeof value === 'string' && ULID.test(value);
}

function encode(time: number, random: bigint): string {
  let text = '';
  let rest = (BigInt(time) << RANDOM_BITS) | random;
  for (let digit = 0; digit < 26; digit += 1) {
    text = `${ALPHABET[Number(rest & 31n)] ?? ''}${text}`;
    rest >>= 5n;
  }
  return text;
}

function drawRandom(): bigint {
  return BigInt(`0x${randomBytes(10).toString('hex')}`);
}

/** Creates a factory; `random` answers 80 random bits. */
export function createIdFactory(random: () => bigint = drawRandom): IdFactory {
  let time = -1;
  let tail = 0n;
  return (now) => {
    const wanted = Math.trunc(now);
    if (wanted > time) {
      time = wanted;
      tail = random();
    } else {
      tail += 1n;
      // The spec lets the generation fail when the 80 bits run over; the next millisecond keeps the order as well.
      if (tail === RANDOM_END) {
        time += 1;
        tail = random();
      }
    }
    return encode(time, tail);
  };
}

/** A ULID by itself, for things whose order within a millisecond does not matter. Unique by chance (80 bits), not secret. */
export function newId(now: number): string {
  return encode(Math.trunc(now), drawRandom());
}
