/** Ids of users, keys and sessions: ULIDs (48 bits of time, 80 random), so that newer ones sort behind older ones. */
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

function crockford(value: bigint, digits: number): string {
  let text = '';
  let rest = value;
  for (let digit = 0; digit < digits; digit += 1) {
    text = `${ALPHABET[Number(rest & 31n)] ?? ''}${text}`;
    rest >>= 5n;
  }
  return text;
}

/** A new ULID for the time `now` (Unix ms). Unique by chance (80 bits), not secret. */
export function newId(now: number): string {
  return crockford(BigInt(now), 10) + crockford(BigInt(`0x${randomBytes(10).toString('hex')}`), 16);
}
