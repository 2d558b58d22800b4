import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { markdownTable } from './markdown.ts';
import { ROOT } from './modules.ts';
import { PAGE_TABLES, withTable } from './pages.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** The documents that people read, from the checkout's folder. */
const DOCUMENTS: readonly string[] = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

describe('documents and code', () => {
  it.each(PAGE_TABLES.map((table) => [`${table.page}: ${table.name}`, table] as const))('agree: %s', (_, table) => {
    const page = read(table.page);
    expect(withTable(page, table.name, table.text()), 'run `npm run docs`').toBe(page);
  });

  it.each(DOCUMENTS)('%s links only to files that exist', (document) => {
    const links = [...read(document).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((match) => match[1] ?? '');
    const local = links.filter((link) => !/^[a-z]+:/.test(link));
    expect(local.filter((link) => !existsSync(join(ROOT, dirname(document), link)))).toEqual([]);
  });

  it('name only scripts of npm that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Readonly<Record<string, string>> };
    const named = DOCUMENTS.flatMap((document) =>
      [...read(document).matchAll(/`npm (?:run )?([a-z]+)[` ]/g)].map((match) => match[1] ?? ''),
    );
    const known = new Set([...Object.keys(scripts), 'ci', 'install', 'i', 'pack']);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('a table between markers', () => {
  it('is replaced, and nothing around it', () => {
    const page = 'a\n<!-- table: x -->\nold\n<!-- end -->\nb\n';
    expect(withTable(page, 'x', '| new |')).toBe('a\n<!-- table: x -->\n| new |\n<!-- end -->\nb\n');
  });

  it('without its markers is an error', () => {
    expect(() => withTable('a', 'x', 'b')).toThrow('markers');
  });

  it('escapes bars in cells', () => {
    expect(markdownTable(['a'], [['x|y']])).toBe('| a |\n|---|\n| x\\|y |');
  });
});
