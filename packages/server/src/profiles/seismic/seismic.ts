/** Earthquake sensors: triggers computed on the sensor, and waveform packets. */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { Reading, TriggerReading, WaveformReading } from '@tocsin/protocol/envelope';
import { LIMITS } from '@tocsin/protocol/limits';

import { checkObject, isObject, numbers, numberWithin, required, time, type Fields } from '../fields.ts';
import type { Measured, Notice, Origin, Profile, Watcher } from '../profile.ts';
import type { Trigger } from './trigger.ts';

/** What the profile needs to know of the installation. */
export interface SeismicOptions {
  /** Width of the swarm's window, ms. */
  readonly windowMs: number;
  /** Readings older than this at their arrival raise no live alert, ms. */
  readonly liveMs: number;
  /** What watches waveforms; absent: nothing. */
  readonly watchers?: readonly Watcher<unknown>[];
}

const TRIGGER: Fields = { at: required(time), value: required(numberWithin(-Infinity, Infinity)) };

/** Highest sampling rate of strong-motion stations with room to spare, Hz. */
const MOST_HZ = 2000;
const axis = numbers(1, LIMITS.samplesPerPacket.value);
const WAVEFORM: Fields = {
  at: required(time),
  rate: required((value) => {
    const broken = numberWithin(0, MOST_HZ)(value);
    return broken === null && value !== 0 ? null : `must be Hz, above 0 and at most ${MOST_HZ}`;
  }),
  x: required(axis),
  y: required(axis),
  z: required(axis),
};
const AXES = ['x', 'y', 'z'] as const;

function isWaveform(reading: Reading): reading is WaveformReading {
  return 'rate' in reading;
}

function parse(raw: unknown, _signedAt: number, pointer: string, errors: ErrorDetail[]): Reading | null {
  if (isObject(raw) && ('rate' in raw || AXES.some((name) => name in raw))) return parseWaveform(raw, pointer, errors);
  return checkObject(raw, TRIGGER, pointer, errors) ? { at: raw['at'] as number, value: raw['value'] as number } : null;
}

function parseWaveform(raw: unknown, pointer: string, errors: ErrorDetail[]): WaveformReading | null {
  if (!checkObject(raw, WAVEFORM, pointer, errors)) return null;
  const { at, rate, x, y, z } = raw as unknown as WaveformReading;
  if (x.length !== y.length || x.length !== z.length) {
    errors.push({ pointer, detail: 'x, y and z must be equally long' });
    return null;
  }
  return { at, rate, x, y, z };
}

/** Peak of a packet: the largest magnitude of a sample on any axis, m/s². */
function peak(packet: WaveformReading): number {
  let most = 0;
  for (const name of AXES) for (const sample of packet[name]) most = Math.max(most, Math.abs(sample));
  return most;
}

function measure(reading: Reading): Measured {
  return { value: isWaveform(reading) ? peak(reading) : (reading as TriggerReading).value, fields: null };
}

/**
 * The triggers of an envelope that its zone's swarm must hear of. Of a device only those count that a window could
 * tell apart: one between two others that lie at most a window apart is in no window without one of them, so only its
 * amplitude is kept. What is left depends on the envelope alone.
 */
function notice(options: SeismicOptions, origin: Origin, readings: readonly Reading[]): Notice[] {
  if (origin.zoneId === null) return [];
  const live = readings.filter(
    (reading): reading is TriggerReading => !isWaveform(reading) && origin.now - reading.at <= options.liveMs,
  );
  if (live.length > 1) live.sort((a, b) => a.at - b.at);
  const kept: { at: number; value: number }[] = [];
  for (const { at, value } of live) {
    const before = kept.at(-2);
    const last = kept.at(-1);
    if (before !== undefined && last !== undefined && at - before.at <= options.windowMs) {
      before.value = Math.max(before.value, last.value);
      kept.pop();
    }
    kept.push({ at, value: Math.abs(value) });
  }
  const key = `zone:${origin.zoneId}`;
  return kept.map(({ at, value }) => {
    const trigger: Trigger = { at, amplitude: value, deviceId: origin.deviceId, envelopeId: origin.envelopeId };
    return { key, item: trigger };
  });
}

/** The seismic profile. */
export function seismicProfile(options: SeismicOptions): Profile {
  const { watchers = [] } = options;
  return { name: 'seismic', parse, measure, notice: (origin, readings) => notice(options, origin, readings), watchers };
}
