/**
 * The versions of the wire. Whoever changes what goes over it (a table, a shape) adds an entry: a test hashes all of them
 * and compares with the newest. Only the newest entry may change while it is not `released`.
 */

/** One version of the wire. */
export interface WireVersion {
  /** `major.minor`: a client of the same major keeps working. */
  readonly version: string;
  /** First 16 hex digits of the SHA-256 over tables and shapes (`version.test.ts`). */
  readonly hash: string;
  readonly released: boolean;
  readonly change: string;
}

/** All versions, the newest last. */
export const WIRE_VERSIONS: readonly WireVersion[] = [
  { version: '1.0', hash: 'da953a3ea07a3956', released: false, change: 'the first release' },
];
