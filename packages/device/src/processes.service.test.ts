/** Several processes that want the same files at the same moment. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const BUILT = new URL('../dist/src/', import.meta.url).href;
const AT_ONCE = 6;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-processes-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Runs `work` (an expression, of a module with these imports) in {@link AT_ONCE} processes, once all of them are there.
 * Answers what each made of it, when all have; then they are killed.
 */
async function race(imports: string, work: string): Promise<string[]> {
  const source = `
    ${imports}
    process.stdout.write('there\\n');
    for await (const _ of process.stdin) break;
    const path = process.argv[1];
    process.stdout.write((await (${work})) + '\\n');
    setInterval(() => undefined, 1000);
  `;
  const children = Array.from({ length: AT_ONCE }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', source, folder], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  try {
    const lines = children.map(({ stdout }) => createInterface({ input: stdout })[Symbol.asyncIterator]());
    const next = async (): Promise<string[]> =>
      Promise.all(lines.map(async (each) => String((await each.next()).value)));
    expect(new Set(await next())).toEqual(new Set(['there']));
    for (const { stdin } of children) stdin.write('now\n');
    return await next();
  } finally {
    const ended = children.map((child) => once(child, 'exit'));
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(ended);
  }
}

describe('several processes at once', () => {
  it('end with one key', async () => {
    const imports = `import { loadOrCreateKey, publicKeyHex } from '${BUILT}key.js';`;
    const keys = await race(imports, "loadOrCreateKey(path + '/key.pem').then(publicKeyHex)");
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^04[0-9a-f]{128}$/);
  });

  it('have one owner of a folder, also after an owner that was killed', async () => {
    for (let round = 0; round < 3; round += 1) {
      const imports = `import { lockFolder } from '${BUILT}folder-lock.js';`;
      const outcomes = await race(imports, "lockFolder(path).then(() => 'won', (error) => error.code)");
      expect(outcomes.toSorted()).toEqual([...Array.from({ length: AT_ONCE - 1 }, () => 'folder-in-use'), 'won']);
    }
  });
});
