/** Readings as workers write them. Times are Unix ms. */
import type { Transaction } from './database.ts';
import type { BatchCommit, KeyedAppend } from './log.ts';

/** One reading: who, where, when, its main number and, when there are more, all of its numbers. */
export interface ReadingRow {
  readonly receivedAt: number;
  readonly at: number;
  readonly device: number;
  readonly zone: number | null;
  readonly value: number | null;
  readonly envelopeId: string;
  readonly fields: Readonly<Record<string, number | null>> | null;
}

/** A detector's state of one key. `state` is JSON, or null to forget it. */
export interface StateRow {
  readonly partition: number;
  readonly detector: string;
  readonly key: string;
  readonly state: string | null;
}

/** A record that a worker could not work off; kept for people to look at. */
export interface FailedRecord {
  readonly partition: number;
  readonly offset: number;
  readonly kind: string;
  readonly key: string;
  readonly body: string;
  readonly reason: string;
}

/** All that a cycle of a worker writes when it raises no alert. */
export interface PlainWork {
  readonly batches: readonly BatchCommit[];
  readonly rows: readonly ReadingRow[];
  readonly states: readonly StateRow[];
  readonly appended: readonly KeyedAppend[];
  readonly now: number;
}

/** What a worker's transaction writes. */
export interface WorkStore {
  /** Adds readings by COPY. Not idempotent by itself: the batch's position guards it. */
  insertReadings(sql: Transaction, rows: readonly ReadingRow[]): Promise<void>;
  /** All states of a partition. */
  loadStates(partition: number): Promise<StateRow[]>;
  saveStates(sql: Transaction, states: readonly StateRow[], now: number): Promise<void>;
  /**
   * The whole cycle in one statement, for cycles of few rows: one round trip in place of six. False: some partition is
   * someone else's or its batch was done already, and nothing was written.
   */
  commitPlain(work: PlainWork): Promise<boolean>;
  /**
   * After a failed write: makes the days of `rows` when `error` says that one had no place (the clock was set, or the
   * machine slept for longer than days are made ahead). The write may then be tried again.
   */
  mend(error: unknown, rows: readonly ReadingRow[]): Promise<void>;
  keepFailed(sql: Transaction, records: readonly FailedRecord[], now: number): Promise<void>;
}
