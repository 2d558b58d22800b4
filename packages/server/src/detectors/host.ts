/**
 * Alerts about computers: the rules that watch their readings, and the detector that makes findings of what these tell
 * under the device's key.
 *
 * Each event is a finding of its own; its onset is the time of the reading (of a frame: its arrival), so no later one revises
 * it; only its end does. A watcher may tell other keys only and raises nothing by itself, because a cycle without findings is
 * one statement; the way over the log is taken by events alone, which a cool-down makes rare.
 */
import type { AlertKind, Severity } from '@tocsin/protocol/alert';
import type { HostReading } from '@tocsin/protocol/envelope';
import type { Origin, Watcher } from '../profiles/profile.ts';
import type { Detector, Finding } from './detector.ts';
import { type ThresholdEnd, thresholdWatcher, type ThresholdState } from './threshold.ts';

/** The percentages of a host. */
type Percent = 'cpu_percent' | 'mem_percent' | 'disk_percent' | 'gpu_percent';
/** What of a host has a rule. */
export type HostPart = 'cpu' | 'memory' | 'disk' | 'gpu';
type HostKind = Extract<AlertKind, `host.${HostPart}`>;

/** What is told under the device's key of a number that is over. */
export interface HostEvent extends Pick<HostReading, Exclude<Percent, 'gpu_percent'>> {
  readonly kind: HostKind;
  /** The onset, Unix ms. */
  readonly at: number;
  /** Absent in events of a version that did not tell it. */
  readonly gpu_percent?: number | null;
  readonly envelopeId: string;
  readonly zoneId: string | null;
  readonly place: Origin['place'];
  /** The limit that it was told by, percent. */
  readonly threshold: number;
}

/** What is told of its end. */
export interface HostEnd extends ThresholdEnd {
  readonly kind: 'host.end';
  readonly of: HostKind;
}

/** The rules. */
export interface HostRules {
  /** Percent; a reading at it is over. null: off. */
  readonly limits: Readonly<Record<HostPart, number | null>>;
  readonly cooldownMs: number;
  /** A reading older than this at its arrival raises nothing, ms. */
  readonly liveMs: number;
}

/** How a part is told of. */
interface Telling {
  readonly percent: Percent;
  readonly severity: Severity;
  readonly headline: (id: string, told: Shown) => string;
  /** Of the sentence "… of <id> was <n> % …". */
  readonly noun: string;
  readonly verb: string;
}

/** Percentages as texts show them. */
interface Shown {
  readonly cpu: string;
  readonly memory: string;
  readonly disk: string;
  readonly gpu: string | null;
}

/**
 * Severities in the words of CAP 1.2 (section 3.2.2). How busy a processor or full a memory is says nothing of what depends
 * on it: a possible threat, `moderate`, and no number of percent would be a better place for a step than another. A disk does
 * not empty itself, and what writes to a full one stops: `severe`. A graphics processor that is busy does what it was
 * bought for: `minor`.
 */
const TELLING: Readonly<Record<HostPart, Telling>> = {
  cpu: {
    ...{ percent: 'cpu_percent', severity: 'moderate', noun: 'The processor', verb: 'busy' },
    headline: (id, { cpu, memory }) => `CPU alert at ${id}: CPU ${cpu} %, RAM ${memory} %`,
  },
  memory: {
    ...{ percent: 'mem_percent', severity: 'moderate', noun: 'The memory', verb: 'used' },
    headline: (id, { cpu, memory }) => `Memory alert at ${id}: RAM ${memory} %, CPU ${cpu} %`,
  },
  disk: {
    ...{ percent: 'disk_percent', severity: 'severe', noun: 'The disk', verb: 'full' },
    headline: (id, { disk }) => `Disk alert at ${id}: disk ${disk} %`,
  },
  gpu: {
    ...{ percent: 'gpu_percent', severity: 'minor', noun: 'The graphics processor', verb: 'busy' },
    headline: (id, { gpu, cpu }) => `GPU alert at ${id}: GPU ${gpu} %, CPU ${cpu} %`,
  },
};

const PARTS = Object.keys(TELLING) as HostPart[];

