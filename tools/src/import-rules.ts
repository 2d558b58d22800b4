/**
 * Enforces the table of `import-table.ts`, and what goes with it: no cycles (types included), a foreign library only in
 * its folder, no impurity in pure folders, no module that nothing reaches, no function past 70 lines of its own. Pure but for {@link checkCheckout}.
 */
import { FOLDERS, type FolderRow, LIBRARIES, NOT_PRODUCT, PUBLIC_MODULES } from './import-table.ts';
import { isTest, type Module, readModules, resolveImport } from './modules.ts';

/** Why something is not allowed. */
export type Reason =
  | 'folder-without-row'
  | 'no-such-module'
  | 'folder'
  | 'test-code'
  | 'library'
  | 'node-in-pure-folder'
  | 'impure'
  | 'cycle'
  | 'unreachable'
  | 'function-too-long';

/** One breach of the rules. */
export interface Violation {
  readonly reason: Reason;
  readonly path: string;
  readonly detail: string;
}

/** The most lines that a function may have of its own. */
const FUNCTION_LINES = 70;

/** Reads the checkout and checks it. Throws when it sees no modules: a check that sees nothing must not pass.*/
export function checkCheckout(root?: string): { readonly modules: number; readonly violations: Violation[] } {
  const modules = readModules(root);
  if (modules.length === 0) throw new Error('the import rules saw no modules');
  return { modules: modules.length, violations: [...checkModules(modules), ...checkReach(modules)] };
}

/** All violations, in the order of the modules. Tests and suites are exempt from the table. */
export function checkModules(modules: readonly Module[]): Violation[] {
  const paths = new Set(modules.map((module) => module.path));
  const product = modules.filter((module) => !isTest(module.path));
  return [
    ...product.flatMap((module) => checkModule(module, paths)),
    ...findCycles(product).map((cycle) => ({
      reason: 'cycle' as const,
      path: cycle[0] ?? '',
      detail: [...cycle, cycle[0]].join(' -> '),
    })),
  ];
}

function checkModule(module: Module, paths: ReadonlySet<string>): Violation[] {
  const breach = (reason: Reason, detail: string): Violation => ({ reason, path: module.path, detail });
  const row = folderOf(module.path);
  if (row === undefined) return [breach('folder-without-row', 'add its folder to tools/src/import-table.ts')];
  const long = module.functions
    .filter((one) => one.lines > FUNCTION_LINES)
    .map((one) =>
      breach('function-too-long', `line ${one.line}: ${one.lines} lines of its own, at most ${FUNCTION_LINES}`),
    );
  const impure = row.pure ? module.impure.map((name) => breach('impure', `${name} in a pure folder`)) : [];
  const imports = module.imports.flatMap(({ specifier, typeOnly }): Violation[] => {
    const target = resolveImport(module.path, specifier);
    if (target === null) {
      // The folder that joins the others may name the types of their libraries.
      if (typeOnly && row.imports.includes('*')) return [];
      return checkForeign(row, module.path, specifier, breach);
    }
    if (target.endsWith('.json')) return [];
    if (!paths.has(target)) return [breach('no-such-module', specifier)];
    if (isTest(target)) return [breach('test-code', specifier)];
    return checkOwn(row, target, typeOnly, breach);
  });
  return [...long, ...impure, ...imports];
}

type Breach = (reason: Reason, detail: string) => Violation;

function checkOwn(row: FolderRow, target: string, typeOnly: boolean, breach: Breach): Violation[] {
  const to = folderOf(target);
  if (to === undefined || to.name === row.name) return [];
  if (NOT_PRODUCT.includes(to.name) && !NOT_PRODUCT.includes(row.name)) return [breach('test-code', target)];
  if (row.imports.includes('*') || row.imports.includes(to.name)) return [];
  if (typeOnly && row.types.includes(to.name)) return [];
  return [breach('folder', `${row.name} may not import ${typeOnly ? 'types ' : ''}from ${to.name}: ${target}`)];
}

