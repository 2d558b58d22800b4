/** What a simulated fleet's run means: the check, the table for people, the object for programs. Pure. */
import type { AnswerRow, EnvelopeKind, FleetReport } from '@tocsin/device/simulate/fleet-report';
import { createHistogram, type Histogram, histogramOf } from '@tocsin/device/simulate/histogram';
import { formatTable } from './table.ts';

/** What the server says afterwards. */
export interface ServerSide {
  /** Readings of the fleet in the store. */
  readonly stored: number;
  readonly alerts: readonly FoundAlert[];
}

/** An alert that the fleet raised. */
export interface FoundAlert {
  readonly kind: string;
  readonly status: string;
  /** From the onset to the first message about it, ms. */
  readonly afterMs: number;
}

const ATTACK_KINDS: readonly EnvelopeKind[] = ['replay', 'forged', 'stale', 'malformed'];
const ORDER: readonly EnvelopeKind[] = ['trigger', 'host', 'waveform', 'earthquake', ...ATTACK_KINDS];
/** Later than this, ms, and than this share of the latencies, the generator and not the server may be what was slow. */
const LATE_MS = 100;
const LATE_SHARE = 0.2;
const BUSY_SHARE = 0.9;
const CHARACTERS = 200;

/** True when what the fleet saw, and what was stored, is as it must be. `server` is null when nobody could be asked. */
export function problemsOf(report: FleetReport, server: ServerSide | null): string[] {
  const problems = report.rows.filter(({ expected }) => !expected).map(problemOf);
  if (server !== null) {
    const { acceptedReadings: least, uncertainReadings } = report;
    const most = least + uncertainReadings;
    if (server.stored < least || server.stored > most) {
      const wanted = least === most ? String(least) : `${least} to ${most}`;
      problems.push(`${server.stored} readings are stored, but ${wanted} were accepted`);
    }
    const real = server.alerts.filter(({ status }) => status !== 'exercise').length;
    if (real > 0) problems.push(`${real} alerts of the fleet are not marked as exercise`);
  }
  return problems;
}

function problemOf({ kind, answer, count }: AnswerRow): string {
  const attack = ATTACK_KINDS.includes(kind);
  if (attack && answer === '202') return `${count} attacks (${kind}) were accepted`;
  const times = `${count} ${attack ? 'attacks' : 'envelopes'} (${kind})`;
  const silent = answer === 'timeout' || answer === 'connection';
  return silent ? `${times} were not answered (${answer})` : `${times} were answered ${answer}`;
}

/** Things worth knowing that are no failure. */
export function hintsOf(report: FleetReport): string[] {
  const lateness = histogramOf(report.lateness);
  const answered = report.rows.reduce((sum, { count }) => sum + count, 0);
  const limited = report.rows
    .filter(({ answer }) => answer.startsWith('429'))
    .reduce((sum, { count }) => sum + count, 0);
  const share = cpuShare(report) / report.processes;
  const all = createHistogram();
  for (const { latency } of report.rows) all.merge(latency);
  const late = lateness.quantile(0.99);
  return [
    ...(limited * 2 > answered
      ? [
          'most were refused with 429: RATE_LIMIT_PER_KEY (and RATE_LIMIT_PER_DEVICE) of the server are lower than --rate',
        ]
      : []),
    ...(report.unsent > 0 && report.ended === 'done'
      ? [`${report.unsent} were due but never sent: the server, or this generator, was too slow for --rate`]
      : []),
    ...((late > LATE_MS && late > LATE_SHARE * all.quantile(0.99)) || share > BUSY_SHARE
      ? ['the generator was late itself (see "late"): latencies hold that, use more --processes or a lower --rate']
      : []),
  ];
}

function cpuShare({ cpuSeconds, seconds }: FleetReport): number {
  return seconds === 0 ? 0 : cpuSeconds / seconds;
}

