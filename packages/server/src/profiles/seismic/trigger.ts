/** A trigger of a sensor as its zone hears of it. Types only. */

/** `amplitude` is the magnitude of the trigger's value, in the sensor's unit; `at` is the sensor's time, Unix ms. */
export interface Trigger {
  readonly at: number;
  readonly amplitude: number;
  readonly deviceId: string;
  readonly envelopeId: string;
  /** A second arrival within the shaking, nearly always an S wave: it counts, but begins no event within a cool-down. */
  readonly again?: true;
}
