import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describeWith } from '@tocsin/testkit/needs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ROOT } from './modules.ts';

/** Stands for tsc: notes each call, takes a moment, writes a "server" that shows its arguments, or fails. */
const COMPILER = `
const fs = require('node:fs');
fs.appendFileSync('calls', process.argv.slice(2).join(' ') + '\\n');
setTimeout(() => {
  if (fs.existsSync('broken')) { process.stderr.write('error TS1\\n'); process.exit(2); }
  fs.mkdirSync('packages/server/dist/bin', { recursive: true });
  fs.writeFileSync('packages/server/dist/.tsbuildinfo', '');
  fs.writeFileSync('packages/server/dist/bin/tocsin.js', fs.readFileSync('packages/server/bin/tocsin.ts'));
}, 300);`;

const SERVER = `
const stays = process.argv.includes('--stay');
if (stays) process.on('SIGTERM', () => { process.stdout.write('SIGTERM\\n'); process.exit(0); });
process.stdout.write(JSON.stringify(process.argv.slice(2)) + '\\n');
if (stays) setInterval(() => {}, 1000);
else process.exit(Number(process.argv.at(-1)) || 0);`;

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

let folder: string;

beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'tocsin-start-')), 'a checkout');
  put('package-lock.json', '{"packages":{"":{}}}');
  put('node_modules/.package-lock.json', '{"packages":{}}');
  put('node_modules/typescript/bin/tsc', COMPILER);
  put('node_modules/typescript/package.json', '{"type":"commonjs"}');
  put('package.json', '{"type":"module","scripts":{"start":"exec node tools/start.mjs"}}');
  put('tsconfig.json', '{"references":[{"path":"packages/server"}]}');
  put('packages/server/bin/tocsin.ts', SERVER);
  for (const name of ['start.mjs', 'prepare.mjs']) cpSync(join(ROOT, 'tools', name), join(folder, 'tools', name));
});

afterEach(() => {
  rmSync(dirname(folder), { recursive: true, force: true });
});

function put(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

function launch(args: readonly string[] = [], as: { uid?: number; gid?: number } = {}): ChildProcess {
  const env = { PATH: process.env['PATH'] ?? '' };
  return spawn(process.execPath, ['tools/start.mjs', ...args], { cwd: folder, env, ...as });
}

async function ended(child: ChildProcess): Promise<Ended> {
  let out = '';
  let err = '';
  child.stdout?.on('data', (text) => (out += String(text)));
  child.stderr?.on('data', (text) => (err += String(text)));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })));
}

/** Resolves when the child has said `text` on stdout or stderr. */
function says(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    const listen = (chunk: unknown): void => {
      said += String(chunk);
      if (said.includes(text)) resolve();
    };
    child.stdout?.on('data', listen);
    child.stderr?.on('data', listen);
    child.once('close', () => reject(new Error(`it ended without saying "${text}": ${said}`)));
  });
}

const calls = (): number =>
  existsSync(join(folder, 'calls')) ? readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n').length : 0;

describe('npm start', () => {
  it('builds first, says so on stderr, hands arguments on and ends with the exit code of the server', async () => {
    const first = await ended(launch(['--demo', '78']));
    expect(first).toMatchObject({ code: 78, out: '["serve","--demo","78"]\n' });
    expect(first.err).toMatch(/^tocsin: building …\ntocsin: built \(/);
  });

  it('does nothing but start the second time, and builds again after a source changed', async () => {
    await ended(launch());
    expect(await ended(launch())).toMatchObject({ code: 0, err: '' });
    expect(calls()).toBe(1);
    put('packages/server/src/new.ts', 'export {};');
    await ended(launch());
    expect(calls()).toBe(2);
  });

  it('builds once when two start at once, and both run', async () => {
    const both = await Promise.all([ended(launch()), ended(launch())]);
    expect(both.map((one) => one.code)).toEqual([0, 0]);
    expect(calls()).toBe(1);
    expect(readdirSync(join(folder, '.tocsin')).filter((name) => name.startsWith('lock'))).toEqual([]);
  });

  it('takes over the lock of a process that is gone, and one that nobody touches', async () => {
    put('.tocsin/lock', `999999999 ${hostname()} x`);
    expect((await ended(launch())).code).toBe(0);
    put('packages/server/src/new.ts', 'export {};');
    put('.tocsin/lock', '1 elsewhere x');
    utimesSync(join(folder, '.tocsin/lock'), new Date(0), new Date(0));
    expect((await ended(launch())).code).toBe(0);
    expect(calls()).toBe(2);
  });

  it('ends with 1 when the build fails, and builds again the next time', async () => {
    put('broken', '');
    const failed = await ended(launch());
    expect(failed.code).toBe(1);
    expect(failed.err).toContain('error TS1');
    expect(failed.err).toContain('tsc -b failed');
    rmSync(join(folder, 'broken'));
    expect((await ended(launch())).code).toBe(0);
  });

  it('ends with 143 on SIGTERM during the build, and leaves no lock behind', async () => {
    const child = launch();
    const end = ended(child);
    await says(child, 'building');
    child.kill('SIGTERM');
    expect((await end).code).toBe(143);
    expect(existsSync(join(folder, '.tocsin/lock'))).toBe(false);
  });

  it('hands SIGTERM to the server through npm, once, and npm ends with its code', async () => {
    await ended(launch());
    const child = spawn('npm', ['start', '--', '--stay'], { cwd: folder });
    const end = ended(child);
    await says(child, '["serve","--stay"]');
    child.kill('SIGTERM');
    const { code, out } = await end;
    expect(code).toBe(0);
    expect(out.match(/SIGTERM/g)).toHaveLength(1);
  });

  it('says what is wrong, with exit code 78, when the lock file is missing', async () => {
    rmSync(join(folder, 'package-lock.json'));
    const { code, err } = await ended(launch());
    expect(code).toBe(78);
    expect(err).toContain('package-lock.json is missing');
  });
});

describeWith(['root'], 'npm start as another user than the owner of the folder', () => {
  const nobody = { uid: 65_534, gid: 65_534 };

  beforeEach(() => {
    chmodSync(dirname(folder), 0o755);
  });

  it('runs when everything is built', async () => {
    await ended(launch());
    expect(await ended(launch(['a'], nobody))).toMatchObject({ code: 0, out: '["serve","a"]\n', err: '' });
  });

  it('says in one line who may not write where when something must be built, with exit code 78', async () => {
    const { code, err } = await ended(launch([], nobody));
    expect(code).toBe(78);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toContain('nobody may not write to');
  });
});
