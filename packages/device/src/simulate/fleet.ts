/**
 * A fleet and what it is to do, as plain data: it travels to other processes as it is. Times in ms, places in degrees.
 */
import type { EarthquakePlan } from './earthquake.ts';
import type { HotPlan } from './readings.ts';

/** A simulated device. The server knows it by the public half of its key. */
export interface FleetDevice {
  readonly id: string;
  readonly profile: 'seismic' | 'host';
  /** PKCS #8, PEM. */
  readonly privateKeyPem: string;
  readonly latitude: number;
  readonly longitude: number;
  /** Sends waveform packets all the time, in place of triggers. */
  readonly waveform?: boolean;
}

/** Kinds of attack. */
export const ATTACKS = ['replay', 'forged', 'stale', 'malformed'] as const;
/** One of {@link ATTACKS}. */
export type Attack = (typeof ATTACKS)[number];

/** What a fleet is to do. */
export interface FleetOptions {
  /** `http://host:port`, the server's. */
  readonly origin: string;
  readonly apiKey: string;
  readonly devices: readonly FleetDevice[];
  /** Tells runs apart: every envelope id begins with it. At most 24 characters of an identifier. */
  readonly run: string;
  /** The same seed, fleet and rate: the same schedule, the same earthquakes. */
  readonly seed: string;
  /** Envelopes a second of devices without waveforms, attacks included. Waveforms and earthquakes come on top. */
  readonly ratePerSecond: number;
  readonly arrival: 'poisson' | 'regular';
  /** How long; null: until it is stopped. */
  readonly seconds: number | null;
  /** Readings of an envelope. */
  readonly readings: number;
  readonly attacks: readonly Attack[];
  /** Share of the envelopes that are attacks, 0 to 1. */
  readonly attackShare: number;
  readonly earthquakes: EarthquakePlan | null;
  readonly hot: HotPlan | null;
  readonly connections: number;
  /** The wait for an answer. */
  readonly timeoutMs: number;
  /** Requests under way or waiting for a connection; what is due beyond that is counted as unsent. */
  readonly mostOutstanding: number;
}

/** Options that few want to change. */
export const FLEET_DEFAULTS: Omit<FleetOptions, 'origin' | 'apiKey' | 'devices' | 'run' | 'seed'> = {
  ratePerSecond: 100,
  arrival: 'poisson',
  seconds: 30,
  readings: 1,
  attacks: [],
  attackShare: 0,
  earthquakes: null,
  hot: null,
  connections: 256,
  timeoutMs: 10_000,
  mostOutstanding: 50_000,
};
