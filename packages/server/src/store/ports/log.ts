/**
 * The log: the durable, partitioned sequence of accepted envelopes, ticks and findings that workers read.
 *
 * Guarantees: `append` resolves only once its records are committed, ids and records in one step. Offsets of a
 * partition start at 1, grow by 1 in the order of commits, without gaps: whoever has read up to n has read all up to n.
 * Failure: `append` rejects as a whole (nothing was accepted) when the store is away; `LogUnavailable` says so.
 */
import type { Envelope } from '@tocsin/protocol/envelope';
import type { Sql } from './database.ts';

/** What kind of record it is; the worker dispatches on it. `frame`: a host's frame of MQTT, unsigned. */
export type LogKind = 'envelope' | 'original' | 'frame' | 'finding' | 'tick';

/**
 * A device and its zone in the short form that readings carry; zone fields are null for a device without one. `place`
 * (degrees) is where the device was when the envelope was accepted; absent when the registry knows no place, and in
 * records of versions that wrote none. `exercise` is true of a simulated device, else absent.
 */
export interface DeviceContext {
  readonly device: number;
  readonly zone: number | null;
  readonly zoneId: string | null;
  readonly place?: { readonly latitude: number; readonly longitude: number };
  readonly exercise?: true;
}

/** An envelope to append, with the identity that makes it unique among the envelopes, or the frames, of its device. */
export interface EnvelopeAppend {
  readonly deviceId: string;
  readonly envelopeId: string;
  /** SHA-256 over profile and readings (32 bytes): tells a replay from a conflict. Empty for frames: their id tells it. */
  readonly digest: Buffer;
  readonly partition: number;
  readonly kind: LogKind;
  /** Unix ms at which the transport had received it. */
  readonly receivedAt: number;
  /** W3C traceparent, or null. */
  readonly traceparent: string | null;
  /** What was known of the device when the envelope was accepted. */
  readonly context: DeviceContext;
  /** The bytes that the worker needs, as text (the compact JWS as it arrived, or JSON). No NUL characters. */
  readonly body: string;
  /** What `body` says, for a worker in the same process. */
  readonly envelope?: Envelope;
}

/** What became of an appended envelope. */
export type AppendOutcome = 'accepted' | 'replay' | 'id-conflict';

/** One record as a worker reads it. */
export interface LogRecord {
  readonly partition: number;
  readonly offset: number;
  readonly kind: LogKind;
  readonly receivedAt: number;
  /** The key whose detectors it concerns: device id, `zone:<id>` … */
  readonly key: string;
  readonly traceparent: string | null;
  /** Of envelopes; null for findings and ticks. */
  readonly context: DeviceContext | null;
  readonly body: string;
  /** What `body` says, when it is known already. */
  readonly envelope?: Envelope;
  /**
   * Of a record that this process remembers and has not read back: the life of the store that committed it. Its work may
   * only be committed in the same one.
   */
  readonly epoch?: string;
}

/** A record to append without an id of its own (findings, ticks). */
export type KeyedAppend = Omit<LogRecord, 'offset' | 'context' | 'envelope' | 'epoch'>;

/** Where a partition stands. */
export interface PartitionState {
  readonly partition: number;
  /** Offset of the newest record, 0 when there is none. */
  readonly head: number;
  /** Offset up to which a worker has committed its work. */
  readonly position: number;
}

/** A right to work on a partition. It ends when `leaseUntil` passes or another owner raises the fence. */
export interface Lease {
  readonly partition: number;
  readonly fence: number;
  readonly position: number;
}

/** What an owner asks for. */
export interface Wanted {
  readonly among: readonly number[];
  readonly most: number;
  /** Of the leases, ms by the store's clock. */
  readonly ttlMs: number;
  readonly seize: boolean;
}

/** What a worker's transaction adds to the log and how it says that a batch is done. */
export interface BatchCommit {
  readonly lease: Lease;
  /** Offset of the last record of the batch. */
  readonly position: number;
  /** Of the batch's records; absent when they were read from the store. */
  readonly epoch?: string;
}

/** Where a reader stands in a partition: it has everything up to `position`. */
export interface ReadFrom {
  readonly partition: number;
  readonly position: number;
}

/** The log's port. */
export interface Log {
  /** How many partitions there are. */
  readonly partitions: number;
  /** Appends envelopes (at most a few hundred) in one transaction, in the order given; outcomes in that order, too. */
  append(envelopes: readonly EnvelopeAppend[]): Promise<AppendOutcome[]>;
  /** Appends findings and ticks in the caller's transaction; takes the heads' locks, so call it late. */
  appendKeyed(sql: Sql, records: readonly KeyedAppend[]): Promise<void>;
  /**
   * Records of partitions after a position in each, by partition and offset; of each partition at most `limit` records
   * and, past the first, `maxBytes` of bodies. Those that this process appended may come from its memory, then with an
   * `epoch`; such an answer ends before the first record of the partition that others appended: ask again.
   */
  read(from: readonly ReadFrom[], limit: number, maxBytes: number): Promise<LogRecord[]>;
  /** Head and position of every partition. */
  state(): Promise<PartitionState[]>;
  /**
   * Unix ms before which every accepted record has been worked off (arrival times), less a margin for commits in flight:
   * a minute, by which every one of them has ended, or `marginMs`.
   */
  completeUntil(marginMs?: number): Promise<number>;
  /**
   * Takes up to `most` partitions `among` those given, and raises their fence: those whose lease is free, has expired or
   * is in the owner's name already; with `seize` whoever has them (only for a process that owns the whole store).
   */
  acquire(owner: string, wanted: Wanted): Promise<Lease[]>;
  /**
   * Extends those leases of `partitions` that `owner` still holds; answers which, with the fence that the store has: one
   * that differs from the owner's was raised in its name behind its back (an `acquire` that was thought lost), and must be
   * taken anew. Leases in its name that it does not know of (an `acquire` or `release` whose answer was lost) run out.
   */
  renew(owner: string, ttlMs: number, partitions: readonly number[]): Promise<Pick<Lease, 'partition' | 'fence'>[]>;
  /** Gives up leases of `owner`: all, or those of `partitions`. */
  release(owner: string, partitions?: readonly number[]): Promise<void>;
  /**
   * Moves positions in the caller's transaction; answers the partitions that moved. One that is missing is someone
   * else's, or its batch was done already: the caller must roll back.
   */
  advance(sql: Sql, batches: readonly BatchCommit[]): Promise<number[]>;
  /** Deletes records that their worker has left behind. Answers how many. */
  trim(): Promise<number>;
  /** Forgets envelope ids seen before `before`, at most a bounded number. Answers how many. */
  forget(before: number): Promise<number>;
  /**
   * Forgets ids of frames, none of the last hour before `now` (Unix ms). To be called every few minutes; answers whether it
   * forgot any.
   */
  forgetFrames(now: number): Promise<boolean>;
}