function inOrder(rows: readonly AnswerRow[]): AnswerRow[] {
  return rows.toSorted((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || b.count - a.count);
}

interface Latencies {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

function latenciesOf(histogram: Histogram): Latencies {
  const rounded = (ms: number): number => Math.round(ms * 100) / 100;
  return {
    p50: rounded(histogram.quantile(0.5)),
    p90: rounded(histogram.quantile(0.9)),
    p99: rounded(histogram.quantile(0.99)),
    p999: rounded(histogram.quantile(0.999)),
    max: rounded(histogram.greatest),
  };
}

function alertRows(alerts: readonly FoundAlert[]): { kind: string; count: number; medianMs: number }[] {
  const kinds = [...new Set(alerts.map(({ kind }) => kind))].sort();
  return kinds.map((kind) => {
    const after = alerts.filter((alert) => alert.kind === kind).map(({ afterMs }) => afterMs);
    after.sort((a, b) => a - b);
    return { kind, count: after.length, medianMs: after[after.length >>> 1] ?? 0 };
  });
}

/** The tables and lines for people. */
export function summaryText(report: FleetReport, server: ServerSide | null): string {
  const total = Math.max(1, report.planned);
  const ms = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));
  const rows = inOrder(report.rows).map(({ kind, answer, expected, count, latency }) => {
    const { p50, p90, p99, p999, max } = latenciesOf(histogramOf(latency));
    const share = `${((count / total) * 100).toFixed(1)} %`;
    return [kind, answer, expected ? '' : 'unexpected', String(count), share, ...[p50, p90, p99, p999, max].map(ms)];
  });
  const head = ['kind', 'answer', '', 'count', 'share', 'p50 ms', 'p90', 'p99', 'p99.9', 'max'];
  return `${formatTable(head, rows)}\n${totals(report, server).join('\n')}\n`;
}

function totals(report: FleetReport, server: ServerSide | null): string[] {
  const late = latenciesOf(histogramOf(report.lateness));
  const sent = report.planned - report.unsent;
  const perSecond = (count: number): string => (count / Math.max(0.001, report.seconds)).toFixed(1);
  const processes = report.processes === 1 ? '' : ` in ${report.processes} processes`;
  return [
    `planned   ${report.planned} envelopes in ${report.seconds.toFixed(1)} s, unsent ${report.unsent}`,
    `sent      ${sent} (${perSecond(sent)}/s), accepted ${report.accepted} (${perSecond(report.accepted)}/s)`,
    `readings  ${report.acceptedReadings} accepted, ${server === null ? 'stored unknown' : `${server.stored} stored`}`,
    `generator ${(cpuShare(report) * 100).toFixed(0)} % of a core${processes}, late p50 ${late.p50} p99 ${late.p99} max ${late.max} ms`,
    ...alertRows(server?.alerts ?? []).map(
      ({ kind, count, medianMs }) =>
        `alerts    ${count} ${kind}, told ${(medianMs / 1000).toFixed(1)} s after the onset (median)`,
    ),
  ];
}

/** The object for programs. */
export function summaryObject(report: FleetReport, server: ServerSide | null, problems: readonly string[]): object {
  return {
    ok: problems.length === 0 && report.ended !== 'unreachable',
    ended: report.ended,
    problems,
    hints: hintsOf(report),
    seconds: report.seconds,
    planned: report.planned,
    sent: report.planned - report.unsent,
    unsent: report.unsent,
    accepted: report.accepted,
    readings: {
      accepted: report.acceptedReadings,
      uncertain: report.uncertainReadings,
      stored: server?.stored ?? null,
    },
    answers: inOrder(report.rows).map(({ kind, answer, expected, count, latency }) => ({
      kind,
      answer,
      expected,
      count,
      ms: latenciesOf(histogramOf(latency)),
    })),
    alerts: alertRows(server?.alerts ?? []),
    generator: {
      processes: report.processes,
      cpuCores: Math.round(cpuShare(report) * 1000) / 1000,
      lateMs: latenciesOf(histogramOf(report.lateness)),
      mostOutstanding: report.mostOutstanding,
    },
  };
}

/** Why a connection failed, in a line that is safe to show. */
export function reasonOf({ connectionError }: FleetReport): string {
  return connectionError.replaceAll(/\p{Cc}/gu, '?').slice(0, CHARACTERS) || 'no connection';
}
