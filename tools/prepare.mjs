/**
 * Makes a checkout ready to run: installs packages and builds, each only when it is needed. Plain JavaScript on Node's
 * own modules, because it runs before anything is installed.
 *
 * Guarantees: does nothing, and writes nothing, when nothing changed; two processes that prepare the same checkout at
 * once take turns (lock file `.tocsin/lock`); says on stderr what it does before it does it.
 * Failure: throws a PrepareError whose message is one readable text; `.tocsin` never claims work that did not end.
 */
import { spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  constants as access,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { constants, hostname, userInfo } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** The checkout's folder. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const STATE = join(ROOT, '.tocsin');
const LOCK = join(STATE, 'lock');
/** A lock that its holder has not touched for this long belongs to nobody. */
const LOCK_STALE_MS = 20_000;
const LOCK_TOUCH_MS = 2_000;
const LOCK_POLL_MS = 250;

/** Something that keeps the checkout from being ready. `exitCode`: 78 the folder or Node does not fit, 1 a step failed. */
class PrepareError extends Error {
  /** @param {string} message @param {1 | 78} exitCode */
  constructor(message, exitCode) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** A child ended because this process was told to end; `signal` is that signal. */
class Interrupted extends Error {
  /** @param {NodeJS.Signals} signal */
  constructor(signal) {
    super(`interrupted by ${signal}`);
    this.signal = signal;
  }
}

/** @param {string} line */
function say(line) {
  process.stderr.write(`tocsin: ${line}\n`);
}

/**
 * Installs and builds what is missing.
 * @param {{ projects: readonly string[], tolerant?: boolean }} options projects: folders for `tsc -b`; tolerant: a failed
 * build is an answer, not an error.
 * @returns {Promise<{ built: boolean }>} built: false when the build failed (only with tolerant).
 */
async function prepare({ projects, tolerant = false }) {
  checkNode();
  if (isInstalled() && isBuilt(projects)) return { built: true };
  const watch = watchSignals();
  const release = await takeLock(watch).catch((error) => {
    watch.close();
    throw error;
  });
  try {
    if (!isInstalled()) await install(watch);
    return { built: isBuilt(projects) || (await build(projects, tolerant, watch)) };
  } finally {
    release();
    watch.close();
  }
}

/**
 * {@link prepare} for a command: says what is wrong and ends the process with the exit code for it (128 + n after a signal).
 * @param {Parameters<typeof prepare>[0]} options
 */
export async function ready(options) {
  try {
    return await prepare(options);
  } catch (error) {
    if (error instanceof Interrupted) process.exit(128 + constants.signals[error.signal]);
    if (!(error instanceof PrepareError)) throw error;
    say(error.message);
    return process.exit(error.exitCode);
  }
}

const SIGNALS = /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP']);

/**
 * From now on a signal ends what runs, once, and nothing new begins.
 * @typedef {ReturnType<typeof watchSignals>} Watch
 */
function watchSignals() {
  const watch = {
    /** @type {(typeof SIGNALS)[number] | null} */
    told: null,
    /** What runs now. @type {{ kill(signal: string): unknown } | null} */
    child: null,
    close: () => {
      for (const signal of SIGNALS) process.off(signal, hear);
    },
    check: () => {
      if (watch.told !== null) throw new Interrupted(watch.told);
    },
  };
  const hear = (/** @type {(typeof SIGNALS)[number]} */ signal) => {
    if (watch.told === null) watch.child?.kill(signal);
    watch.told ??= signal;
  };
  for (const signal of SIGNALS) process.on(signal, hear);
  return watch;
}

/** The arguments that run a tool of `node_modules` with this Node. @param {string} path */
export function tool(path) {
  return join(ROOT, 'node_modules', path);
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 11)) return;
  throw new PrepareError(`Node 20.11 or newer is needed; this is ${process.versions.node}`, 78);
}

// Packages ------------------------------------------------------------------------------------------------------------

const RECORD = join(ROOT, 'node_modules', '.tocsin-installed');

function isInstalled() {
  const lock = readIfThere(join(ROOT, 'package-lock.json'));
  if (lock === null) throw new PrepareError(`package-lock.json is missing in ${ROOT}`, 78);
  const mark = installMark(lock);
  if (readIfThere(RECORD) === mark) return true;
  if (!holdsEverything(lock)) return false;
  record(RECORD, mark);
  return true;
}

/** Native packages differ by platform, so the mark does too. @param {string} lock */
function installMark(lock) {
  return `${createHash('sha256').update(lock).digest('hex')} ${process.platform} ${process.arch}`;
}

