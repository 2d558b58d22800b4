/**
 * Alerts as the store keeps them: one row for each, its newest revision. Times are Unix ms.
 *
 * Functions that take `sql` first take part in the caller's transaction. Order of locks there: alerts by fingerprint,
 * then the head of the channel.
 */
import type { Alert, AlertKind, AlertState, Severity } from '@tocsin/protocol/alert';
import type { ChannelMessage } from './channels.ts';
import type { Sql } from './database.ts';

/** An alert that has no place in its channel yet. */
export type AlertDraft = Omit<Alert, 'offset' | 'signature'>;

/** An alert with the times of its newest revisions, oldest first; the last one is `updatedAt`. */
export interface AlertRecord {
  readonly alert: Alert;
  readonly revisedAt: readonly number[];
}

/** What a list is about; null: any. `since` is inclusive, `until` exclusive, both of `sentAt`. */
export interface AlertFilter {
  readonly zoneId: string | null;
  readonly deviceId: string | null;
  readonly kind: AlertKind | null;
  readonly severity: Severity | null;
  readonly state: AlertState | null;
  readonly since: number | null;
  readonly until: number | null;
}

/** A revision with its message; `message.body` is the alert as it is sent. */
export interface EnteredRevision {
  readonly alert: Alert;
  readonly message: ChannelMessage;
}

/** How many times and offsets of revisions a row keeps. */
export const REVISIONS_KEPT = 100;

/** The alerts. */
export interface AlertStore {
  /**
   * Adds those whose fingerprint is new, without offset and signature; answers their fingerprints. Waits for another
   * transaction that is adding the same one.
   */
  insertNew(sql: Sql, drafts: readonly AlertDraft[]): Promise<string[]>;
  /** Alerts of these fingerprints, locked until the transaction ends. */
  lockByFingerprint(sql: Sql, fingerprints: readonly string[]): Promise<Alert[]>;
  /** The alert, locked until the transaction ends; null when there is none. */
  lockById(sql: Sql, id: string): Promise<Alert | null>;
  /**
   * Puts these revisions in the place of what the rows hold, and adds their messages to the channel, at offsets that were taken
   * in the same transaction: one statement, since every other writer of the channel waits for it.
   */
  enter(sql: Sql, revisions: readonly EnteredRevision[]): Promise<void>;
  get(id: string): Promise<AlertRecord | null>;
  /** Newest first, those with an id below `before` (null: from the newest). */
  list(filter: AlertFilter, before: string | null, limit: number): Promise<Alert[]>;
}
