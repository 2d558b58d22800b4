/**
 * Ends what this process started, however this process ends: by a signal, a crash or SIGKILL.
 *
 * One guard process for each process, started with the first thing to guard. It learns of processes and folders over
 * its standard input; when that ends it kills the processes with all of their descendants (SIGKILL, which also ends
 * what is stopped) and removes the folders. A process id that was given to another process since is left alone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Runs in the guard. `started` is field 22 of /proc/<pid>/stat: a pid with another value is another process. */
const GUARD = `
const fs = require('node:fs');
const stat = (pid) => {
  try {
    const text = fs.readFileSync('/proc/' + pid + '/stat', 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { parent: Number(fields[1]), started: fields[19] };
  } catch { return undefined; }
};
const pids = new Map();
const folders = new Set();
const orders = {
  pid: (pid) => pids.set(pid, stat(pid)?.started),
  gone: (pid) => pids.delete(pid),
  folder: (folder) => folders.add(folder),
  removed: (folder) => folders.delete(folder),
};
const signal = (pid, name) => { try { process.kill(pid, name); } catch {} };
const tree = (root) => {
  const parents = fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name)).map((name) => [Number(name), stat(name)?.parent]);
  const found = [root];
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child);
  return found;
};
const end = () => {
  for (const [pid, started] of pids) {
    if (started === undefined || stat(pid)?.started !== started) continue;
    signal(pid, 'SIGSTOP');
    for (const each of tree(pid)) signal(each, 'SIGKILL');
  }
  const deadline = Date.now() + 5000;
  const remove = () => {
    for (const folder of folders) {
      try { fs.rmSync(folder, { recursive: true, force: true }); folders.delete(folder); } catch {}
    }
    if (folders.size === 0 || Date.now() > deadline) process.exit(0);
    setTimeout(remove, 50);
  };
  remove();
};
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => undefined);
let heard = '';
process.stdin.setEncoding('utf8').on('data', (text) => {
  const lines = (heard + text).split('\\n');
  heard = lines.pop();
  for (const line of lines) { const [order, value] = JSON.parse(line); orders[order](value); }
}).on('end', end).on('error', end);
`;

let guard: ChildProcess | undefined;

function tell(order: 'pid' | 'gone' | 'folder' | 'removed', value: number | string): void {
  if (guard === undefined) {
    guard = spawn(process.execPath, ['-e', GUARD], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    guard.on('error', () => undefined);
    guard.stdin?.on('error', () => undefined);
    guard.unref();
    (guard.stdin as unknown as { unref(): void }).unref();
  }
  guard.stdin?.write(`${JSON.stringify([order, value])}\n`);
}

/** Guards a child and its descendants until it has ended by itself. */
export function guardChild(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined) return;
  tell('pid', pid);
  child.once('exit', () => tell('gone', pid));
}

/** A new temporary folder that goes with this process at the latest. */
export function guardedFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  tell('folder', folder);
  return folder;
}

/** The folder was removed; the guard need not. */
export function folderRemoved(folder: string): void {
  tell('removed', folder);
}

/** A process and all of its descendants, parents first; only itself where there is no /proc. */
export function processTree(root: number): number[] {
  const parents: [number, number][] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue;
    try {
      const text = readFileSync(`/proc/${name}/stat`, 'latin1');
      parents.push([Number(name), Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1])]);
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = [root];
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child);
  return found;
}