/** Watches the percentages of each host. A rule that is off is there, too: it ends what it had raised. */
export function hostWatchers({ limits, cooldownMs, liveMs }: HostRules): Watcher<ThresholdState>[] {
  return PARTS.map((part) => {
    const kind: HostKind = `host.${part}`;
    const { percent } = TELLING[part];
    return thresholdWatcher({
      name: part,
      limit: limits[part],
      cooldownMs,
      liveMs,
      value: (reading) => (reading as HostReading)[percent],
      event: ({ envelopeId, zoneId, place }, reading, at, threshold): HostEvent => {
        const { cpu_percent, mem_percent, disk_percent, gpu_percent } = reading as HostReading;
        const percentages = { cpu_percent, mem_percent, disk_percent, gpu_percent };
        return { kind, at, ...percentages, envelopeId, zoneId, place, threshold };
      },
      ended: (end): HostEnd => ({ kind: 'host.end', of: kind, ...end }),
    });
  });
}

/** The detector of hosts; its key is `device:<id>`. It keeps nothing: what is told to it is worth telling. */
export function hostDetector(): Detector<null, { readonly kind: string }> {
  return {
    name: 'host',
    // An event of a kind that this version does not know is another's to tell.
    step: (_state, key, item) => ({ state: null, findings: findingsOf(key, item) }),
    tick: () => ({ state: null, findings: [] }),
  };
}

function findingsOf(key: string, item: { readonly kind: string }): Finding[] {
  if (item.kind === 'host.end') return [endFinding(key, item as HostEnd)];
  const part = PARTS.find((one) => item.kind === `host.${one}`);
  return part === undefined ? [] : [partFinding(key, part, item as HostEvent)];
}

function partFinding(key: string, part: HostPart, event: HostEvent): Finding {
  const {
    at,
    cpu_percent,
    mem_percent,
    disk_percent,
    gpu_percent = null,
    envelopeId,
    zoneId,
    place,
    threshold,
  } = event;
  const { percent, severity, headline, noun, verb } = TELLING[part];
  const deviceId = key.slice('device:'.length);
  const shown: Shown = {
    cpu: cpu_percent.toFixed(1),
    memory: mem_percent.toFixed(1),
    disk: disk_percent.toFixed(1),
    gpu: gpu_percent?.toFixed(1) ?? null,
  };
  const others = othersOf(part, shown);
  return {
    kind: event.kind,
    severity,
    status: 'actual',
    headline: headline(deviceId, shown),
    description: `${noun} of ${deviceId} was ${(event[percent] ?? 0).toFixed(1)} % ${verb} (alert from ${threshold} %). ${others}`,
    zoneId,
    deviceId,
    latitude: place?.latitude ?? null,
    longitude: place?.longitude ?? null,
    onset: at,
    evidence: {
      ...{ cpu_percent, mem_percent, disk_percent, gpu_percent, threshold },
      envelopes: [{ deviceId, envelopeId }],
    },
  };
}

/** The other percentages, as a sentence. */
function othersOf(part: HostPart, { cpu, memory, disk, gpu }: Shown): string {
  const all: Readonly<Record<HostPart, string | null>> = {
    cpu: `processor ${cpu} %`,
    memory: `memory ${memory} %`,
    disk: `disk ${disk} %`,
    gpu: gpu === null ? null : `graphics ${gpu} %`,
  };
  const text = PARTS.flatMap((other) => (other === part ? [] : (all[other] ?? []))).join(', ');
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}

const ENDS: Readonly<Record<ThresholdEnd['reason'], (value: string) => string>> = {
  below: (value) => `Over: ${value} %.`,
  again: (value) => `Still at ${value} % after the cool-down: told as another alert.`,
  lapsed: () => 'Closed: nothing over the limit was reported for a day.',
  off: () => 'Closed: the rule was switched off.',
};

/** What of it is not the alert's own counts for nothing: see `AlertFinding.ends`. */
function endFinding(key: string, { of, onset, at, reason, value }: HostEnd): Finding {
  return {
    kind: of,
    ends: true,
    severity: 'unknown',
    status: 'actual',
    headline: '',
    description: ENDS[reason](value?.toFixed(1) ?? ''),
    zoneId: null,
    deviceId: key.slice('device:'.length),
    latitude: null,
    longitude: null,
    onset,
    evidence: { ended: { at, reason, ...(value === null ? {} : { percent: value }) } },
  };
}
