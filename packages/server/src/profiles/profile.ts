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
}

/** Something noticed that the detectors of another key must hear of. */
export interface Notice {
  readonly key: string;
  readonly item: unknown;
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
}
