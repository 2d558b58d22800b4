import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkCheckout, checkModules, checkReach, findCycles, matchesLibrary } from './import-rules.ts';
import { FOLDERS, folderTable, LIBRARIES, libraryTable, PUBLIC_MODULES, ROW } from './import-table.ts';
import { type Module, parseModule, ROOT, readModules, resolveImport } from './modules.ts';

const SERVER = 'packages/server/src';

/** Modules out of thin air: path and source. */
function checkout(files: Readonly<Record<string, string>>): Module[] {
  return Object.entries(files).map(([path, source]) => parseModule(path, source));
}

function reasons(files: Readonly<Record<string, string>>): string[] {
  return checkModules(checkout(files)).map((violation) => `${violation.reason} ${violation.path}`);
}

describe('this checkout', () => {
  it('keeps the import rules, in more than a handful of modules', () => {
    const { modules, violations } = checkCheckout();
    expect(modules).toBeGreaterThan(50);
    expect(violations).toEqual([]);
  });

  it('is described by ARCHITECTURE.md with the same tables', () => {
    const page = readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8');
    expect(page).toContain(folderTable());
    expect(page).toContain(libraryTable());
  });

  it('has every public module, knip knows the same ones, and the page of the package tells of each', () => {
    const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
    const paths = new Set(readModules().map((module) => module.path));
    expect(PUBLIC_MODULES.filter((path) => !paths.has(path))).toEqual([]);
    const { workspaces } = JSON.parse(read('knip.json')) as { workspaces: Record<string, { entry?: string[] }> };
    const packages = [
      ['packages/device', 'docs/device-sdk.md'],
      ['packages/client', 'docs/viewer-sdk.md'],
    ] as const;
    expect(
      packages.flatMap(([folder]) => workspaces[folder]?.entry?.map((entry) => `${folder}/${entry}`) ?? []),
    ).toEqual(PUBLIC_MODULES);
    for (const [folder, document] of packages) {
      const page = read(document);
      const names = PUBLIC_MODULES.filter((path) => path.startsWith(folder)).map((path) =>
        path.replace(/^packages\/(.+)\/src\/(.+)\.ts$/, '@tocsin/$1/$2'),
      );
      expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
    }
  });

  it.each([
    ['devices', ['packages/device/src/device.ts', 'packages/device/src/mqtt-sender.ts']],
    ['the agent', ['packages/server/src/app/commands/agent.ts']],
  ])('lets %s load nothing foreign', (_, roots) => {
    const modules = new Map(readModules().map((module) => [module.path, module]));
    const reached = new Set(roots);
    const foreign = new Set<string>();
    for (const path of reached) {
      for (const { specifier, typeOnly } of modules.get(path)?.imports ?? []) {
        const target = resolveImport(path, specifier);
        if (target !== null && !typeOnly) reached.add(target);
        else if (target === null && !typeOnly && !specifier.startsWith('node:')) foreign.add(specifier);
      }
    }
    expect(reached.size).toBeGreaterThan(20);
    expect([...foreign]).toEqual([]);
  });

  it('uses every library that has a row', () => {
    const used = new Set(readModules().flatMap((module) => module.imports.map((one) => one.specifier)));
    const idle = LIBRARIES.filter((row) => ![...used].some((specifier) => matchesLibrary(row.library, specifier)));
    expect(idle).toEqual([]);
  });
});

