/**
 * Does a fresh clone start? Clones the last commit into a folder with a space in its path, with an empty HOME, runs
 * `npm start` there until `/health/ready` says 200, ends it by SIGTERM through npm, and does it again to see that the
 * second time neither installs nor builds, and that the command `npx tocsin` is there. As this user, and as `nobody` when this user is root.
 *
 * One line for each check on stdout; exit code 1 when one failed.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { ROOT, seconds } from './prepare.mjs';

const FIRST_START_MS = 600_000;
const SECOND_START_MS = 60_000;
const END_MS = 30_000;

const users = [{ name: 'this user', ids: {} }];
if (process.getuid?.() === 0) users.push({ name: 'nobody', ids: accountOf('nobody') });
const totals = { passed: 0, failed: 0 };
for (const { name, ids } of users) {
  const folder = mkdtempSync(join(tmpdir(), 'tocsin fresh '));
  try {
    const place = makeClone(folder, ids);
    const first = await check(`a fresh clone starts as ${name}`, () => startAndEnd(place, FIRST_START_MS));
    if (first === null) continue;
    await check(`the second start as ${name} neither installs nor builds`, async () => {
      const { said, detail } = await startAndEnd(place, SECOND_START_MS);
      if (/installing|building/.test(said)) throw new Error(`it said: ${said}`);
      return { said, detail };
    });
    await check(`npx tocsin runs as ${name}`, async () => {
      /** @type {import('node:child_process').ExecFileSyncOptionsWithStringEncoding} */
      const options = { cwd: place.clone, env: cleanEnvironment(place.home), encoding: 'utf8', ...ids };
      return { detail: execFileSync('npx', ['--no', '--', 'tocsin', '--version'], options).trim() };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
if (process.env.TOCSIN_TOTALS !== undefined) writeFileSync(process.env.TOCSIN_TOTALS, JSON.stringify(totals));
process.exitCode = totals.failed === 0 ? 0 : 1;

/**
 * @template {{ detail: string }} Result
 * @param {string} name @param {() => Promise<Result>} work
 */
async function check(name, work) {
  try {
    const result = await work();
    totals.passed += 1;
    process.stdout.write(`passed: ${name} (${result.detail})\n`);
    return result;
  } catch (error) {
    totals.failed += 1;
    process.stdout.write(`FAILED: ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    return null;
  }
}

/** @param {string} name */
function accountOf(name) {
  const id = (/** @type {string} */ flag) => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** @param {string} folder @param {{ uid?: number, gid?: number }} ids */
function makeClone(folder, ids) {
  const place = { clone: join(folder, 'a clone'), home: join(folder, 'home'), ids };
  mkdirSync(place.home);
  execFileSync('git', ['clone', '--quiet', '--no-hardlinks', ROOT, place.clone], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (ids.uid !== undefined) giveAway(folder, ids.uid, ids.gid ?? ids.uid);
  return place;
}

/** @param {string} folder @param {number} uid @param {number} gid */
function giveAway(folder, uid, gid) {
  chownSync(folder, uid, gid);
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    chownSync(join(entry.parentPath ?? entry.path, entry.name), uid, gid);
  }
}

/** What a person's shell would have: nothing of this run's npm, none of our settings, the registry of this machine. @param {string} home */
function cleanEnvironment(home) {
  const kept = Object.entries(process.env).filter(([name]) =>
    /^(PATH|LANG|TZ|TMPDIR|.*_proxy|.*CERT.*|NODE_EXTRA_CA_CERTS)$/i.test(name),
  );
  const registry = execFileSync('npm', ['config', 'get', 'registry'], { cwd: ROOT, encoding: 'utf8' }).trim();
  return { ...Object.fromEntries(kept), HOME: home, PORT: '0', npm_config_registry: registry };
}

/**
 * @param {{ clone: string, home: string, ids: { uid?: number, gid?: number } }} place @param {number} mostMs
 */
async function startAndEnd({ clone, home, ids }, mostMs) {
  const since = Date.now();
  const child = spawn('npm', ['start'], {
    cwd: clone,
    env: cleanEnvironment(home),
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...ids,
  });
  let out = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
  /** @type {Promise<number | string>} */
  const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown')));
  child.once('error', (error) => (said += error.message));
  try {
    await untilReady(() => out, ended, since + mostMs);
    const detail = `ready after ${seconds(since)}`;
    child.kill('SIGTERM');
    const code = await Promise.race([ended, wait(END_MS, 'no end in time')]);
    const changed = execFileSync('git', ['-c', 'safe.directory=*', 'status', '--porcelain'], {
      cwd: clone,
      encoding: 'utf8',
    });
    if (changed !== '') throw new Error(`the start changed files of the clone: ${changed}`);
    if (code !== 0) throw new Error(`after SIGTERM: ${code}`);
    return { said, detail };
  } catch (error) {
    throw new Error(`${String(error)}\n${said}${out}`.trimEnd(), { cause: error });
  } finally {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Nothing of it is left, as it should be.
    }
  }
}

/** @param {() => string} out @param {Promise<number | string>} ended @param {number} deadline Unix ms */
async function untilReady(out, ended, deadline) {
  while (Date.now() < deadline) {
    const address = /"address":"([^"]+)"/.exec(out())?.[1];
    if (address !== undefined) {
      const status = await fetch(`${address}/health/ready`).then(
        (answer) => answer.status,
        () => 0,
      );
      if (status === 200) return;
    }
    const end = await Promise.race([ended, wait(200, null)]);
    if (end !== null) throw new Error(`it ended with ${end} before it was ready`);
  }
  throw new Error('it was not ready in time');
}
