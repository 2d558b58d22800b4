/**
 * Alerts about computers: the rules that watch their readings, and the detector that makes findings of what these tell
 * under the device's key.
 *
 * Each event is a finding of its own; its onset is the time of the reading, so no later one revises it. A watcher may tell
 * other keys only and raises nothing by itself, because a cycle without findings is one statement; the way over the log is
 * taken by events alone, which a cool-down makes rare.
 */
import type { HostReading } from '@tocsin/protocol/envelope';
import type { Origin, Watcher } from '../profiles/profile.ts';
import type { Detector, Finding } from './detector.ts';
import { thresholdWatcher, type ThresholdState } from './threshold.ts';

/** A processor that was too busy, as it is told under the device's key. */
export interface CpuEvent extends Pick<HostReading, 'at' | 'cpu_percent' | 'mem_percent' | 'disk_percent'> {
  readonly kind: 'host.cpu';
  readonly envelopeId: string;
  readonly zoneId: string | null;
  readonly place: Origin['place'];
  /** The limit that it was told by, percent. */
  readonly threshold: number;
}

/** The rule for processors. */
export interface CpuOptions {
  /** Percent; a reading at it is over. */
  readonly threshold: number;
  readonly cooldownMs: number;
  /** A reading older than this at its arrival raises nothing, ms. */
  readonly liveMs: number;
}

/** Watches the processor of each host. */
export function cpuWatcher({ threshold, cooldownMs, liveMs }: CpuOptions): Watcher<ThresholdState> {
  return thresholdWatcher({
    name: 'cpu',
    cooldownMs,
    liveMs,
    over: (reading) => (reading as HostReading).cpu_percent >= threshold,
    event: ({ envelopeId, zoneId, place }, reading): CpuEvent => {
      const { at, cpu_percent, mem_percent, disk_percent } = reading as HostReading;
      return { kind: 'host.cpu', at, cpu_percent, mem_percent, disk_percent, envelopeId, zoneId, place, threshold };
    },
  });
}

/** The detector of hosts; its key is `device:<id>`. It keeps nothing: what is told to it is worth telling. */
export function hostDetector(): Detector<null, { readonly kind: string }> {
  return {
    name: 'host',
    // An event of a kind that this version does not know is another's to tell.
    step: (_state, key, event) => ({
      state: null,
      findings: event.kind === 'host.cpu' ? [cpuFinding(key, event as CpuEvent)] : [],
    }),
    tick: () => ({ state: null, findings: [] }),
  };
}

/**
 * Always `moderate`, which CAP 1.2 calls a possible threat to life or property (section 3.2.2): how busy a processor is
 * says nothing of what depends on it, and no number of percent would be a better place for a step than another.
 */
function cpuFinding(key: string, event: CpuEvent): Finding {
  const { at, cpu_percent, mem_percent, disk_percent, envelopeId, zoneId, place, threshold } = event;
  const deviceId = key.slice('device:'.length);
  const [cpu, memory, disk] = [cpu_percent, mem_percent, disk_percent].map((percent) => percent.toFixed(1));
  return {
    kind: 'host.cpu',
    severity: 'moderate',
    status: 'actual',
    headline: `CPU alert at ${deviceId}: CPU ${cpu} %, RAM ${memory} %`,
    description: `The processor of ${deviceId} was ${cpu} % busy (alert from ${threshold} %). Memory ${memory} %, disk ${disk} %.`,
    zoneId,
    deviceId,
    latitude: place?.latitude ?? null,
    longitude: place?.longitude ?? null,
    onset: at,
    evidence: { cpu_percent, mem_percent, disk_percent, threshold, envelopes: [{ deviceId, envelopeId }] },
  };
}
