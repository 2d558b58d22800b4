/**
 * Writes the test vectors of `packages/protocol/fixtures/`; with `--check` it only compares, and ends with 1 at a
 * difference.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fixtureFiles } from '../src/fixtures/files.ts';
import { FIXTURES } from '../src/fixtures/shape.ts';

const check = process.argv.includes('--check');
mkdirSync(FIXTURES, { recursive: true });
for (const [name, text] of fixtureFiles()) {
  const path = join(FIXTURES, name);
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
  process.stdout.write(`${name}: ${check ? 'differs from what the generator makes' : 'written'}\n`);
  if (check) process.exitCode = 1;
  else writeFileSync(path, text);
}
