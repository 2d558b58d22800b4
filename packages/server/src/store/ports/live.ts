/** What the live board reads of the store. */

/** The newest reading of a host. Times are Unix ms. */
export interface LiveReading {
  readonly deviceId: string;
  readonly receivedAt: number;
  readonly at: number;
  /** Its numbers by name, as they were stored. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Reads the last word of each host. */
export interface LiveReadings {
  /** Of hosts that were heard after `since` (Unix ms) the newest reading each, the newest hosts first, at most `most`. */
  newest(since: number, most: number): Promise<LiveReading[]>;
}
