/**
 * `npm run check`: everything that judges the sources without running the product. Each check has a name and a time; the
 * output of one that fails is shown. Ends with one line `N passed, N failed`; exit code 1 when one failed.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { ready, ROOT, seconds, tool } from './prepare.mjs';

/** @type {readonly { name: string, args: readonly string[], tells?: boolean }[]} `tells`: what it says is shown when it passes, too. */
const CHECKS = [
  { name: 'types', args: [tool('typescript/bin/tsc'), '-b'] },
  { name: 'types of the tests', args: [tool('typescript/bin/tsc'), '-p', 'tsconfig.tests.json'] },
  {
    name: 'lint',
    args: [
      tool('oxlint/bin/oxlint'),
      '--type-aware',
      '--tsconfig=tsconfig.tests.json',
      '--deny-warnings',
      '--format=unix',
    ],
  },
  { name: 'format', args: [tool('@biomejs/biome/bin/biome'), 'format', '--reporter=summary', '.'] },
  { name: 'import rules', args: ['tools/dist/bin/import-rules.js'] },
  { name: 'dead code', args: [tool('knip/bin/knip.js'), '--no-config-hints'] },
  { name: 'licences', args: ['tools/dist/bin/licences.js'] },
  { name: 'size of the viewer SDK', args: ['tools/dist/bin/client-bundle.js'], tells: true },
  {
    name: 'documents against code',
    args: [tool('vitest/vitest.mjs'), 'run', '--project=pure', 'tools/src', 'settings-page', 'protocol/src/version'],
  },
];

await ready({ projects: ['.'], tolerant: true });
let failed = 0;
for (const { name, args, tells } of CHECKS) {
  const since = Date.now();
  const { code, output } = await run(args);
  if (code !== 0) failed += 1;
  if (code !== 0 || tells) process.stdout.write(`${output.trimEnd()}\n`);
  process.stdout.write(`${code === 0 ? 'passed' : 'FAILED'}: ${name} (${seconds(since)})\n`);
}
const totals = { passed: CHECKS.length - failed, failed };
if (process.env.TOCSIN_TOTALS !== undefined) writeFileSync(process.env.TOCSIN_TOTALS, JSON.stringify(totals));
else process.stdout.write(`${totals.passed} passed, ${totals.failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;

/** @param {readonly string[]} args @returns {Promise<{ code: number | null, output: string }>} */
function run(args) {
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, output }));
  });
}
