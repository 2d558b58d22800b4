/**
 * What a kind of device means: the schema of its readings, the numbers that statistics keep of them, and what its
 * readings say to detectors of other keys. Pure: no clock, no I/O.
 */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { ProfileName, Reading } from '@tocsin/protocol/envelope';

/** The numbers of a reading that the store keeps: the main field, and all fields when there are more. */
export interface Measured {
  readonly value: number | null;
  readonly fields: Readonly<Record<string, number | null>> | null;
}

/** The device, its zone and the envelope that readings came in. `now` is the arrival of the envelope, Unix ms. */
export interface Origin {
  readonly deviceId: string;
  readonly zoneId: string | null;
  readonly envelopeId: string;
  readonly now: number;
  /**
   * True for frames, whose own times follow no rule (a host's clock may be anything): they count as of their arrival, and
   * are never too old. False for signed envelopes, whose readings' times were checked.
   */
  readonly byArrival: boolean;
  /** Where the device is, degrees; null when nobody has said so. */
  readonly place: { readonly latitude: number; readonly longitude: number } | null;
  /** True of a simulated device; only for watchers that tell at ticks, see {@link TimedNotice}. */
  readonly exercise?: true;
}

/** Something noticed that the detectors of another key must hear of. */
export interface Notice {
  readonly key: string;
  readonly item: unknown;
}

/** A notice that no reading made, but time: the watcher's state must know whether its device is a simulated one. */
export interface TimedNotice extends Notice {
  readonly exercise?: true;
}

/**
 * A detector of one device, keyed by it, in the device's own partition: pure, one reading after the other in the order of
 * the log. It tells detectors of other keys what it noticed and finds nothing by itself. States are plain JSON.
 */
export interface Watcher<State> {
  /** Its name in the store, among those of all detectors; never reused for another kind of state. */
  readonly name: string;
  /** The same state again (the same object) says that nothing changed. */
  readonly step: (state: State | null, origin: Origin, reading: Reading) => WatcherStep<State>;
  /**
   * Time has passed: a state of null is forgotten. `now`: everything that arrived before has been worked off.
   * `listeningSince`: from then on, without a break, there was a worker that saw time pass.
   */
  readonly tick: (state: State, deviceId: string, now: number, listeningSince: number) => WatcherTick<State>;
}

/** What a tick leaves behind. */
export interface WatcherTick<State> {
  readonly state: State | null;
  readonly findings: readonly [];
  readonly notices?: readonly TimedNotice[];
}

/** What a reading leaves behind. */
export interface WatcherStep<State> {
  readonly state: State | null;
  readonly notices: readonly Notice[];
}

/** One kind of device. */
export interface Profile {
  readonly name: ProfileName;
  /**
   * Checks one raw reading. Answers it with its keys in a fixed order (so that equal readings serialise equally), or
   * null after adding to `errors` what is wrong below `pointer`. `signedAt` is the envelope's `at`.
   */
  readonly parse: (raw: unknown, signedAt: number, pointer: string, errors: ErrorDetail[]) => Reading | null;
  readonly measure: (reading: Reading) => Measured;
  /** What an envelope's readings say to other keys. */
  readonly notice: (origin: Origin, readings: readonly Reading[]) => Notice[];
  /** What watches each of its devices. */
  readonly watchers: readonly Watcher<unknown>[];
}
