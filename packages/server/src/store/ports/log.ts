/**
 * The log: the durable, partitioned sequence of accepted envelopes, ticks and findings that workers read.
 *
 * Guarantees: `append` resolves only once its records are committed, ids and records in one step. Offsets of a
 * partition start at 1, grow by 1 in the order of commits, without gaps: whoever has read up to n has read all up to n.
 * Failure: `append` rejects as a whole (nothing was accepted) when the store is away; `LogUnavailable` says so.
 */

/** What kind of record it is; the worker dispatches on it. */
export type LogKind = 'envelope' | 'original' | 'frame' | 'finding' | 'tick';

/** An envelope to append, with the identity that makes it unique. */
export interface EnvelopeAppend {
  readonly deviceId: string;
  readonly envelopeId: string;
  /** SHA-256 over profile and readings: tells a replay from a conflict. 32 bytes. */
  readonly digest: Buffer;
  readonly partition: number;
  readonly kind: LogKind;
  /** Unix ms at which the transport had received it. */
  readonly receivedAt: number;
  /** W3C traceparent, or null. */
  readonly traceparent: string | null;
  /** The bytes that the worker needs, as text (the compact JWS as it arrived, or JSON). No NUL characters. */
  readonly body: string;
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
  readonly body: string;
}

/** A record to append without an id of its own (findings, ticks). */
export type KeyedAppend = Omit<LogRecord, 'offset'>;

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

/** The log's port. */
export interface Log {
  /** Appends envelopes (at most a few hundred) in one transaction; outcomes in the order given. */
  append(envelopes: readonly EnvelopeAppend[]): Promise<AppendOutcome[]>;
  /** Records of a partition after `after`, oldest first, at most `limit` records and about `maxBytes` of bodies. */
  read(partition: number, after: number, limit: number, maxBytes: number): Promise<LogRecord[]>;
  /** Head and position of every partition. */
  state(): Promise<PartitionState[]>;
  /** Takes partitions whose lease is free or expired, at most `most`; raises their fence. `ttlMs` from the store's clock. */
  acquire(owner: string, most: number, ttlMs: number): Promise<Lease[]>;
  /** Extends the leases that `owner` still holds; answers the partitions that it still holds. */
  renew(owner: string, ttlMs: number): Promise<number[]>;
  /** Gives up all leases of `owner`. */
  release(owner: string): Promise<void>;
  /** Deletes records that every worker has left behind. Answers how many. */
  trim(): Promise<number>;
}
