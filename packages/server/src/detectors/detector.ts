/**
 * The one shape of a detector: a pure function of its state, its input and the time of the log record. The same log
 * gives the same findings, whoever replays it, in whatever batches.
 */
import type { AlertFinding } from '@tocsin/protocol/finding';

/**
 * A finding as a detector makes it. `{zone}` in its texts stands for the zone's name; the fingerprint follows from kind,
 * key and onset. `subject`: the key that it is about, where that is another than the detector's.
 */
export interface Finding extends Omit<AlertFinding, 'fingerprint'> {
  readonly subject?: string;
}

/** What a step leaves behind. A state of null needs no row in the store. */
export interface Step<State> {
  readonly state: State | null;
  readonly findings: readonly Finding[];
}

/** A detector of one key (a zone, a device, the network). States are plain JSON. */
export interface Detector<State, Input> {
  /** Its name in the store; never reused for another kind of state. */
  readonly name: string;
  /** One input; `now` is the arrival of the record that holds it, Unix ms. */
  readonly step: (state: State | null, key: string, input: Input, now: number) => Step<State>;
  /** Time has passed. */
  readonly tick: (state: State, key: string, now: number) => Step<State>;
}
