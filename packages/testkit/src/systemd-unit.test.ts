/** The unit of the agent in `deploy/systemd`: hardened, and started with options that the command takes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAgentOptions } from '@tocsin/server/app/commands/agent-options';
import { expect, it } from 'vitest';
import { programPath } from './machine.ts';

const FOLDER = new URL('../../../deploy/systemd/', import.meta.url);
const unit = readFileSync(new URL('tocsin-agent.service', FOLDER), 'utf8');
const defaults = readFileSync(new URL('tocsin-agent.default', FOLDER), 'utf8');

/** Directives of a section with all of their values. */
function section(name: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  let here = '';
  for (const line of unit.split('\n')) {
    here = /^\[(.+)\]$/.exec(line)?.[1] ?? here;
    const [, key = '', value = ''] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (here === name && key !== '') found.set(key, [...(found.get(key) ?? []), value]);
  }
  return found;
}

/** Every example of the options, those in comments included. */
const examples = [...defaults.matchAll(/^#?TOCSIN_AGENT_OPTIONS=(.*)$/gm)].map(([, words = '']) => words.split(' '));

it('no line of the unit is anything but a section, a directive or a comment', () => {
  const strange = unit.split('\n').filter((line) => !/^($|#|\[[A-Z][a-z]+\]$|[A-Z][A-Za-z]+=)/.test(line));
  expect(strange).toEqual([]);
});

it.each([
  ['DynamicUser', 'yes'],
  ['StateDirectory', 'tocsin-agent'],
  ['ProtectSystem', 'strict'],
  ['ProtectHome', 'yes'],
  ['PrivateTmp', 'yes'],
  ['NoNewPrivileges', 'yes'],
  ['CapabilityBoundingSet', ''],
  ['Restart', 'on-failure'],
  ['RestartPreventExitStatus', '64 78'],
  ['MemoryMax', expect.stringMatching(/^\d+M$/)],
  ['CPUQuota', expect.stringMatching(/^\d+%$/)],
  ['LoadCredential', 'password:/etc/tocsin-agent/password'],
])('the unit has %s=%s, once', (name, value) => {
  expect(section('Service').get(name)).toEqual([value]);
});

it('the unit starts the command of this checkout, with nothing but flags of Node and the options of the file', () => {
  const [command = ''] = section('Service').get('ExecStart') ?? [];
  expect(command).toMatch(
    /^\/usr\/bin\/node( --[a-z0-9-]+=\d+)+ \/opt\/tocsin\/packages\/server\/dist\/bin\/tocsin\.js agent \$TOCSIN_AGENT_OPTIONS$/,
  );
  const flags = command.split(' ').filter((word) => word.startsWith('--'));
  expect(spawnSync(process.execPath, [...flags, '-e', 'process.exit(7)']).status).toBe(7);
});

it.each(examples)('the options of the file are taken by the command: %s %s …', (...words) => {
  const machine = { hostname: 'web-9', home: '/' };
  const options = readAgentOptions(words, { STATE_DIRECTORY: '/var/lib/tocsin-agent' }, machine);
  expect(options.server).not.toBeNull();
  expect(options.folder).toBe('/var/lib/tocsin-agent');
});

it('the file has examples', () => {
  expect(examples.length).toBeGreaterThanOrEqual(4);
});

it.skipIf(programPath('systemd-analyze') === null)('systemd finds no mistake in the unit', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tocsin-unit-'));
  try {
    const file = join(folder, 'tocsin-agent.service');
    // Node may be elsewhere on this machine; systemd looks whether it is there.
    writeFileSync(file, unit.replace('/usr/bin/node', process.execPath));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: '' });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
