import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { refuse } from '@tocsin/protocol/refusal-error';
import { COMMANDS, runCommandLine } from './command-line.ts';
import { endingOf } from './exit-codes.ts';
import { scriptedTerminal } from './scripted-terminal.suite.ts';
import { formatTable } from './table.ts';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'tocsin-cli-'));
});
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

async function run(
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const terminal = scriptedTerminal();
  const code = await runCommandLine(args, { env, cwd, terminal, events: new EventEmitter() });
  return { code, out: terminal.stdout(), err: terminal.stderr() };
}

describe('the command line', () => {
  it.each([['help'], ['--help'], ['-h'], []])('lists every command for %j', async (...args: string[]) => {
    const { code, out } = await run(args);
    expect(code).toBe(0);
    for (const { name, load } of COMMANDS) {
      const { name: own, summary } = await load();
      expect(own).toBe(name);
      expect(out).toContain(`tocsin ${name}`);
      expect(out).toContain(summary);
    }
  });

  it('says its version', async () => {
    const { code, out } = await run(['--version']);
    expect([code, out]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
  });

  it('helps with one command', async () => {
    const { code, out } = await run(['users', 'create', '--help']);
    expect(code).toBe(0);
    expect(out).toContain('--email <address>');
  });

  it.each([
    [['audit']],
    [['users']],
    [['agent']],
    [['agent', '--server', 'ftp://x']],
    [['agent', '--server', 'mqtt://broker.example']],
    [['agent', '--server', 'https://tocsin.example']],
    [['serve', '--demo-every', '30']],
    [['simulate', '--devices', '0']],
    [['simulate', '--api-key', 'secret']],
    [['serve', 'now']],
    [['users', 'create']],
    [['users', 'create', '--email', 'a@b.example', '--role', 'king']],
    [['users', 'create', '--email', 'a@b.example', '--password', 'secret']],
    [['users', 'create', '--email', 'a@b.example', '--generate', '--password-stdin']],
    [['api-keys', 'create']],
    [['api-keys', 'create', '--name', 'x', '--scopes', 'everything']],
    [['api-keys', 'create', '--name', 'x', '--scopes', '']],
    [['api-keys', 'revoke']],
    [['api-keys', 'revoke', 'a', 'b']],
    [['keys', 'rotate', '--purpose', 'cookies']],
  ])('ends with 64 for %j', async (args) => {
    const { code, out, err } = await run(args);
    expect(code).toBe(64);
    expect(out).toBe('');
    expect(err).toContain('usage: tocsin');
  });

  // The agent runs on other machines and reads none of them.
  it.each(COMMANDS.map(({ name }) => name).filter((name) => name !== 'agent'))(
    'ends %s with 78 and one line for each mistake in the settings',
    async (name) => {
      const needed: Record<string, string[]> = {
        'users create': ['--email', 'a@b.example'],
        'api-keys create': ['--name', 'x'],
        'api-keys revoke': ['x'],
      };
      const { code, out, err } = await run([...name.split(' '), ...(needed[name] ?? [])], {
        PORT: 'x',
        SWARM_SENSORS: '0',
      });
      expect(code).toBe(78);
      expect(out).toBe('');
      expect(err.trimEnd().split('\n')).toEqual([
        expect.stringMatching(/^PORT must/),
        expect.stringMatching(/^SWARM_SENSORS must/),
      ]);
    },
  );

  it('ends with 69 when the database cannot be reached', async () => {
    const { code, err } = await run(['migrate'], {
      DATABASE_URL: 'postgres://u:secret@127.0.0.1:1/x',
      CLUSTER_SECRET: 'c'.repeat(32),
    });
    expect(code).toBe(69);
    expect(err).toMatch(/^tocsin: [^\n]+\n$/);
    expect(err).not.toContain('secret');
  });
});

describe('the ending of an error', () => {
  it('is wrong use for a value that the rules refuse, and a failure for everything else that is refused', () => {
    expect(endingOf(refuse('schema', 'no e-mail')).code).toBe(64);
    expect(endingOf(refuse('already-exists')).code).toBe(1);
  });

  it('is one line, whatever the error says', () => {
    expect(endingOf(new Error('a\nb')).lines).toEqual(['tocsin: a b']);
    expect(endingOf('text')).toEqual({ code: 1, expected: false, lines: ['tocsin: text'] });
  });

  it('is a matter of settings when the port is taken', () => {
    expect(endingOf(Object.assign(new Error('listen EADDRINUSE'), { code: 'EADDRINUSE' }))).toMatchObject({
      code: 78,
      expected: true,
    });
  });
});

describe('a table', () => {
  it('is aligned, bounded, and free of control characters', () => {
    expect(
      formatTable(
        ['id', 'name'],
        [
          ['1', 'a\u001b[31mb'],
          ['22', 'x'.repeat(100)],
        ],
      ),
    ).toBe(`id  name\n1   a?[31mb\n22  ${'x'.repeat(59)}…\n`);
  });
});
