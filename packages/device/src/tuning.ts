/** The numbers of a device that an app may set: one table with default, range and prose, shown in `docs/device-sdk.md`. */
import { DeviceError } from './device-error.ts';

/** One number. */
export interface TuningRow {
  readonly value: number;
  readonly least: number;
  readonly most: number;
  readonly prose: string;
}

/** A name of {@link TUNING}. */
export type TuningName =
  | 'inFlight'
  | 'outboxBytes'
  | 'outboxEnvelopes'
  | 'requestMs'
  | 'backOffFirstMs'
  | 'backOffMostMs'
  | 'refusedFirstMs'
  | 'refusedMostMs';

/** The numbers by name. */
export const TUNING: Readonly<Record<TuningName, TuningRow>> = {
  inFlight: { value: 4, least: 1, most: 64, prose: 'envelopes that are on their way to the server at once' },
  outboxBytes: { value: 67_108_864, least: 1_048_576, most: 8_589_934_592, prose: 'bytes that wait at most' },
  outboxEnvelopes: { value: 50_000, least: 1, most: 1_000_000, prose: 'envelopes that wait at most' },
  requestMs: { value: 15_000, least: 100, most: 120_000, prose: 'the longest that the server may take to answer, ms' },
  backOffFirstMs: { value: 1000, least: 10, most: 60_000, prose: 'back-off after the first failure, ms; it doubles' },
  backOffMostMs: { value: 300_000, least: 10, most: 3_600_000, prose: 'longest back-off, ms' },
  refusedFirstMs: { value: 60_000, least: 10, most: 3_600_000, prose: 'wait after the first refusal, ms; it doubles' },
  refusedMostMs: { value: 900_000, least: 10, most: 86_400_000, prose: 'longest wait after a refusal, ms' },
};

/** A value for each number. */
export type Tuning = Readonly<Record<TuningName, number>>;

/** The numbers as given, else their defaults. Throws `option-invalid`. */
export function readTuning(given: Partial<Tuning>): Tuning {
  const rows = Object.entries(TUNING).map(([name, { value, least, most }]) => {
    const chosen = given[name as TuningName] ?? value;
    if (!Number.isSafeInteger(chosen) || chosen < least || chosen > most) {
      throw new DeviceError('option-invalid', `${name} must be a whole number of ${least} to ${most}`);
    }
    return [name, chosen];
  });
  return Object.fromEntries(rows) as Tuning;
}
