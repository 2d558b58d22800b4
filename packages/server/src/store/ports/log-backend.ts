/**
 * What the store keeps for a log whose records of devices live elsewhere: which backend the installation uses, and floors
 * under the offsets of that backend.
 *
 * Failure: `store-unavailable` while the store is away.
 */

/** Where records of devices live. Those of other keys are always the store's. */
export type LogBackend = 'store' | 'redis';

/** What the installation uses. */
export interface LogBackendChoice {
  readonly backend: LogBackend;
  /**
   * A name for this stretch of using it: another one after every change, so that leftovers are told apart. Its beginning
   * ({@link installationOf}) stays, so that those of another installation are told apart, too.
   */
  readonly generation: string;
}

const INSTALLATION_CHARACTERS = 8;

/** The part of a generation that all of an installation share. Pure. */
export function installationOf(generation: string): string {
  return generation.slice(0, INSTALLATION_CHARACTERS);
}

/** What became of a wish to change. */
export type LogBackendChange =
  | { readonly kind: 'changed' | 'chosen-meanwhile'; readonly choice: LogBackendChoice }
  /** Other processes are alive; they would go on with the old one. */
  | { readonly kind: 'in-use' }
  /** Records of devices in the store are not worked off. */
  | { readonly kind: 'not-worked-off'; readonly records: number };

/** An id that the log remembers. */
export interface KnownId {
  readonly deviceId: string;
  readonly envelopeId: string;
  /** SHA-256, 32 bytes. */
  readonly digest: Buffer;
  /** Unix ms. */
  readonly seenAt: number;
}

/** A frame that the log remembers. */
export type KnownFrame = Pick<KnownId, 'deviceId' | 'envelopeId'>;

/** The port. */
export interface LogBackendStore {
  /** Null before the first choice. */
  chosen(): Promise<LogBackendChoice | null>;
  /** Whether a process of the installation is alive. */
  inUse(): Promise<boolean>;
  /**
   * Changes `from` (what {@link chosen} said) to `to`, unless another process of the installation is alive, somebody chose
   * meanwhile, or the store has records of `partitions` that no worker has worked off (ticks do not count). To the store:
   * the heads of `partitions` are set to their positions, so that no offset is given again at or below one.
   */
  change(from: LogBackendChoice | null, to: LogBackendChoice, partitions: readonly number[]): Promise<LogBackendChange>;
  /**
   * An offset above every one that was given or worked off in the partition: `step` beyond the greatest of its position,
   * `top` and the floor before; 0 for a partition that is all new. Committed before it is answered, so a later floor is at
   * least `step` higher. Null when the installation has chosen another generation meanwhile: what is appended to this one
   * would never be read.
   */
  raiseFloor(generation: string, partition: number, top: number, step: number): Promise<number | null>;
  /** Ids seen since `since`, after one in the order of device and envelope; at most `limit`. */
  knownIds(since: number, after: Pick<KnownId, 'deviceId' | 'envelopeId'> | null, limit: number): Promise<KnownId[]>;
  /** Remembers ids; those that are known already stay as they are. */
  rememberIds(ids: readonly KnownId[]): Promise<void>;
  /** Frames of the last hour at least, after one in the order of id and device; at most `limit`. */
  knownFrames(after: KnownFrame | null, limit: number): Promise<KnownFrame[]>;
  /** Remembers frames as if they had arrived at `at` (Unix ms). */
  rememberFrames(frames: readonly KnownFrame[], at: number): Promise<void>;
}
