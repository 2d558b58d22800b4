/** Writes the tables that documents take from the code (`npm run docs`). */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../src/modules.ts';
import { PAGE_TABLES, withTable } from '../src/pages.ts';

for (const { page, name, text } of PAGE_TABLES) {
  const path = join(ROOT, page);
  const before = readFileSync(path, 'utf8');
  const after = withTable(before, name, text());
  if (after === before) continue;
  writeFileSync(path, after);
  process.stdout.write(`${page}: ${name}\n`);
}
