/** Rows as aligned columns, for terminals. */

/** Longest cell, in characters. */
const MOST_CHARACTERS = 60;

/** Columns padded with spaces; cells lose control characters. Pure. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map(clean));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

function clean(cell: string): string {
  const plain = cell.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?');
  return plain.length > MOST_CHARACTERS ? `${plain.slice(0, MOST_CHARACTERS - 1)}…` : plain;
}
