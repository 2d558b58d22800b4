/**
 * Destinations of notifications: how far each has come in its channel, who delivers to it, and what it would not take.
 *
 * Guarantees: one owner at a time, by a lease of the store's clock and a fence that each taking raises; every write names
 * its fence (those that move the position also where it was) and changes nothing under an older one. What a message brought about
 * (told, dead letters) is written in the same transaction as the position. Times are Unix ms.
 */

/** What is told of an alert: its first message here, that it became worse, that it is over. */
export type NoticeEvent = 'raised' | 'updated' | 'resolved';

/** How a destination stands. */
export interface Destination {
  readonly destination: string;
  /** Everything up to here is decided. */
  readonly position: number;
  readonly fence: number;
  /** Failures in a row. */
  readonly attempts: number;
  /** When the next try is due; 0: at once. */
  readonly notBefore: number;
  /** When the last summary was due; null: none ever was. */
  readonly summaryAt: number | null;
}

/** How a destination stands, as people read it. */
export interface DestinationReport extends Destination {
  /** Messages of the channel that wait for it to be decided. */
  readonly lag: number;
  /** A worker holds it now. */
  readonly held: boolean;
  readonly heldAt: number;
  /** A short code, never a text of the other side. */
  readonly lastError: string | null;
  readonly lastErrorAt: number | null;
  readonly lastSentAt: number | null;
  /** Counts of messages since the destination is known. */
  readonly told: number;
  readonly dead: number;
  readonly lost: number;
  /** Dead letters that are no longer kept. */
  readonly lettersDropped: number;
  /** Dead letters that are kept. */
  readonly letters: number;
}

/** A message that became a dead letter. */
export interface NewDeadLetter {
  readonly offset: number;
  readonly alertId: string;
  readonly revision: number;
  readonly event: NoticeEvent;
  readonly reason: string;
}

/** A dead letter. */
export interface DeadLetter extends NewDeadLetter {
  readonly id: number;
  readonly destination: string;
  readonly diedAt: number;
  /** Since when somebody wants it tried again. */
  readonly requestedAt: number | null;
}

/** What was told of an alert: the rank of its severity. `over`: it is resolved, nothing of it will be told again. */
export interface Told {
  readonly alertId: string;
  readonly severity: number;
  readonly over: boolean;
}

/** A step of a destination from one position to a later one, with what that stretch brought about. */
export interface Step {
  readonly from: number;
  readonly to: number;
  /** Messages told. */
  readonly told: readonly Told[];
  readonly dead: readonly NewDeadLetter[];
  /** Messages that were no longer kept. */
  readonly lost: number;
  /** The other side answered: its retry is over. */
  readonly answered: boolean;
}

/** Who holds which destination, under which fence. */
export interface Hold {
  readonly destination: string;
  readonly fence: number;
}

/** A try that is put off. */
export interface Delay {
  readonly attempts: number;
  readonly notBefore: number;
  readonly error: string;
}

/** What became of a dead letter that was tried again. */
export type LetterEnd =
  | { readonly kind: 'told'; readonly told: Told }
  /** It stays one, and nobody wants it tried any more. */
  | { readonly kind: 'dead'; readonly reason: string };

/** Which dead letters an operator means: of one destination, or these ids, or all. */
export interface LetterChoice {
  readonly destination?: string | undefined;
  readonly ids?: readonly number[] | undefined;
}

/** Dead letters that a destination keeps at most; the oldest go. */
export const DEAD_LETTERS_KEPT = 10_000;
/** How long a destination that nobody delivers to is remembered, and what was told of an alert: 30 days. */
export const NOTIFICATIONS_KEPT_MS = 2_592_000_000;

/** The destinations. */
export interface NotificationStore {
  /** Makes a destination known, if it is new: it begins at the channel's head as of now. */
  enter(destination: string): Promise<void>;
  /**
   * Takes a destination for `ttlMs` when nobody holds it (or `seize`); null while another owner does. A new one begins at the
   * channel's head; when the channel's history began anew, at its beginning.
   */
  claim(destination: string, owner: string, ttlMs: number, seize: boolean): Promise<Destination | null>;
  /** Holds it for another `ttlMs`; false when the fence is old. */
  renew(hold: Hold, ttlMs: number): Promise<boolean>;
  /** Gives it up, so that another worker need not wait for the lease to end. */
  release(hold: Hold): Promise<void>;
  /** Moves the position, and ends the retry when there was an answer; false when the fence or `from` is old: nothing was written then. */
  advance(hold: Hold, step: Step, now: number): Promise<boolean>;
  /** Writes down that the next try has to wait; false when the fence is old. */
  delay(hold: Hold, delay: Delay, now: number): Promise<boolean>;
  /** Writes down that a summary was due; false when the fence is old. */
  summaryDue(hold: Hold, at: number): Promise<boolean>;
  /** The rank of the worst severity that was told of each of these alerts. */
  told(destination: string, alertIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Dead letters that an operator wants tried again, oldest first. */
  requested(destination: string, most: number): Promise<DeadLetter[]>;
  /** Writes down what became of one of them, and ends the retry; false when the fence is old. */
  settle(hold: Hold, id: number, end: LetterEnd, now: number): Promise<boolean>;
  /** Every destination, by name. */
  list(): Promise<DestinationReport[]>;
  /** The newest dead letters, newest first. */
  deadLetters(choice: LetterChoice, most: number): Promise<DeadLetter[]>;
  /** Marks dead letters to be tried again; answers how many are marked by this that were not before. */
  request(choice: LetterChoice, now: number): Promise<number>;
  /** Forgets what is older than {@link NOTIFICATIONS_KEPT_MS}, and dead letters whose message is gone; a bounded number. */
  trim(now: number): Promise<number>;
}
