/**
 * The tests that a document names as evidence: rows of tables whose last cell holds items "`<file>`: <name>", with `<br>`
 * between them. A file is below `packages/`, without `.test.ts`. Pure.
 */

/** A test that a document names. */
export interface NamedTest {
  readonly file: string;
  readonly name: string;
}

/** A row of such a table. */
export interface EvidenceRow {
  readonly promise: string;
  readonly tests: readonly NamedTest[];
  /** What the cell says instead of tests: `later issue …`. */
  readonly instead: string | null;
}

const ITEM = /^`([^`]+)`: (.+)$/;

/** The rows of all tables of a page, their heads left out. */
export function evidenceRows(page: string): EvidenceRow[] {
  const lines = page.split('\n');
  const bodies = lines.filter((line, i) => line.startsWith('| ') && !(lines[i + 1] ?? '').startsWith('|---'));
  return bodies.map((line) => {
    const cells = line.slice(2, -2).split(' | ');
    const items = (cells.at(-1) ?? '').split('<br>');
    const tests = items.flatMap((item) => {
      const [, file, name] = ITEM.exec(item) ?? [];
      return file === undefined || name === undefined ? [] : [{ file: `packages/${file}.test.ts`, name }];
    });
    return { promise: cells[0] ?? '', tests, instead: tests.length === items.length ? null : (cells.at(-1) ?? '') };
  });
}

/** True when the source of a test file has a test of this name, as it stands between quotes. */
export function hasTest(source: string, name: string): boolean {
  return ["'", '"', '`'].some((quote) => source.includes(`${quote}${name}${quote}`));
}
