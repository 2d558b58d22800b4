/**
 * Signatures of tokens that were found good, so that a token that comes again costs a hash and not an ECDSA verification: when
 * all viewers of a site come back at once they bring the tokens that they had.
 *
 * Only the signature is remembered: the same bytes checked with the same key have the same answer. Whether the key still
 * counts, times, claims and session are looked at anew each time. Tokens themselves are not kept, only their SHA-256.
 * Bound: `most` entries, the longest unused goes first.
 */
import { boundMap } from '../lib/bound-map.ts';
import type { VerifyingKey } from './signing-keys.ts';

/** The memory of good signatures. */
export interface CheckedSignatures {
  /** The payload whose signature was checked with exactly this key object, or undefined. */
  get(digest: string, key: VerifyingKey): Uint8Array | undefined;
  set(digest: string, key: VerifyingKey, payload: Uint8Array): void;
  readonly size: number;
}

interface Checked {
  readonly publicKey: VerifyingKey['publicKey'];
  readonly payload: Uint8Array;
}

/** Creates it empty. */
export function createCheckedSignatures(most: number): CheckedSignatures {
  const known = new Map<string, Checked>();
  return {
    get(digest, key) {
      const found = known.get(digest);
      if (found === undefined) return undefined;
      if (found.publicKey === key.publicKey || found.publicKey.equals(key.publicKey)) return found.payload;
      known.delete(digest);
      return undefined;
    },
    set(digest, { publicKey }, payload) {
      known.delete(digest);
      known.set(digest, { publicKey, payload });
      boundMap(known, most);
    },
    get size(): number {
      return known.size;
    },
  };
}
