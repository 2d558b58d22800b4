import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './modules.ts';
import { evidenceRows, hasTest } from './named-tests.ts';

const rows = evidenceRows(readFileSync(join(ROOT, 'docs/websocket-contract.md'), 'utf8'));

describe('the contract of WebSockets', () => {
  it('names a test for each promise, or the issue that brings it', () => {
    expect(rows.length).toBeGreaterThan(40);
    expect(
      rows.filter(({ tests, instead }) => tests.length === 0 && instead?.startsWith('later issue') !== true),
    ).toEqual([]);
    expect(rows.filter(({ tests, instead }) => tests.length > 0 && instead !== null)).toEqual([]);
  });

  it('names only tests that exist', () => {
    const named = rows.flatMap(({ tests }) => tests);
    const missing = named.filter(({ file, name }) => {
      const path = join(ROOT, file);
      return !existsSync(path) || !hasTest(readFileSync(path, 'utf8'), name);
    });
    expect(missing).toEqual([]);
  });
});

describe('a table of evidence', () => {
  const page = (cell: string): string => `text\n\n| promise | shown by |\n|---|---|\n| a \`b\` | ${cell} |\n\ntext`;

  it('holds tests by file and name', () => {
    expect(evidenceRows(page('`x/src/y`: z, and `q`: more<br>`x/src/w.service`: v'))).toEqual([
      {
        promise: 'a `b`',
        tests: [
          { file: 'packages/x/src/y.test.ts', name: 'z, and `q`: more' },
          { file: 'packages/x/src/w.service.test.ts', name: 'v' },
        ],
        instead: null,
      },
    ]);
  });

  it('says what it has instead of them', () => {
    expect(evidenceRows(page('later issue (x)'))).toEqual([
      { promise: 'a `b`', tests: [], instead: 'later issue (x)' },
    ]);
    expect(evidenceRows(page('`x/y`: z<br>and so on'))[0]?.instead).toContain('and so on');
  });

  it('needs the whole name of a test', () => {
    expect(hasTest("it('does this', …)", 'does this')).toBe(true);
    expect(hasTest("it('does this', …)", 'does')).toBe(false);
  });
});
