/**
 * Turns reports of the fault matrix into the Markdown table of docs/faults.md: one row for each fault, over its rounds.
 *
 *     node packages/testkit/dist/src/fault-table.js < reports
 *
 * Lines that are no report are passed over.
 */
import { readFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import type { FaultReport } from './fault-matrix.ts';
import { type ReportColumn, readReportLines, reportTable, sum, total } from './report-table.ts';

const COLUMNS: readonly ReportColumn<FaultReport>[] = [
  ['fault', (reports) => reports[0]?.fault ?? ''],
  ['rounds', (reports) => String(reports.length)],
  ['lasted, s', (reports) => seconds(reports, (report) => report.lastedMs)],
  ['accepted', (reports) => total(reports, (report) => report.accepted)],
  ['stored', (reports) => total(reports, (report) => report.stored)],
  ['sent again', (reports) => total(reports, (report) => report.retries)],
  ['earthquakes', (reports) => String(reports.length * 2)],
  ['alerts', (reports) => total(reports, (report) => report.alerts)],
  [
    'seen / by viewers',
    (reports) =>
      `${total(reports, (report) => sum(report.seen))} / ${sum(reports.map((report) => report.seen.length * 2))}`,
  ],
  ['out of order', (reports) => total(reports, (report) => report.viewerFaults.length)],
  ['without a 202, s', (reports) => seconds(reports, (report) => report.gapMs)],
  ['alert in the fault, s', (reports) => seconds(reports, (report) => report.alertMs)],
  ['alert after it, s', (reports) => seconds(reports, (report) => report.laterAlertMs)],
  ['`ready` in the fault', (reports) => readiness(reports)],
  ['all ok after its end, s', (reports) => seconds(reports, (report) => report.okAfterMs)],
];

/** The table; times are median / worst, `never` when one did not come in time. Faults in the order of their first report. */
export function faultTable(reports: readonly FaultReport[]): string {
  return reportTable(COLUMNS, reports, (report) => report.fault);
}

/** The reports among the lines of a run. */
export function readReports(text: string): FaultReport[] {
  return readReportLines<FaultReport>(text, 'fault');
}

/** Which answers there were, over all nodes and rounds: `ok 6, degraded 2`. */
function readiness(reports: readonly FaultReport[]): string {
  const answers = reports.flatMap((report) => Object.values(report.ready));
  const kinds = [...new Set(answers)].toSorted();
  return kinds.map((kind) => `${kind} ${answers.filter((answer) => answer === kind).length}`).join(', ');
}

function seconds(reports: readonly FaultReport[], value: (report: FaultReport) => number | null): string {
  const sorted = reports.map((report) => value(report) ?? Number.POSITIVE_INFINITY).toSorted((a, b) => a - b);
  const shown = (ms: number | undefined): string =>
    ms === undefined || !Number.isFinite(ms) ? 'never' : (ms / 1000).toFixed(1);
  if (sorted.length === 1) return shown(sorted[0]);
  return `${shown(sorted[sorted.length >>> 1])} / ${shown(sorted.at(-1))}`;
}

if (argv[1] === fileURLToPath(import.meta.url))
  process.stdout.write(`${faultTable(readReports(readFileSync(0, 'utf8')))}\n`);
