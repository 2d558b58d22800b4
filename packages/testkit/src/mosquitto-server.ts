/**
 * A mosquitto for tests: on a free port of 127.0.0.1, in a temporary folder, anybody may connect unless `lines` say
 * otherwise. With `port` it listens there. It is gone with this process however it ends (`guard.ts`). With `persistence` it keeps sessions and messages
 * on disk: what `save` or `end` wrote is there again after a `restart`, what came after them is not.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { chmod, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import type { TestCertificate } from './certificates.ts';
import { programPath } from './machine.ts';
import { freePort } from './server-process.ts';

/** A running (or killed, or frozen) broker. */
export interface MosquittoServer {
  readonly port: number;
  /** Of its process now. */
  readonly pid: number;
  /** SIGSTOP: connections stay open, nothing answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL; resolves once it is gone. */
  kill(): Promise<void>;
  /** SIGTERM: it writes down what it keeps, as far as it does at all; resolves once it is gone. */
  end(): Promise<void>;
  /** Makes it write down what it keeps; resolves once it is written. Only with `persistence`. */
  save(): Promise<void>;
  /** What it logged. */
  log(): Promise<string>;
  /** Starts it again on the same port; resolves once it listens. */
  restart(): Promise<void>;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

const START_MS = 15_000;
const SAVE_MS = 10_000;

/**
 * Lines of its configuration for TLS with this certificate; with `clients`, a CA, only for clients that have one of its
 * certificates, whose common name is then their user name. The files are copied so that it may read them.
 */
export function tlsLines(folder: string, { cert, key }: TestCertificate, clients?: string): readonly string[] {
  const write = (name: string, text: string): string => {
    const file = join(folder, name);
    writeFileSync(file, text, { mode: 0o644 });
    return file;
  };
  const own = [`certfile ${write('server.pem', cert)}`, `keyfile ${write('server.key', key)}`];
  if (clients === undefined) return own;
  return [
    ...own,
    `cafile ${write('clients.pem', clients)}`,
    'require_certificate true',
    'use_identity_as_username true',
  ];
}

/** Lines of its configuration that let in who has this name and password, and nobody else. */
export function passwordLines(folder: string, name: string, password: string): readonly string[] {
  const file = join(folder, 'passwords');
  writeFileSync(file, '');
  execFileSync('mosquitto_passwd', ['-b', file, name, password]);
  chmodSync(file, 0o644);
  return ['allow_anonymous false', `password_file ${file}`];
}

/** Starts one. `lines` follow `listener` in its configuration, e.g. `password_file`; by default anybody may connect. */
export async function startMosquitto(
  lines: (folder: string) => readonly string[] = () => ['allow_anonymous true'],
  { persistence = false, port: wanted }: { readonly persistence?: boolean; readonly port?: number } = {},
): Promise<MosquittoServer> {
  const program = programPath('mosquitto');
  if (program === null) throw new Error('mosquitto is not installed');
  const folder = guardedFolder('tocsin-mosquitto-');
  // Started by root it becomes the user mosquitto, who has to read its files, and to write them.
  await chmod(folder, persistence ? 0o777 : 0o755);
  const port = wanted ?? (await freePort());
  const file = join(folder, 'mosquitto.conf');
  const kept = persistence
    ? ['persistence true', `persistence_location ${folder}/`, 'autosave_interval 3600']
    : ['persistence false'];
  const config = [`listener ${port} 127.0.0.1`, ...lines(folder), ...kept, `log_dest file ${folder}/log`];
  await writeFile(file, `${config.join('\n')}\n`);
  let child: ChildProcess | undefined;
  const alive = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null;
  const endBy = async (name: NodeJS.Signals): Promise<void> => {
    const ending = child;
    if (ending === undefined || !alive()) return;
    const exited = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill(name);
    await exited;
  };
  const kill = (): Promise<void> => endBy('SIGKILL');
  const save = async (): Promise<void> => {
    const writtenAt = async (): Promise<number> =>
      (await stat(join(folder, 'mosquitto.db')).catch(() => null))?.mtimeMs ?? 0;
    const before = await writtenAt();
    child?.kill('SIGUSR1');
    const deadline = Date.now() + SAVE_MS;
    while ((await writtenAt()) === before) {
      if (Date.now() > deadline) throw new Error(`mosquitto did not save in ${SAVE_MS} ms`);
      await pause(10);
    }
  };
  const readLog = (): Promise<string> => readFile(join(folder, 'log'), 'utf8').catch(() => '');
  const restart = async (): Promise<void> => {
    await kill();
    child = spawn(program, ['-c', file], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
    guardChild(child);
    const deadline = Date.now() + START_MS;
    while (!(await listens(port))) {
      const log = await readLog();
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
  return {
    port,
    get pid() {
      return child?.pid ?? 0;
    },
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    kill,
    end: () => endBy('SIGTERM'),
    save,
    log: readLog,
    restart,
    stop,
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