describe('the rules', () => {
  it('refuse to pass over a folder without modules', () => {
    expect(() => checkCheckout('/nonexistent')).toThrow('no modules');
  });

  it('let a folder import itself and what its row names', () => {
    expect(
      reasons({
        [`${SERVER}/lib/a.ts`]: 'export const a = 1;',
        [`${SERVER}/ops/b.ts`]: "import { a } from '../lib/a.ts'; import { c } from './c.ts'; export const b = a + c;",
        [`${SERVER}/ops/c.ts`]: 'export const c = 1;',
      }),
    ).toEqual([]);
  });

  it('refuse an import that the row does not name, also by way of the package name', () => {
    expect(
      reasons({
        [`${SERVER}/ops/a.ts`]: 'export const a = 1;',
        [`${SERVER}/lib/b.ts`]: "export { a } from '../ops/a.ts';",
        'packages/protocol/src/c.ts': "import { a } from '@tocsin/server/ops/a'; export const c = a;",
      }),
    ).toEqual([`folder ${SERVER}/lib/b.ts`, 'folder packages/protocol/src/c.ts']);
  });

  it('let types point left along the row, and nothing else', () => {
    const left = { [`${SERVER}/ingest/a.ts`]: 'export type A = 1; export const a = 1;' };
    const from = (source: string): string[] => reasons({ ...left, [`${SERVER}/alerts/b.ts`]: source });
    expect(from("import type { A } from '../ingest/a.ts'; export type B = A;")).toEqual([]);
    expect(from("export type B = import('../ingest/a.ts').A;")).toEqual([]);
    expect(from("import { a } from '../ingest/a.ts'; export const b = a;")).toEqual([`folder ${SERVER}/alerts/b.ts`]);
    // Under verbatimModuleSyntax this one stays at run time.
    expect(from("import { type A } from '../ingest/a.ts'; export type B = A;")).toEqual([
      `folder ${SERVER}/alerts/b.ts`,
    ]);
    expect(from("export const b = await import('../ingest/a.ts');")).toEqual([`folder ${SERVER}/alerts/b.ts`]);
  });

  it('refuse types that point right along the row', () => {
    expect(
      reasons({
        [`${SERVER}/alerts/a.ts`]: 'export type A = 1;',
        [`${SERVER}/ingest/b.ts`]: "import type { A } from '../alerts/a.ts'; export type B = A;",
      }),
    ).toEqual([`folder ${SERVER}/ingest/b.ts`]);
  });

  it('open the ports of the store to the row, and not the store', () => {
    expect(
      reasons({
        [`${SERVER}/store/ports/log.ts`]: 'export interface Log { n: 1 }',
        [`${SERVER}/store/pool.ts`]: 'export const pool = 1;',
        [`${SERVER}/workers/a.ts`]: "import type { Log } from '../store/ports/log.ts'; export type A = Log;",
        [`${SERVER}/workers/b.ts`]: "import { pool } from '../store/pool.ts'; export const b = pool;",
      }),
    ).toEqual([`folder ${SERVER}/workers/b.ts`]);
  });

  it('refuse cycles, types included, and name the way round', () => {
    const modules = checkout({
      [`${SERVER}/lib/a.ts`]: "import type { B } from './b.ts'; export type A = B;",
      [`${SERVER}/lib/b.ts`]: "import type { C } from './c.ts'; export type B = C;",
      [`${SERVER}/lib/c.ts`]: "import type { A } from './a.ts'; export type C = A;",
      [`${SERVER}/lib/d.ts`]: "import type { A } from './a.ts'; export type D = A;",
    });
    expect(findCycles(modules)).toEqual([[`${SERVER}/lib/a.ts`, `${SERVER}/lib/b.ts`, `${SERVER}/lib/c.ts`]]);
  });

  it('refuse a foreign library outside of its folder, and one without a row', () => {
    expect(
      reasons({
        [`${SERVER}/store/a.ts`]: "import pg from 'pg'; export const a = pg;",
        [`${SERVER}/alerts/b.ts`]: "import type { Pool } from 'pg'; export type B = Pool;",
        [`${SERVER}/lib/c.ts`]: "import _ from 'left-pad'; export const c = _;",
        [`${SERVER}/app/d.ts`]: "import type { Pool } from 'pg'; export type D = Pool;",
      }),
    ).toEqual([`library ${SERVER}/alerts/b.ts`, `library ${SERVER}/lib/c.ts`]);
  });

  it('keep clock, random, timers, I/O and Node out of pure folders, but not a date made of a number', () => {
    const at = `${SERVER}/detectors/a.ts`;
    expect(reasons({ [at]: 'export const a = () => Date.now() + Math.random();' })).toEqual([
      `impure ${at}`,
      `impure ${at}`,
    ]);
    expect(reasons({ [at]: 'export const a = () => setTimeout(() => new Date(), 1);' })).toHaveLength(2);
    expect(reasons({ [at]: "import { readFileSync } from 'node:fs'; export const a = readFileSync;" })).toEqual([
      `node-in-pure-folder ${at}`,
    ]);
    expect(reasons({ [at]: 'export const a = (ms: number) => new Date(ms).toISOString();' })).toEqual([]);
  });

  it('exempt tests and suites, and refuse product code that imports them or the testkit', () => {
    expect(
      reasons({
        'packages/testkit/src/kit.ts': 'export const kit = 1;',
        [`${SERVER}/bus/bus.suite.ts`]: "import { kit } from '@tocsin/testkit/kit'; export const suite = kit;",
        [`${SERVER}/bus/a.ts`]: "export { suite } from './bus.suite.ts';",
        [`${SERVER}/app/b.ts`]: "export { kit } from '@tocsin/testkit/kit';",
      }),
    ).toEqual([`test-code ${SERVER}/bus/a.ts`, `test-code ${SERVER}/app/b.ts`]);
  });

  it('refuse a folder without a row and a module that is not there', () => {
    expect(reasons({ [`${SERVER}/elsewhere/a.ts`]: 'export {};' })).toEqual([
      `folder-without-row ${SERVER}/elsewhere/a.ts`,
    ]);
    expect(reasons({ [`${SERVER}/lib/a.ts`]: "import './b.js';" })).toEqual([`no-such-module ${SERVER}/lib/a.ts`]);
  });

  it('refuse a module that only its own test reaches', () => {
    const modules = checkout({
      'packages/server/bin/tocsin.ts': "import { a } from '../src/app/a.ts'; a();",
      [`${SERVER}/app/a.ts`]:
        "import type { B } from './b.ts'; export const a = (): B => new Worker(new URL('d.js', import.meta.url));",
      [`${SERVER}/app/d.ts`]: 'export {};',
      [`${SERVER}/app/b.ts`]: 'export type B = 1;',
      [`${SERVER}/app/c.ts`]: 'export const c = 1;',
      [`${SERVER}/app/c.test.ts`]: "import { c } from './c.ts'; c;",
    });
    expect(checkReach(modules).map((violation) => violation.path)).toEqual([`${SERVER}/app/c.ts`]);
  });

  it('take public modules for entries, and nothing beside them', () => {
    const modules = checkout({
      'packages/device/src/device.ts': "import { a } from './a.ts'; export const device = a;",
      'packages/device/src/a.ts': 'export const a = 1;',
      'packages/device/src/b.ts': 'export const b = 1;',
    });
    expect(checkReach(modules).map((violation) => violation.path)).toEqual(['packages/device/src/b.ts']);
  });

  it('count the lines of a function without those of the functions within it', () => {
    const body = 'a();\n'.repeat(60);
    const nested = `export function outer() {\n${body}const inner = () => {\n${body}};\nreturn inner;\n}`;
    expect(reasons({ [`${SERVER}/lib/a.ts`]: nested })).toEqual([]);
    expect(reasons({ [`${SERVER}/lib/a.ts`]: `export function f() {\n${body}${body}}` })).toEqual([
      `function-too-long ${SERVER}/lib/a.ts`,
    ]);
  });
});

describe('the table', () => {
  it('holds every folder of the row, each with types only from its left', () => {
    for (const [index, name] of ROW.entries()) {
      expect(FOLDERS.find((row) => row.name === name)?.types).toEqual(ROW.slice(0, index));
    }
  });

  it('names in its columns only folders that have a row', () => {
    const names = new Set(FOLDERS.map((row) => row.name));
    const named = FOLDERS.flatMap((row) => [...row.imports, ...row.types]).filter((name) => name !== '*');
    expect(named.filter((name) => !names.has(name))).toEqual([]);
  });
});
