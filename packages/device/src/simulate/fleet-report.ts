/** What came of a run: counts and latencies by kind of envelope and answer; reports of several processes add up. */
import { createHistogram, type Histogram, type HistogramRecord, histogramOf } from './histogram.ts';

/** Kinds of envelope: what honest devices send, and attacks. */
export type EnvelopeKind = 'trigger' | 'host' | 'waveform' | 'earthquake' | 'replay' | 'forged' | 'stale' | 'malformed';

/** Envelopes of a kind that were answered alike. */
export interface AnswerRow {
  readonly kind: EnvelopeKind;
  /** `202`, `409 replay`, …, or why there was none: `timeout`, `connection`. */
  readonly answer: string;
  /** What such an envelope should be answered. */
  readonly expected: boolean;
  readonly count: number;
  /** Milliseconds from the moment when the envelope was due. */
  readonly latency: HistogramRecord;
}

/** The report of a run. */
export interface FleetReport {
  /** Unix ms. */
  readonly startedAt: number;
  /** From the start until the last envelope was sent. */
  readonly seconds: number;
  /** Envelopes that were due; each is in `unsent` or in one of `rows`. */
  readonly planned: number;
  readonly unsent: number;
  /** Honest envelopes that were answered 202, and the readings in them. */
  readonly accepted: number;
  readonly acceptedReadings: number;
  /** Readings of envelopes that may be stored although no 202 came: no answer, or 503 `store-unavailable`. */
  readonly uncertainReadings: number;
  readonly rows: readonly AnswerRow[];
  /** How late the generator itself took an envelope up, ms. */
  readonly lateness: HistogramRecord;
  /** Processor seconds of the generators. */
  readonly cpuSeconds: number;
  readonly processes: number;
  readonly mostOutstanding: number;
  /** Why the run ended before its time: nobody listened, or it was told to. */
  readonly ended: 'done' | 'unreachable' | 'stopped';
  /** With `unreachable`: what the connections said. */
  readonly connectionError: string;
}

/** Collects what one process sees. */
export interface Tally {
  answered(kind: EnvelopeKind, answer: string, expected: boolean, ms: number): void;
  rows(): AnswerRow[];
}

/** An empty one. */
export function createTally(): Tally {
  const rows = new Map<string, { kind: EnvelopeKind; answer: string; expected: boolean; latency: Histogram }>();
  return {
    answered(kind, answer, expected, ms) {
      const key = `${kind} ${answer} ${expected}`;
      let row = rows.get(key);
      if (row === undefined) {
        row = { kind, answer, expected, latency: createHistogram() };
        rows.set(key, row);
      }
      row.latency.add(ms);
    },
    rows: () =>
      [...rows.values()].map(({ kind, answer, expected, latency }) => ({
        kind,
        answer,
        expected,
        count: latency.count,
        latency: latency.record(),
      })),
  };
}

/** Several processes as one. Throws without any. */
export function mergeReports(reports: readonly FleetReport[]): FleetReport {
  const [first, ...others] = reports;
  if (first === undefined) throw new TypeError('no report to merge');
  return others.reduce(mergeTwo, first);
}

function mergeTwo(one: FleetReport, other: FleetReport): FleetReport {
  const worst = (['unreachable', 'stopped', 'done'] as const).find((end) => one.ended === end || other.ended === end);
  return {
    startedAt: Math.min(one.startedAt, other.startedAt),
    seconds: Math.max(one.seconds, other.seconds),
    planned: one.planned + other.planned,
    unsent: one.unsent + other.unsent,
    accepted: one.accepted + other.accepted,
    acceptedReadings: one.acceptedReadings + other.acceptedReadings,
    uncertainReadings: one.uncertainReadings + other.uncertainReadings,
    rows: mergeRows([...one.rows, ...other.rows]),
    lateness: mergeHistograms(one.lateness, other.lateness),
    cpuSeconds: one.cpuSeconds + other.cpuSeconds,
    processes: one.processes + other.processes,
    mostOutstanding: one.mostOutstanding + other.mostOutstanding,
    ended: worst ?? 'done',
    connectionError: one.connectionError || other.connectionError,
  };
}

function mergeRows(rows: readonly AnswerRow[]): AnswerRow[] {
  const merged = new Map<string, AnswerRow>();
  for (const row of rows) {
    const key = `${row.kind} ${row.answer} ${row.expected}`;
    const known = merged.get(key);
    merged.set(
      key,
      known === undefined
        ? row
        : { ...row, count: row.count + known.count, latency: mergeHistograms(row.latency, known.latency) },
    );
  }
  return [...merged.values()];
}

function mergeHistograms(one: HistogramRecord, other: HistogramRecord): HistogramRecord {
  const merged = histogramOf(one);
  merged.merge(other);
  return merged.record();
}
