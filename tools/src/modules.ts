/**
 * Our modules and what each imports, read from the sources by a real parser (oxc). TypeScript 7 has no API to ask.
 * Failure: throws when a file does not parse.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSync } from 'oxc-parser';

/** One import, export-from, `import()` or thread's file of a module. */
export interface Import {
  /** As it is written. */
  readonly specifier: string;
  /** True when nothing of it is left at run time. */
  readonly typeOnly: boolean;
  /** True when it starts a thread: a life of its own, so no part of a cycle. */
  readonly thread?: boolean;
}

/** One source file. */
export interface Module {
  /** From the checkout's folder, with slashes. */
  readonly path: string;
  readonly imports: readonly Import[];
  /** Impure things that it touches: `Date.now`, `setTimeout`, … */
  readonly impure: readonly string[];
  /** Functions with their own lines (those of functions inside not counted). */
  readonly functions: readonly FunctionSize[];
}

/** How long a function is. */
export interface FunctionSize {
  readonly line: number;
  readonly lines: number;
}

/** A node of the syntax tree. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
}

/** The checkout's folder, from `src` as well as from `dist/src`. */
export const ROOT: string = fileURLToPath(import.meta.url).includes(`${sep}dist${sep}`)
  ? join(dirname(fileURLToPath(import.meta.url)), '../../..')
  : join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Where our TypeScript lives. */
const SOURCES: readonly string[] = [
  'packages/protocol/src',
  'packages/device/src',
  'packages/client/src',
  'packages/server/src',
  'packages/server/bin',
  'packages/testkit/src',
  'bench/src',
  'bench/bin',
  'tools/src',
  'tools/bin',
];

const IMPURE_GLOBALS: readonly string[] = [
  'setTimeout',
  'setInterval',
  'setImmediate',
  'queueMicrotask',
  'performance',
  'fetch',
  'process',
  'console',
  'crypto',
];

/** True for tests and suites: they may import whatever they test with. */
export function isTest(path: string): boolean {
  return /\.(test|suite)\.tsx?$/.test(path);
}

/** Every module under the folders of {@link SOURCES}, tests included. */
export function readModules(root: string = ROOT): Module[] {
  return SOURCES.flatMap((folder) => sourceFiles(join(root, folder))).map((file) =>
    parseModule(relative(root, file).split(sep).join('/'), readFileSync(file, 'utf8')),
  );
}

/** Parses one module. `path` names it in messages and decides the language. */
export function parseModule(path: string, source: string): Module {
  const { program, errors } = parseSync(path, source);
  const first = errors[0];
  if (first !== undefined) throw new Error(`${path} does not parse: ${first.message}`);
  const imports: Import[] = [];
  const impure = new Set<string>();
  const spans: Node[] = [];
  walk(program, (node) => {
    const found = importOf(node);
    if (found !== null) imports.push(found);
    const name = impureName(node);
    if (name !== null) impure.add(name);
    if (/^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type)) spans.push(node);
  });
  return { path, imports, impure: [...impure], functions: ownLines(spans, source) };
}

/**
 * The path that an import of `from` leads to, for our own modules (with or without the extension in the specifier);
 * null for foreign and for Node's.
 */
export function resolveImport(from: string, specifier: string): string | null {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier);
  const own = /^@tocsin\/([a-z]+)\/(.+)$/.exec(specifier);
  if (own === null) return null;
  const [, name = '', file = ''] = own;
  const folder = name === 'bench' || name === 'tools' ? name : `packages/${name}`;
  return `${folder}/src/${file}.ts`;
}

function sourceFiles(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function walk(value: unknown, visit: (node: Node) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) walk(item, visit);
    return;
  }
  if (!isNode(value)) return;
  visit(value);
  for (const field of Object.values(value)) if (typeof field === 'object') walk(field, visit);
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

function importOf(node: Node): Import | null {
  const worker = workerFile(node);
  if (worker !== null) return { specifier: worker, typeOnly: false, thread: true };
  const source = node['source'];
  if (!isNode(source) || typeof source['value'] !== 'string') return null;
  const specifier = source['value'];
  switch (node.type) {
    case 'ImportDeclaration':
      return { specifier, typeOnly: node['importKind'] === 'type' };
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
      return { specifier, typeOnly: node['exportKind'] === 'type' };
    case 'ImportExpression':
      return { specifier, typeOnly: false };
    case 'TSImportType':
      return { specifier, typeOnly: true };
    default:
      return null;
  }
}

/** `new URL('x.js', import.meta.url)`: how a thread's module is named; the built file stands for its source. */
function workerFile(node: Node): string | null {
  if (node.type !== 'NewExpression' || nameOf(node['callee']) !== 'URL') return null;
  const [file, base] = listOf(node['arguments']);
  if (!isNode(file) || typeof file['value'] !== 'string' || !isNode(base)) return null;
  if (!isNode(base['object']) || base['object'].type !== 'MetaProperty') return null;
  const name = /^(?:\.\/)?((?:\.\.\/)*[^:]+)\.[jt]s$/.exec(file['value'])?.[1];
  return name === undefined ? null : `./${name}.ts`;
}

function impureName(node: Node): string | null {
  if (node.type === 'NewExpression') {
    return nameOf(node['callee']) === 'Date' && listOf(node['arguments']).length === 0 ? 'new Date()' : null;
  }
  if (node.type === 'CallExpression') {
    const name = nameOf(node['callee']);
    return name !== null && IMPURE_GLOBALS.includes(name) ? name : null;
  }
  if (node.type !== 'MemberExpression') return null;
  const object = nameOf(node['object']);
  if (object === null) return null;
  const member = `${object}.${nameOf(node['property']) ?? ''}`;
  if (member === 'Date.now' || member === 'Math.random') return member;
  return IMPURE_GLOBALS.includes(object) ? member : null;
}

function nameOf(value: unknown): string | null {
  return isNode(value) && value.type === 'Identifier' && typeof value['name'] === 'string' ? value['name'] : null;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Lines of each function less the lines of the functions within it, so that a factory counts by its own statements. */
function ownLines(functions: readonly Node[], source: string): FunctionSize[] {
  const starts = [0, ...[...source.matchAll(/\n/g)].map((match) => match.index + 1)];
  const lineAt = (offset: number): number => starts.findLastIndex((start) => start <= offset) + 1;
  return functions.map((outer) => {
    const lines = lineAt(outer.end) - lineAt(outer.start) + 1;
    const inside = functions.filter((inner) => inner !== outer && inner.start >= outer.start && inner.end <= outer.end);
    const covered = new Set<number>();
    for (const inner of inside) {
      // An inner function counts as one line of the outer one, as a call of it would.
      for (let line = lineAt(inner.start) + 1; line <= lineAt(inner.end); line += 1) covered.add(line);
    }
    return { line: lineAt(outer.start), lines: lines - covered.size };
  });
}