function checkForeign(row: FolderRow, path: string, specifier: string, breach: Breach): Violation[] {
  if (specifier.startsWith('node:')) {
    return row.pure ? [breach('node-in-pure-folder', specifier)] : [];
  }
  if (NOT_PRODUCT.includes(row.name)) return [];
  const allowed = libraryPaths(specifier);
  if (allowed === undefined) return [breach('library', `${specifier} has no row in tools/src/import-table.ts`)];
  if (allowed.some((folder) => path.startsWith(`${folder}/`))) return [];
  return [breach('library', `${specifier} may be imported in ${allowed.join(', ')} only`)];
}

function libraryPaths(specifier: string): readonly string[] | undefined {
  return LIBRARIES.find((row) => matchesLibrary(row.library, specifier))?.paths;
}

/** True when `specifier` is the library `library`, a file of it, or, for `@scope/*`, anything of that scope. */
export function matchesLibrary(library: string, specifier: string): boolean {
  if (library.endsWith('/*')) return specifier.startsWith(library.slice(0, -1));
  return specifier === library || specifier.startsWith(`${library}/`);
}

/** The row of a module: the longest path that fits. */
function folderOf(path: string): FolderRow | undefined {
  return FOLDERS.filter((row) => path.startsWith(`${row.path}/`)).toSorted((a, b) => b.path.length - a.path.length)[0];
}

/**
 * Modules of the product that no entry reaches: entries are the commands in `bin`, the public modules of what we publish,
 * and whatever tests, measures or checks the product without being a test itself. A module that only its own test
 * imports is dead.
 */
export function checkReach(modules: readonly Module[]): Violation[] {
  const product = new Map(modules.filter((module) => !isTest(module.path)).map((module) => [module.path, module]));
  const isEntry = (path: string): boolean =>
    path.includes('/bin/') || PUBLIC_MODULES.includes(path) || NOT_PRODUCT.includes(folderOf(path)?.name ?? '');
  const reached = new Set([...product.keys()].filter(isEntry));
  for (const path of reached) {
    for (const { specifier } of product.get(path)?.imports ?? []) {
      const target = resolveImport(path, specifier);
      if (target !== null && product.has(target)) reached.add(target);
    }
  }
  return [...product.keys()]
    .filter((path) => !reached.has(path))
    .map((path) => ({ reason: 'unreachable', path, detail: 'no command and no public module leads to it' }));
}

/** Cycles of modules, each once, types included (Tarjan's strongly connected components, one way round each). */
export function findCycles(modules: readonly Module[]): string[][] {
  const graph = new Map(
    modules.map((module) => [
      module.path,
      module.imports.flatMap(({ specifier, thread }) =>
        thread === true ? [] : (resolveImport(module.path, specifier) ?? []),
      ),
    ]),
  );
  return components(graph)
    .filter((group) => group.length > 1 || graph.get(group[0] ?? '')?.includes(group[0] ?? '') === true)
    .map((group) => wayRound(graph, group));
}

function components(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (node: string): void => {
    index.set(node, index.size);
    low.set(node, index.size - 1);
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!graph.has(next)) continue;
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(node, Math.min(low.get(node) ?? 0, low.get(next) ?? 0));
    }
    if (low.get(node) === index.get(node)) found.push(stack.splice(stack.indexOf(node)).toSorted());
  };
  for (const node of graph.keys()) if (!index.has(node)) visit(node);
  return found;
}

/** The shortest way from the group's first module back to it. */
function wayRound(graph: ReadonlyMap<string, readonly string[]>, group: readonly string[]): string[] {
  const start = group[0] ?? '';
  const ways: string[][] = [[start]];
  const seen = new Set<string>();
  for (let way = ways.shift(); way !== undefined; way = ways.shift()) {
    for (const next of graph.get(way.at(-1) ?? '') ?? []) {
      if (next === start) return way;
      if (!group.includes(next) || seen.has(next)) continue;
      seen.add(next);
      ways.push([...way, next]);
    }
  }
  return [...group];
}
