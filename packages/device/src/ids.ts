/**
 * Ids of envelopes: 48 bits of Unix ms and 80 random bits in 26 characters of Crockford's base 32 (the form of a ULID).
 * Unique by the random part alone (2^80), so also when the clock goes back or begins anew; the time is for people.
 */
import { randomBytes } from 'node:crypto';

const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const TIME_DIGITS = 10;
const RANDOM_DIGITS = 16;

/** A new id; `now` in Unix ms. */
export function newEnvelopeId(now: number): string {
  let rest = Math.min(Math.max(Math.trunc(now), 0), 2 ** 48 - 1);
  let text = '';
  for (let digit = 0; digit < TIME_DIGITS; digit += 1) {
    text = `${DIGITS[rest % 32] ?? ''}${text}`;
    rest = Math.floor(rest / 32);
  }
  // A byte for each digit: 256 is a multiple of 32, so every digit is as likely.
  for (const byte of randomBytes(RANDOM_DIGITS)) text += DIGITS[byte % 32] ?? '';
  return text;
}
