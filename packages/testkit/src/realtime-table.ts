/**
 * Turns reports of the realtime matrix into the Markdown table of docs/faults.md: one row for each fault, over its rounds.
 *
 *     node packages/testkit/dist/src/realtime-table.js < reports
 *
 * Lines that are no report are passed over.
 */
import { readFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import type { RealtimeReport } from './realtime-matrix.ts';
import { type ReportColumn, readReportLines, reportTable, sum, total } from './report-table.ts';

type Reports = readonly RealtimeReport[];

const COLUMNS: readonly ReportColumn<RealtimeReport>[] = [
  ['fault', (reports) => reports[0]?.realtime ?? ''],
  ['rounds', (reports) => String(reports.length)],
  ['lasted, s', (reports) => seconds(reports, (report) => report.lastedMs)],
  ['alerts', (reports) => total(reports, (report) => report.alerts)],
  ['seen', (reports) => total(reports, (report) => report.seen)],
  ['missed', (reports) => total(reports, (report) => Math.max(0, report.expected - report.seen))],
  ['doubled', (reports) => total(reports, (report) => Math.max(0, report.seen - report.expected))],
  ['out of order', (reports) => total(reports, (report) => report.faults.length + report.different)],
  ['201 without an alert', (reports) => total(reports, (report) => report.lost)],
  ['connections cut', (reports) => total(reports, (report) => report.cuts)],
  ['connects', (reports) => total(reports, (report) => report.connects)],
  ['503 at the handshake', (reports) => total(reports, (report) => report.refused[503] ?? 0)],
  ['without a watermark, s', (reports) => seconds(reports, (report) => report.unprotectedMs)],
  ['latest alert, s', (reports) => seconds(reports, (report) => report.latestMs)],
  ['later than 1 s', share],
];

/** The table; times are median / worst. Faults in the order of their first report. */
export function realtimeTable(reports: Reports): string {
  return reportTable(COLUMNS, reports, (report) => report.realtime);
}

/** The reports among the lines of a run. */
export function readRealtimeReports(text: string): RealtimeReport[] {
  return readReportLines<RealtimeReport>(text, 'realtime');
}

/** Of all that was seen. */
function share(reports: Reports): string {
  const all = sum(reports.map((report) => report.seen));
  return all === 0 ? '' : `${((100 * sum(reports.map((report) => report.late))) / all).toFixed(1)} %`;
}

function seconds(reports: Reports, value: (report: RealtimeReport) => number): string {
  const sorted = reports.map(value).toSorted((a, b) => a - b);
  const shown = (ms = 0): string => (ms / 1000).toFixed(1);
  return `${shown(sorted[sorted.length >>> 1])} / ${shown(sorted.at(-1))}`;
}

if (argv[1] === fileURLToPath(import.meta.url))
  process.stdout.write(`${realtimeTable(readRealtimeReports(readFileSync(0, 'utf8')))}\n`);
