/**
 * Turns reports of the matrix of hosts and notifications into the Markdown table of docs/faults.md.
 *
 *     node packages/testkit/dist/src/bridge-table.js < reports
 *
 * Lines that are no report are passed over.
 */
import { readFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import type { BridgeReport } from './bridge-matrix.ts';
import { type ReportColumn, readReportLines, reportTable, sum, total } from './report-table.ts';

const COLUMNS: readonly ReportColumn<BridgeReport>[] = [
  ['fault', (reports) => reports[0]?.bridge ?? ''],
  ['rounds', (reports) => String(reports.length)],
  ['lasted, s', (reports) => seconds(reports, ({ lastedMs }) => lastedMs)],
  ['frames with a PUBACK', (reports) => total(reports, ({ acknowledged }) => acknowledged)],
  ['readings', (reports) => total(reports, ({ stored }) => stored)],
  ['different', (reports) => total(reports, ({ different }) => different)],
  ['lost', (reports) => total(reports, ({ lost }) => lost)],
  ['hosts shown wrong', (reports) => total(reports, ({ unequal, behind }) => unequal + behind)],
  ['busy hosts', (reports) => String(reports.length * BUSY)],
  ['alerts', (reports) => total(reports, ({ alerts }) => alerts)],
  ['seen / by viewers', seenBy],
  ['told to Slack', (reports) => total(reports, ({ told }) => told)],
  ['again', (reports) => total(reports, ({ repeated }) => repeated)],
  [
    'posts / refused',
    (reports) => `${total(reports, ({ posts }) => posts)} / ${total(reports, ({ refused }) => refused)}`,
  ],
  ['out of order, other text, too early', (reports) => total(reports, wrongPosts)],
  ['without a PUBACK, s', (reports) => seconds(reports, ({ pubackGapMs }) => pubackGapMs)],
  ['dashboard without a frame, s', (reports) => seconds(reports, ({ viewerGapMs }) => viewerGapMs)],
  ['busy to Slack, in the fault, s', (reports) => seconds(reports, ({ slackMs }) => slackMs)],
  ['after it, s', (reports) => seconds(reports, ({ laterSlackMs }) => laterSlackMs)],
];

/** Hosts that become busy in a round. */
export const BUSY = 24;

/** The table; times are median / worst. Faults in the order of their first report. */
export function bridgeTable(reports: readonly BridgeReport[]): string {
  return reportTable(COLUMNS, reports, ({ bridge }) => bridge);
}

function seenBy(reports: readonly BridgeReport[]): string {
  return `${total(reports, ({ seen }) => sum(seen))} / ${sum(reports.map(({ seen }) => seen.length * BUSY)).toLocaleString('en-US')}`;
}

function wrongPosts({ outOfOrder, otherTexts, tooEarly }: BridgeReport): number {
  return outOfOrder + otherTexts + tooEarly;
}

function seconds(reports: readonly BridgeReport[], value: (report: BridgeReport) => number): string {
  const sorted = reports.map(value).toSorted((a, b) => a - b);
  const shown = (ms: number | undefined): string => ((ms ?? 0) / 1000).toFixed(1);
  return sorted.length === 1 ? shown(sorted[0]) : `${shown(sorted[sorted.length >>> 1])} / ${shown(sorted.at(-1))}`;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const reports = readReportLines<BridgeReport>(readFileSync(0, 'utf8'), 'bridge');
  process.stdout.write(`${bridgeTable(reports)}\n`);
}
