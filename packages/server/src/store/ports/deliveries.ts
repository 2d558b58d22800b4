/**
 * What became of the messages of a channel, as each process counted it.
 *
 * Guarantees: a row belongs to one message and one instance and holds absolute numbers, so writing it again, or again
 * after an unknown outcome, changes nothing. Rows live as long as their message does. Times are Unix ms.
 */
import type { Sketch } from '../../lib/sketch.ts';

/** One instance's count of one message. Sketches hold whole ms since the message's `createdAt`. */
export interface DeliveryRow {
  readonly offset: number;
  /** Viewers that were connected and let it through when it came. */
  readonly connected: number;
  /** Those of them that it was handed to. */
  readonly sent: number;
  /** Connections opened later, to which it was handed because they resumed. */
  readonly resent: number;
  /** Connections of both kinds whose receipt covers it. */
  readonly received: number;
  readonly firstSentAt: number | null;
  readonly lastSentAt: number | null;
  readonly firstReceivedAt: number | null;
  readonly lastReceivedAt: number | null;
  readonly send: Sketch;
  readonly receive: Sketch;
}

/** Where one revision of an alert is in its channel. */
export interface RevisionPlace {
  readonly revision: number;
  readonly offset: number;
  /** `createdAt` of the message: `updatedAt` of that revision. */
  readonly at: number;
}

/** The revisions of an alert; `first` null when its place is not known (alerts of before they were kept). */
export interface AlertPlaces {
  readonly first: RevisionPlace | null;
  /** The newest ones, newest first, at most as many as were asked for. */
  readonly newest: readonly RevisionPlace[];
  /** The oldest offset whose message, and so its count, is kept; null when none is. */
  readonly oldestKept: number | null;
}

/** The counts. */
export interface DeliveryStore {
  /** Writes these rows of an instance in the place of those that it wrote before. */
  save(channel: string, instance: string, rows: readonly DeliveryRow[]): Promise<void>;
  /** Rows of every instance. */
  read(channel: string, offsets: readonly number[]): Promise<DeliveryRow[]>;
  /** Null when there is no such alert. */
  places(channel: string, alertId: string, most: number): Promise<AlertPlaces | null>;
  /** Deletes a bounded number of rows whose message is gone; answers how many. */
  trim(channel: string): Promise<number>;
}
