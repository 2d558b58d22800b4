/** What a worker keeps of a partition that it owns. */
import { CodedError } from '../lib/coded-error.ts';
import type { Lease } from '../store/ports/log.ts';
import { workOff, type Meaning, type Outcome, type States } from './batch.ts';
import type { LogRecord } from '../store/ports/log.ts';

/** One owned partition. */
export interface Owned {
  lease: Lease;
  /** Null until loaded, and after a commit whose outcome nobody knows. */
  states: States | null;
  /** True when there may be records to work off. */
  due: boolean;
  /**
   * True when there may be records that this process did not append: what it remembers ends before them, so the store has
   * to be asked once more behind it.
   */
  beyond: boolean;
  /** Records of a batch at most: one while batches are taken apart to find the record that they fail for. */
  limit: number;
  /** Batches of one still to go before the limit is lifted again. */
  apart: number;
  failures: number;
}

/** Records of a batch at most. */
export const BATCH_RECORDS = 2000;
/** A batch that fails this often for its own sake is taken apart, and a record that does is set aside. */
const MOST_FAILURES = 3;

/** A partition that was just taken. */
export function newOwned(lease: Lease): Owned {
  return { lease, states: null, due: true, beyond: true, limit: BATCH_RECORDS, apart: 0, failures: 0 };
}

/** Notes that a batch was committed up to `position`. */
export function succeeded(own: Owned, position: number): void {
  own.lease = { ...own.lease, position };
  own.failures = 0;
  own.apart = Math.max(0, own.apart - 1);
  if (own.apart === 0) own.limit = BATCH_RECORDS;
}

/** True for what the records themselves may cause; everything else (store away, disk full, deadlock) is only waited for. */
export function isDataError(error: unknown): boolean {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError) return true;
  const state = (error as { code?: unknown } | null)?.code;
  return typeof state === 'string' && /^2[23][0-9A-Z]{3}$/.test(state);
}

/** True for a statement that the store ended because it took too long: the same again may never end. */
export function isTooSlow(error: unknown): boolean {
  return error instanceof CodedError && (error.cause as { code?: unknown } | undefined)?.code === '57014';
}

/** What a batch comes to; after repeated failures in smaller batches, at last with the record set aside. */
export function decide(meaning: Meaning, own: Owned, records: readonly LogRecord[]): Outcome {
  const states: States = own.states ?? new Map();
  if (own.failures < MOST_FAILURES) return workOff(meaning, states, records);
  own.failures = 0;
  const first = records[0];
  if (own.limit > 1 || first === undefined) {
    own.limit = 1;
    own.apart = records.length;
    return workOff(meaning, states, records.slice(0, 1));
  }
  const { partition, offset, kind, key, body } = first;
  const failed = [{ partition, offset, kind, key, body, reason: 'its batch failed again and again' }];
  return { last: offset, rows: [], notices: [], findings: [], states: new Map(), failed };
}