/** True when node_modules holds what the lock file names (npm writes down what it put there). @param {string} text */
function holdsEverything(text) {
  const hidden = readIfThere(join(ROOT, 'node_modules', '.package-lock.json'));
  if (hidden === null) return false;
  const wanted = JSON.parse(text).packages;
  const there = JSON.parse(hidden).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (!path.includes('node_modules/')) return true;
    const found = there[path];
    if (found !== undefined) return entry.link === true ? found.link === true : found.version === entry.version;
    return entry.optional === true && !isForThisPlatform(entry);
  });
}

/** An optional package counts as missing only when it is surely meant for this platform. @param {any} entry */
function isForThisPlatform(entry) {
  return (
    entry.libc === undefined &&
    entry.os?.includes(process.platform) === true &&
    entry.cpu?.includes(process.arch) === true
  );
}

/**
 * Not `npm ci`: that refuses a lock file made where the registry lacks the native packages of other platforms. The lock
 * file decides the versions all the same, and `--no-save` leaves it as it is.
 * @param {Watch} watch
 */
async function install(watch) {
  say('installing packages (npm install) …');
  const since = Date.now();
  const cache = ownCache();
  try {
    await run(...npm(), {
      watch,
      what: 'npm install',
      env: cache === null ? {} : { npm_config_cache: cache },
      args: [
        'install',
        '--no-save',
        '--include=dev',
        '--include=optional',
        '--no-audit',
        '--no-fund',
        '--no-update-notifier',
        '--loglevel=error',
      ],
    });
  } finally {
    if (cache !== null) rmSync(cache, { recursive: true, force: true });
  }
  record(RECORD, installMark(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')));
  say(`packages are installed (${seconds(since)})`);
}

/** @returns {[string, string[]]} the program and first arguments that run npm */
function npm() {
  const path = process.env.npm_execpath;
  return path !== undefined && /npm-cli\.c?js$/.test(path) ? [process.execPath, [path]] : ['npm', []];
}

/** A folder for npm's cache when the usual one (HOME is absent, closed or someone else's) cannot be written; else null. */
function ownCache() {
  const home = process.env.HOME;
  const usual = process.env.npm_config_cache ?? (home === undefined || home === '' ? null : join(home, '.npm'));
  if (usual !== null && canWriteUnder(usual)) return null;
  return mkdtempSync(join(STATE, 'npm-cache-'));
}

/** @param {string} folder */
function canWriteUnder(folder) {
  try {
    mkdirSync(folder, { recursive: true });
    const probe = join(folder, `.tocsin-${randomUUID()}`);
    writeFileSync(probe, '');
    unlinkSync(probe);
    return true;
  } catch {
    return false;
  }
}

// Build ---------------------------------------------------------------------------------------------------------------

/** @param {readonly string[]} projects */
function stampPath(projects) {
  return join(STATE, `built-${projects.map((project) => project.replaceAll('/', '-').replace('.', 'all')).join('+')}`);
}

/** @param {readonly string[]} projects */
function isBuilt(projects) {
  return readIfThere(stampPath(projects)) === sourceMark() && missingOutput(projects) === undefined;
}

/** @param {readonly string[]} projects */
function missingOutput(projects) {
  const folders = projects.includes('.') ? packages() : projects;
  return folders.find((folder) => !existsSync(join(ROOT, folder, 'dist', '.tsbuildinfo')));
}

/** Folders of the workspaces that are built. */
function packages() {
  return JSON.parse(readFileSync(join(ROOT, 'tsconfig.json'), 'utf8')).references.map(
    (/** @type {{path: string}} */ r) => r.path,
  );
}

/** Name, size and time of every file that the build reads: cheap, and changes whenever one of them does. */
function sourceMark() {
  const hash = createHash('sha256');
  hash.update(readIfThere(RECORD) ?? '');
  const files = ['tsconfig.base.json', 'tsconfig.json'].map((name) => join(ROOT, name));
  for (const folder of packages()) {
    files.push(join(ROOT, folder, 'tsconfig.json'), join(ROOT, folder, 'package.json'));
    for (const part of ['src', 'bin']) files.push(...filesUnder(join(ROOT, folder, part)));
  }
  for (const file of files) {
    const stat = statSync(file, { throwIfNoEntry: false });
    hash.update(`${relative(ROOT, file)} ${stat?.size} ${stat?.mtimeMs}\n`);
  }
  return hash.digest('hex');
}

/** @param {string} folder @returns {string[]} */
function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** @param {readonly string[]} projects @param {boolean} tolerant @param {Watch} watch */
async function build(projects, tolerant, watch) {
  say('building …');
  const since = Date.now();
  const mark = sourceMark();
  try {
    await run(process.execPath, [tool('typescript/bin/tsc')], { watch, what: 'tsc -b', args: ['-b', ...projects] });
  } catch (error) {
    if (!tolerant || !(error instanceof PrepareError)) throw error;
    say('the build has errors');
    return false;
  }
  linkCommand();
  record(stampPath(projects), mark);
  say(`built (${seconds(since)})`);
  return true;
}

// One at a time -------------------------------------------------------------------------------------------------------

/** Waits for the lock; answers the function that gives it back. @param {Watch} watch */
async function takeLock(watch) {
  makeState();
  const own = `${process.pid} ${hostname()} ${randomUUID()}`;
  let told = false;
  while (!createExclusively(LOCK, own)) {
    breakStaleLock();
    if (!told && existsSync(LOCK)) say('waiting for another process that prepares this folder …');
    told = true;
    await wait(LOCK_POLL_MS);
    watch.check();
  }
  const touch = setInterval(() => {
    try {
      utimesSync(LOCK, new Date(), new Date());
    } catch {
      // Gone or not ours any more: nothing to keep alive.
    }
  }, LOCK_TOUCH_MS);
  touch.unref();
  return () => {
    clearInterval(touch);
    if (readIfThere(LOCK) === own) rmSync(LOCK, { force: true });
  };
}

function makeState() {
  try {
    accessSync(ROOT, access.W_OK);
    mkdirSync(STATE, { recursive: true });
    accessSync(STATE, access.W_OK);
  } catch {
    throw new PrepareError(
      `packages must be installed or built first, but ${userName()} may not write to ${ROOT}; ` +
        'run `npm start` once as the owner of that folder, or give the folder to this user (chown -R)',
      78,
    );
  }
}

function userName() {
  try {
    return userInfo().username;
  } catch {
    return `user ${process.getuid?.() ?? ''}`.trim();
  }
}

/** `npx tocsin`: npm links a workspace's command only when its file is there, and it installs before we build. */
function linkCommand() {
  const command = join(ROOT, 'packages/server/dist/bin/tocsin.js');
  const link = join(ROOT, 'node_modules/.bin/tocsin');
  if (!existsSync(command)) return;
  chmodSync(command, 0o755);
  if (existsSync(link)) return;
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync(relative(dirname(link), command), link);
}

/** @param {string} path @param {string} text */
function createExclusively(path, text) {
  try {
    writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false;
    throw new PrepareError(`cannot write ${path}: ${/** @type {Error} */ (error).message}`, 78);
  }
}

/** Takes a lock away whose holder is gone. Looks again after the move: what was moved may be a newer lock. */
function breakStaleLock() {
  const seen = readIfThere(LOCK);
  const age = Date.now() - (statSync(LOCK, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (seen === null || (age < LOCK_STALE_MS && !holderIsGone(seen))) return;
  const aside = join(STATE, `lock-${randomUUID()}`);
  try {
    renameSync(LOCK, aside);
    if (readIfThere(aside) !== seen) linkSync(aside, LOCK);
  } catch {
    // Someone else was quicker; the next round sees what stands.
  }
  rmSync(aside, { force: true });
}

/** @param {string} lock */
function holderIsGone(lock) {
  const [pid = '', host] = lock.split(' ');
  if (host !== hostname() || !/^\d+$/.test(pid)) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'ESRCH';
  }
}

// Small things --------------------------------------------------------------------------------------------------------

/**
 * Runs a program with its output on our stderr. A signal to us goes to it, once.
 * @param {string} program @param {string[]} first
 * @param {{ watch: Watch, what: string, args: string[], env?: Record<string, string> }} options
 */
async function run(program, first, { watch, what, args, env = {} }) {
  watch.check();
  const child = spawn(program, [...first, ...args], {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    env: { ...process.env, ...env },
  });
  watch.child = child;
  const end = await new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new PrepareError(`${what} cannot run: ${error.message}`, 1)));
    child.once('close', (status, signal) => resolve(status ?? signal));
  });
  watch.child = null;
  watch.check();
  if (end !== 0) throw new PrepareError(`${what} failed (${end})`, 1);
}

/** @param {string} path */
function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** Writes a mark in one step; a folder that cannot be written only means looking closer the next time. @param {string} path @param {string} text */
function record(path, text) {
  const fresh = `${path}.${process.pid}`;
  try {
    writeFileSync(fresh, text);
    renameSync(fresh, path);
  } catch {
    rmSync(fresh, { force: true });
  }
}

/** @param {number} since */
export function seconds(since) {
  return `${((Date.now() - since) / 1000).toFixed(1)} s`;
}
