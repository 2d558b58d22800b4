/** A table of results: ours, the limit in the same run, the ratio. Plain text, or JSON for programs. */

/** One line. `limit` is null where nothing was measured beside it. */
export interface ResultRow {
  readonly what: string;
  readonly ours: number;
  readonly unit: string;
  readonly limit: number | null;
  readonly limitIs: string;
  /** What was hoped for, in words. */
  readonly aim: string;
}

/** What a benchmark answers. */
export interface BenchResult {
  readonly name: string;
  readonly rows: readonly ResultRow[];
  /** Everything that was compared, where that is more than ours and a limit. */
  readonly grid?: { readonly head: readonly string[]; readonly lines: readonly (readonly string[])[] };
  /** Facts without which the numbers mean nothing (generator's share, sizes). */
  readonly notes: readonly string[];
}

function ratio(row: ResultRow): number | null {
  return row.limit === null || row.limit === 0 ? null : row.ours / row.limit;
}

function format(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)));
}

/** The middle of some values, the lower one of two; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

/** The result as JSON, one line. */
export function toJson(result: BenchResult): string {
  return JSON.stringify({ ...result, rows: result.rows.map((row) => ({ ...row, ratio: ratio(row) })) });
}

/** The result as a table for people. */
export function toTable(result: BenchResult): string {
  const head = ['what', 'ours', 'limit', 'ratio', 'limit is', 'aim'];
  const lines = result.rows.map((row) => {
    const share = ratio(row);
    return [
      row.what,
      `${format(row.ours)} ${row.unit}`,
      row.limit === null ? '-' : `${format(row.limit)} ${row.unit}`,
      share === null ? '-' : `${Math.round(share * 100)} %`,
      row.limitIs,
      row.aim,
    ];
  });
  const { grid } = result;
  return [
    `# ${result.name}`,
    ...draw(head, lines),
    ...(grid === undefined ? [] : ['', ...draw(grid.head, grid.lines), '']),
    ...result.notes.map((note) => `* ${note}`),
  ].join('\n');
}

/** Columns of equal width under their titles. */
function draw(head: readonly string[], lines: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]?.length ?? 0)));
  const join = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [join(head), widths.map((width) => '-'.repeat(width)).join('  '), ...lines.map(join)];
}
