/** What a worker is made of. Types only. */
import type { AlertFinding } from '@tocsin/protocol/finding';
import type { Database, Transaction } from '../store/ports/database.ts';
import type { Log } from '../store/ports/log.ts';
import type { WorkStore } from '../store/ports/readings.ts';
import type { Meaning, Outcome } from './batch.ts';
import type { Standing } from './ownership.ts';

/** What a worker needs. `Message` is what raising an alert leaves to publish. */
export interface WorkerOptions<Message> {
  readonly owner: string;
  readonly db: Database;
  readonly log: Log;
  readonly store: WorkStore;
  readonly meaning: Meaning;
  /** Makes a finding whole: names, place, fingerprint. Null: it is not to be told. */
  readonly complete: (finding: Outcome['findings'][number]) => Promise<AlertFinding | null>;
  /** Turns findings into alerts inside the transaction; answers the messages to publish after it. */
  readonly raise: (sql: Transaction, findings: readonly AlertFinding[], now: number) => Promise<readonly Message[]>;
  readonly publish: (messages: readonly Message[]) => void;
  /** Findings were committed to partitions that another worker has; absent where there is none. */
  readonly grown?: (partitions: readonly number[]) => void;
  readonly now: () => number;
  /** This worker among those that live; as of a moment ago. */
  readonly standing: () => Standing;
  /** True when this process owns the whole store, so that leases of a process that died need not run out. */
  readonly seize: boolean;
  /** Time between ticks; 10,000 ms when absent. */
  readonly tickMs?: number;
  readonly events: WorkerEvents;
}

/** What a worker tells logs and metrics. */
export interface WorkerEvents {
  /** Something failed and will be tried again. */
  retry(error: unknown): void;
  /** Records were set aside. */
  failed(records: Outcome['failed']): void;
  lost(partition: number): void;
}
