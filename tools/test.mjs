/**
 * `npm test [-- vitest arguments]`: makes the checkout ready, runs every test that this machine can run, says what was
 * skipped and why, and ends with one line `N passed, N failed`.
 *
 * Failure: exit code 1 when a test failed, a file did not load, the build has errors, or, with CI set, when anything was
 * skipped but for data that lies outside the checkout.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ready, ROOT, tool } from './prepare.mjs';

const CI = !['', '0', 'false', undefined].includes(process.env.CI);
/** A skip with this name is excused in CI: the data lies beside the checkout. */
const EXCUSED = /needs (shared-data:|\.\.\/shared)/;

const { built } = await ready({ projects: ['.'], tolerant: true });
const folder = mkdtempSync(join(tmpdir(), 'tocsin-test-'));
try {
  const report = join(folder, 'report.json');
  const code = await vitest(report);
  const result = summary(report, code);
  for (const line of result.skipped) process.stdout.write(`skipped: ${line}\n`);
  const problems = [...(built ? [] : ['the build has errors']), ...result.problems, ...(CI ? await unmetNeeds() : [])];
  for (const line of problems) process.stdout.write(`failed: ${line}\n`);
  const totals = { passed: result.passed, failed: result.failed + problems.length };
  if (process.env.TOCSIN_TOTALS !== undefined) writeFileSync(process.env.TOCSIN_TOTALS, JSON.stringify(totals));
  else process.stdout.write(`${totals.passed} passed, ${totals.failed} failed\n`);
  process.exitCode = totals.failed > 0 ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Runs vitest; signals go to it, once each. @param {string} report @returns {Promise<number>} its exit code */
function vitest(report) {
  const args = [
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ];
  const child = spawn(process.execPath, [tool('vitest/vitest.mjs'), ...args], { cwd: ROOT, stdio: 'inherit' });
  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP']))
    process.once(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
  });
}

/** What the report says: totals, what was skipped, what went wrong besides failing tests. @param {string} path @param {number} code */
function summary(path, code) {
  /** @type {any} */
  let report;
  try {
    report = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return { passed: 0, failed: 0, skipped: [], problems: [`vitest ended with ${code} and without a report`] };
  }
  const tests = report.testResults.flatMap((/** @type {any} */ file) =>
    file.assertionResults.map((/** @type {any} */ test) => ({ ...test, file: relative(ROOT, file.name) })),
  );
  const count = (/** @type {string} */ status) =>
    tests.filter((/** @type {any} */ test) => test.status === status).length;
  const problems = report.testResults
    .filter(
      (/** @type {any} */ file) =>
        file.status === 'failed' && file.assertionResults.every((/** @type {any} */ t) => t.status !== 'failed'),
    )
    .map((/** @type {any} */ file) => `${relative(ROOT, file.name)} did not run: ${firstLine(file.message)}`);
  const failed = count('failed');
  if (code !== 0 && failed === 0 && problems.length === 0) problems.push(`vitest ended with ${code}`);
  const { lines, unexcused } = skips(tests);
  if (CI) problems.push(...unexcused.map((line) => `skipped in CI: ${line}`));
  return { passed: count('passed'), failed, skipped: lines, problems };
}

/** One line for each file and reason. With a filter by name (-t) what does not match is no skip. @param {any[]} tests */
function skips(tests) {
  const filtered = process.argv.some((argument) => argument === '-t' || argument.startsWith('--testNamePattern'));
  const names = tests
    .filter(
      (test) =>
        ['skipped', 'pending', 'todo', 'disabled'].includes(test.status) &&
        !(filtered && !/needs /.test(test.fullName)),
    )
    .map((test) => `${test.file}: ${/(^| )needs /.test(test.title) ? test.title : test.fullName}`);
  const lines = [...new Set(names)];
  return {
    lines,
    unexcused: lines.filter((line) => !EXCUSED.test(line)),
  };
}

/** Needs that this machine does not meet: some suites leave an absent engine out without a word. */
async function unmetNeeds() {
  const path = join(ROOT, 'packages/testkit/dist/src/machine.js');
  if (!existsSync(path)) return ['what the machine lacks is unknown: the testkit is not built'];
  const machine = await import(pathToFileURL(path).href);
  return machine.NEEDS.filter((/** @type {string} */ need) => !machine.EXCUSED.includes(need))
    .map((/** @type {string} */ need) => machine.lacking(need))
    .filter((/** @type {string | null} */ reason) => reason !== null);
}

/** @param {string | undefined} text */
function firstLine(text) {
  return (text ?? '').split('\n')[0] ?? '';
}
