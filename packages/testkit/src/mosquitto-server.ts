/**
 * A mosquitto for tests: on a free port of 127.0.0.1, in a temporary folder, anybody may connect unless `lines` say
 * otherwise. It is gone with this process however it ends (`guard.ts`).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { programPath } from './machine.ts';
import { freePort } from './server-process.ts';

/** A running (or killed, or frozen) broker. */
export interface MosquittoServer {
  readonly port: number;
  /** SIGSTOP: connections stay open, nothing answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL; resolves once it is gone. */
  kill(): Promise<void>;
  /** Starts it again on the same port; resolves once it listens. */
  restart(): Promise<void>;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

const START_MS = 15_000;

/** Starts one. `lines` follow `listener` in its configuration, e.g. `password_file`; by default anybody may connect. */
export async function startMosquitto(
  lines: (folder: string) => readonly string[] = () => ['allow_anonymous true'],
): Promise<MosquittoServer> {
  const program = programPath('mosquitto');
  if (program === null) throw new Error('mosquitto is not installed');
  const folder = guardedFolder('tocsin-mosquitto-');
  // Started by root it becomes the user mosquitto, who has to read its files.
  await chmod(folder, 0o755);
  const port = await freePort();
  const file = join(folder, 'mosquitto.conf');
  const config = [`listener ${port} 127.0.0.1`, ...lines(folder), 'persistence false', `log_dest file ${folder}/log`];
  await writeFile(file, `${config.join('\n')}\n`);
  let child: ChildProcess | undefined;
  const alive = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null;
  const kill = async (): Promise<void> => {
    const ending = child;
    if (ending === undefined || !alive()) return;
    const exited = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill('SIGKILL');
    await exited;
  };
  const restart = async (): Promise<void> => {
    await kill();
    child = spawn(program, ['-c', file], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
    guardChild(child);
    const deadline = Date.now() + START_MS;
    while (!(await listens(port))) {
      const log = await readFile(join(folder, 'log'), 'utf8').catch(() => '');
      if (!alive()) throw new Error(`mosquitto ended: ${said}${log}`);
      if (Date.now() > deadline) throw new Error(`mosquitto did not listen in ${START_MS} ms: ${said}${log}`);
      await pause(20);
    }
  };
  const stop = async (): Promise<void> => {
    await kill();
    await rm(folder, { recursive: true, force: true });
    folderRemoved(folder);
  };
  try {
    await restart();
  } catch (error) {
    await stop();
    throw error;
  }
  const signal = (name: NodeJS.Signals): void => void (alive() && child?.kill(name));
  return { port, freeze: () => signal('SIGSTOP'), thaw: () => signal('SIGCONT'), kill, restart, stop };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
