/** What a station's picker remembers and what it tells. Plain JSON: saved and read again it goes on exactly. */

/** A packet of one sensor: acceleration in m/s² on one to three axes of equal length, `at` the time of the first sample, Unix ms. */
export interface Packet {
  readonly at: number;
  readonly rate: number;
  readonly axes: readonly (readonly number[])[];
}

/** A trigger that has not ended. Times by the device's clock. */
export interface OpenTrigger {
  readonly onset: number;
  /** Onset by the server's clock, Unix ms: with the correction that was known when it began. */
  readonly at: number;
  /** A new arrival within the shaking of an earlier one. */
  readonly again: boolean;
  samples: number;
  /** Sums of energies and of their squares, in units of the noise. */
  sum: number;
  sumOfSquares: number;
  peak: number;
  level: number;
  confirmed: boolean;
  clipped: boolean;
  told: number;
  toldPeak: number;
  toldLasting: boolean;
}

/** The clock of a device against ours: the least delay of late, corrected by no more than its slow rise. */
export interface ClockState {
  readonly least: number;
  /** Arrival of the newest packet, Unix ms. */
  readonly heardAt: number;
  /** Since when `least` has been steady, Unix ms. */
  readonly steadySince: number;
}

/** Packets that lie before what was heard already: dropped, unless enough of them agree that the clock was set back. */
export interface Behind {
  readonly next: number;
  readonly packets: number;
  readonly heardAt: number;
}

/** State of a station. Arrays by axis, `delays` by axis, section and delay. */
export interface StationState {
  readonly rate: number;
  readonly base: readonly number[];
  readonly last: readonly number[];
  readonly constant: readonly number[];
  readonly delays: readonly number[];
  readonly short: readonly number[];
  readonly long: readonly number[];
  /** Short-term and middle average of the ratio of all axes together. */
  readonly middle: number;
  /** Samples since the noise level, and since the filter began. */
  readonly learnt: number;
  readonly settled: number;
  /** Samples since the ratio was last below the end of a trigger. */
  readonly raised: number;
  readonly next: number;
  readonly trigger: OpenTrigger | null;
  readonly clock: ClockState;
  readonly behind: Behind | null;
  /** When it last said that it is alive, Unix ms. */
  readonly aliveAt: number;
}

/** A pick, told at its onset and again while it grows; `at` (Unix ms, our clock) names it. */
export interface Pick {
  readonly kind: 'pick';
  readonly at: number;
  readonly again: boolean;
  /** Peak of the filtered acceleration so far, all axes together, m/s². */
  readonly amplitude: number;
  /** Highest ratio of energies so far. */
  readonly level: number;
  /** How long it has lasted, ms. */
  readonly lasted: number;
  readonly clipped: boolean;
}

/** A sign of life: what its noise is, m/s² rms over all axes. */
export interface Alive {
  readonly kind: 'alive';
  readonly at: number;
  readonly noise: number;
}

/** What a station tells its network. */
export type Told = Pick | Alive;

/** Why a packet was not used, if it was not. */
export type PacketVerdict = 'used' | 'behind' | 'unusable-rate' | 'no-acceleration' | 'no-samples';

/** A state that is being worked on; arrays are its own. */
export interface Work {
  rate: number;
  base: number[];
  last: number[];
  constant: number[];
  delays: number[];
  short: number[];
  long: number[];
  middle: number;
  learnt: number;
  settled: number;
  raised: number;
  next: number;
  trigger: OpenTrigger | null;
  clock: StationState['clock'] | null;
  aliveAt: number;
  skip: number;
}
