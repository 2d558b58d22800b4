/**
 * The score of a replay against the truth. Four stations cannot agree before the P wave has reached the fourth; delays
 * count from that moment (epicentral distance, 20 km depth, 6.5 km/s: the recordings' README). Pure.
 */
import { distanceKm, type Place } from '../../detectors/travel.ts';
import type { TrueEvent } from './replay-recording.ts';

/** What is scored of an alert: Unix ms. */
export interface ScoredAlert {
  readonly onset: number;
  readonly decidedAt: number;
}

/** How one file did. `delay`: seconds after the fourth P. */
export interface FileScore {
  readonly event: string;
  readonly found: boolean;
  readonly falseAlarms: number;
  readonly delay: number | null;
}

/** All files together. */
export interface Score {
  readonly found: number;
  readonly missed: number;
  readonly falseAlarms: number;
  readonly median: number | null;
  readonly worst: number | null;
}

const DEPTH_KM = 20;
const SPEED = 6.5;
/** An onset within so much of that moment is the event's, ms. */
const WITHIN_MS = 30_000;
const QUORUM = 4;

/** When the P wave of the event reached the fourth station, Unix ms. `heard`: stations of the file. */
export function fourthArrival(truth: TrueEvent, heard: readonly Place[]): number {
  const distances = heard.map((place) => distanceKm(truth, place)).sort((a, b) => a - b);
  const km = truth.fourthKm ?? distances[Math.min(QUORUM, distances.length) - 1] ?? 0;
  return truth.origin + (Math.hypot(km, DEPTH_KM) / SPEED) * 1000;
}

/** Scores the alerts of one file. Of several that fit the first counts, the others are false, as is all before the origin. */
export function scoreFile(truth: TrueEvent, fourth: number, alerts: readonly ScoredAlert[]): FileScore {
  const fitting = alerts
    .filter(({ onset }) => onset >= truth.origin && Math.abs(onset - fourth) <= WITHIN_MS)
    .toSorted((a, b) => a.decidedAt - b.decidedAt);
  const [first] = fitting;
  return {
    event: truth.event,
    found: first !== undefined,
    falseAlarms: alerts.length - (first === undefined ? 0 : 1),
    delay: first === undefined ? null : (first.decidedAt - fourth) / 1000,
  };
}

/** The sum of the files. */
export function sumScores(files: readonly FileScore[]): Score {
  const delays = files.flatMap(({ delay }) => (delay === null ? [] : [delay])).sort((a, b) => a - b);
  const found = files.filter((file) => file.found).length;
  const middle = delays.length >>> 1;
  const upper = delays[middle] ?? null;
  const lower = delays[delays.length % 2 === 1 ? middle : middle - 1] ?? null;
  return {
    found,
    missed: files.length - found,
    falseAlarms: files.reduce((sum, { falseAlarms }) => sum + falseAlarms, 0),
    median: upper === null || lower === null ? null : (upper + lower) / 2,
    worst: delays.at(-1) ?? null,
  };
}
