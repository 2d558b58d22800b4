/** What a detector noticed and what the ledger turns into an alert. Types only. */
import type { AlertKind, AlertStatus, Severity } from './alert.ts';

/**
 * A finding worth telling. The same `fingerprint` again: the same alert; it gets a new revision when `evidence` or
 * `severity` differ from what is stored (severity never sinks), else nothing happens.
 */
export interface AlertFinding {
  readonly kind: AlertKind;
  readonly severity: Severity;
  readonly status: AlertStatus;
  readonly headline: string;
  readonly description: string;
  readonly zoneId: string | null;
  readonly deviceId: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  /** Unix ms, from the readings' own times. */
  readonly onset: number;
  /** Made by `fingerprint()` of kind, key and onset; unique in the store. */
  readonly fingerprint: string;
  readonly evidence: Readonly<Record<string, unknown>>;
}
