/** Programs that tests run to their end, without blocking this process (it may be the server that they talk to). */
import { spawn } from 'node:child_process';

/** What a program did. `code` is its exit code, or the name of the signal that ended it. */
export interface ProgramResult {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** How it runs. */
export interface ProgramOptions {
  readonly cwd?: string;
  /** Added to PATH; nothing else of this process's environment is passed on. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** It is killed after this, 60 s unless given. */
  readonly timeoutMs?: number;
}

/** Runs it. Rejects only when it cannot be started. */
export function runProgram(
  path: string,
  args: readonly string[],
  { cwd, environment = {}, input = '', timeoutMs = 60_000 }: ProgramOptions = {},
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, {
      ...(cwd === undefined ? {} : { cwd }),
      env: { PATH: process.env['PATH'] ?? '', ...environment },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    const texts = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (texts.stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (texts.stderr += chunk));
    child.on('error', reject);
    // A program that ends before it has read everything is not our failure.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.on('close', (code, signal) => resolve({ code: code ?? signal ?? 'gone', ...texts }));
  });
}
