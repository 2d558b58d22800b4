/**
 * Who may import whom: the table, as data. `import-rules.ts` enforces it, ARCHITECTURE.md shows it (a test compares).
 * A new folder or library gets its row here first.
 */

import { markdownTable } from './markdown.ts';

/** One folder of our code. */
export interface FolderRow {
  /** Short name, as the other rows use it. */
  readonly name: string;
  /** Where it is, from the checkout's folder; the longest path that fits a module is its folder. */
  readonly path: string;
  /** Names of folders that it may import; `*`: every one. Its own is always allowed. */
  readonly imports: readonly string[];
  /** Names of folders that it may import types from, beyond `imports`. */
  readonly types: readonly string[];
  /** True: no clock, random, timer, I/O, and so none of Node's modules. */
  readonly pure: boolean;
}

/** One foreign library, or a family of them (`@fastify/*`), and the only paths that may import it. */
export interface LibraryRow {
  readonly library: string;
  readonly paths: readonly string[];
}

/** The way of a reading, from left to right. Types may be imported from a folder further left, nothing else. */
export const ROW = [
  'transports',
  'ingest',
  'profiles',
  'detectors',
  'workers',
  'alerts',
  'realtime',
  'notify',
  'control',
] as const;

const SERVER = 'packages/server/src';
const PORTS: readonly string[] = ['protocol', 'lib', 'ops', 'store/ports', 'bus/ports'];
const PURE_FOLDERS: readonly string[] = ['profiles', 'detectors'];

function folder(name: string, imports: readonly string[], path = `${SERVER}/${name}`): FolderRow {
  return { name, path, imports, types: [], pure: false };
}

/** The folders, from the ground up. */
export const FOLDERS: readonly FolderRow[] = [
  { ...folder('protocol', [], 'packages/protocol/src'), pure: true },
  folder('device', ['protocol'], 'packages/device/src'),
  folder('client', ['protocol'], 'packages/client/src'),
  folder('lib', []),
  folder('ops', ['lib']),
  folder('store/ports', ['protocol', 'lib', 'ops']),
  folder('bus/ports', ['protocol', 'lib', 'ops']),
  folder('store', ['protocol', 'lib', 'ops', 'store/ports']),
  folder('bus', ['protocol', 'lib', 'ops', 'bus/ports', 'store/ports']),
  ...['identity', 'registry', 'billing', 'audit'].map((name) => folder(name, PORTS)),
  ...ROW.map((name, index) => ({
    ...folder(name, PURE_FOLDERS.includes(name) ? ['protocol', 'lib'] : PORTS),
    types: ROW.slice(0, index),
    pure: PURE_FOLDERS.includes(name),
  })),
  folder('app', ['*']),
  folder('server/bin', ['app', 'lib', 'protocol'], 'packages/server/bin'),
  folder('testkit', ['*'], 'packages/testkit'),
  folder('bench', ['*'], 'bench'),
  folder('tools', ['*'], 'tools'),
];

/** Folders that the product never imports: they exist to test, measure and check it. */
export const NOT_PRODUCT: readonly string[] = ['testkit', 'bench', 'tools'];

/**
 * Modules that outsiders import: the doors of what we publish. No command of ours need lead to them; what lies behind
 * them has to be reached from them or from a command. `knip.json` names the same, and so does the page of the package.
 */
export const PUBLIC_MODULES: readonly string[] = [
  ...['challenge', 'device', 'envelope', 'key', 'mqtt-sender'].map((name) => `packages/device/src/${name}.ts`),
  ...['browser', 'node', 'stream'].map((name) => `packages/client/src/${name}.ts`),
];

/** The foreign libraries of the product. */
export const LIBRARIES: readonly LibraryRow[] = [
  { library: 'typebox', paths: ['packages/protocol/src', `${SERVER}/transports/http`] },
  { library: 'aedes', paths: [`${SERVER}/transports/mqtt`] },
  { library: 'mqtt', paths: [`${SERVER}/transports/mqtt`] },
  { library: 'fastify', paths: [`${SERVER}/transports/http`] },
  { library: '@fastify/*', paths: [`${SERVER}/transports/http`] },
  { library: 'ws', paths: [`${SERVER}/transports/websocket`, 'packages/client/src'] },
  { library: 'pg', paths: [`${SERVER}/store`] },
  { library: 'pg-copy-streams', paths: [`${SERVER}/store`] },
  { library: 'ioredis', paths: [`${SERVER}/bus/redis`] },
  { library: 'cockatiel', paths: [`${SERVER}/bus/redis`] },
  { library: 'jose', paths: [`${SERVER}/identity`] },
  { library: '@node-rs/argon2', paths: [`${SERVER}/identity`] },
  { library: '@slack/webhook', paths: [`${SERVER}/notify/slack`] },
  { library: 'nodemailer', paths: [`${SERVER}/notify/email`] },
  { library: 'pino', paths: [`${SERVER}/ops`] },
  { library: 'pino-pretty', paths: [`${SERVER}/ops`] },
  { library: 'prom-client', paths: [`${SERVER}/ops`] },
];

/** The table of folders as Markdown, for ARCHITECTURE.md. */
export function folderTable(): string {
  const rows = FOLDERS.map((row) => [
    `\`${row.path === `${SERVER}/${row.name}` ? row.name : row.path}\``,
    row.imports.includes('*') ? 'everything' : row.imports.join(', ') || 'nothing of ours',
    row.types.join(', '),
    row.pure ? 'yes' : '',
  ]);
  return markdownTable(['folder', 'may import', 'types also from', 'pure'], rows);
}

/** The table of libraries as Markdown, for ARCHITECTURE.md. */
export function libraryTable(): string {
  const rows = LIBRARIES.map((row) => [
    `\`${row.library}\``,
    row.paths.map((path) => `\`${path.replace(`${SERVER}/`, '')}\``).join(', '),
  ]);
  return markdownTable(['library', 'only in'], rows);
}
