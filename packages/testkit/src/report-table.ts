/** Reports of rounds as a Markdown table: one row for each name, in the order of its first report. Pure. */

/** A column: its title, and what it shows of the reports of one row. */
export type ReportColumn<Report> = readonly [string, (reports: readonly Report[]) => string];

/** The table. */
export function reportTable<Report>(
  columns: readonly ReportColumn<Report>[],
  reports: readonly Report[],
  nameOf: (report: Report) => string,
): string {
  const names = [...new Set(reports.map(nameOf))];
  const rows = names.map((name) => {
    const group = reports.filter((report) => nameOf(report) === name);
    return columns.map(([, value]) => value(group));
  });
  const lines = [columns.map(([title]) => title), columns.map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** The reports among the lines of a run: those that begin with this member. */
export function readReportLines<Report>(text: string, member: string): Report[] {
  return text.split('\n').flatMap((line) => (line.startsWith(`{"${member}":`) ? [JSON.parse(line) as Report] : []));
}

/** The sum. */
export function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}

/** The sum over reports, with commas. */
export function total<Report>(reports: readonly Report[], value: (report: Report) => number): string {
  return sum(reports.map(value)).toLocaleString('en-US');
}
