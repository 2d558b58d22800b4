/**
 * What a device sends: an envelope of readings. The shapes after validation; `server/src/profiles` holds the rules.
 * Times are Unix milliseconds.
 */

/** The kinds of device. */
export const PROFILES = ['seismic', 'host', 'mobile'] as const;

/** A kind of device. */
export type ProfileName = (typeof PROFILES)[number];

/** True when `value` names a profile. */
export function isProfileName(value: unknown): value is ProfileName {
  return typeof value === 'string' && (PROFILES as readonly string[]).includes(value);
}

/** A trigger computed on a seismic sensor. */
export interface TriggerReading {
  readonly at: number;
  readonly value: number;
}

/** A waveform packet: acceleration in m/s², `rate` in Hz, `at` = time of the first sample. */
export interface WaveformReading {
  readonly at: number;
  readonly rate: number;
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly z: readonly number[];
}

/** A frame of host metrics; percentages 0..100. */
export interface HostReading {
  readonly at: number;
  readonly cpu_percent: number;
  readonly mem_percent: number;
  readonly disk_percent: number;
  readonly gpu_percent: number | null;
  readonly agent_cpu_percent: number | null;
  readonly agent_mem_mb: number | null;
}

/** A heartbeat of a mobile device. */
export interface MobileReading {
  readonly at: number;
  readonly accelerometer: readonly number[];
  readonly gyroscope: readonly number[];
  readonly overlay: number;
  readonly proximity: number;
  readonly touch_event: boolean;
  readonly motion_delta: number;
  readonly device_admin_enabled: boolean;
  readonly accessibility_enabled: boolean;
  readonly platform: 'android' | 'ios';
}

/** One validated measurement of any profile. */
export type Reading = TriggerReading | WaveformReading | HostReading | MobileReading;

/** One signed message of a device, after validation. */
export interface Envelope {
  readonly id: string;
  readonly at: number;
  readonly profile: ProfileName;
  readonly readings: readonly Reading[];
}
