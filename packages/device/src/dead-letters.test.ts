import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DeadLetter, keepDeadLetter } from './dead-letters.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-dead-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function letter(index: number): DeadLetter {
  const readings = '[{"at":1,"value":"x"}]';
  return { id: `e${index}`, at: index, reason: 'schema', detail: 'no', errors: [], profile: 'seismic', readings };
}

const lines = (name: string): unknown[] =>
  readFileSync(join(folder, name), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);

describe('dead letters', () => {
  it('are lines of JSON with readings and reasons, for the owner only', async () => {
    await keepDeadLetter(folder, letter(1));
    await keepDeadLetter(folder, letter(2));
    expect(lines('dead-letters.jsonl')).toMatchObject([
      { id: 'e1', reason: 'schema', readings: [{ at: 1, value: 'x' }] },
      { id: 'e2' },
    ]);
    expect(statSync(join(folder, 'dead-letters.jsonl')).mode & 0o777).toBe(0o600);
  });

  it('are bounded: the newest stay, in two files', async () => {
    for (let index = 0; index < 60; index += 1) await keepDeadLetter(folder, letter(index), 1000);
    expect(readdirSync(folder).toSorted()).toEqual(['dead-letters.jsonl', 'dead-letters.old.jsonl']);
    const kept = [...lines('dead-letters.old.jsonl'), ...lines('dead-letters.jsonl')] as { id: string }[];
    expect(kept.at(-1)?.id).toBe('e59');
    expect(kept.length).toBeLessThan(30);
  });

  it('that cannot be kept are an error', async () => {
    await expect(keepDeadLetter(join(folder, 'none'), letter(1))).rejects.toMatchObject({ code: 'folder-unusable' });
  });
});
