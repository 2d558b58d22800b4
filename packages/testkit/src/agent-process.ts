/** The agent as its users run it: `tocsin agent --json` as a process of its own. It is gone with this process. */
import { spawn } from 'node:child_process';
import { guardChild } from './guard.ts';
import { COMMAND } from './server-process.ts';

/** One line of `--json`. */
export type AgentNewsLine = Readonly<Record<string, unknown>> & { readonly news: string };

/** A running agent. */
export interface AgentProcess {
  readonly pid: number;
  /** Every line so far. */
  news(): readonly AgentNewsLine[];
  /** Everything on stdout and stderr so far. */
  output(): string;
  /** Resolves with the first line of that name; rejects when the process ends before. */
  told(name: string): Promise<AgentNewsLine>;
  signal(name: NodeJS.Signals): void;
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
}

const TOLD_MS = 60_000;

/** Starts it with a clean environment, to which `environment` adds. */
export function startAgent(args: readonly string[], environment: Readonly<Record<string, string>> = {}): AgentProcess {
  const child = spawn(process.execPath, [COMMAND, 'agent', '--json', ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  guardChild(child);
  const texts = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (texts.out += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (texts.err += chunk));
  let over = false;
  const exited = new Promise<number | string>((resolve) => {
    child.on('close', (code, signal) => {
      over = true;
      resolve(code ?? signal ?? 'gone');
    });
  });
  const news = (): AgentNewsLine[] =>
    texts.out
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as AgentNewsLine);
  const told = async (name: string): Promise<AgentNewsLine> => {
    for (const until = Date.now() + TOLD_MS; ; ) {
      const line = news().find((one) => one.news === name);
      if (line !== undefined) return line;
      if (over || Date.now() > until) throw new Error(`the agent did not say ${name}:\n${texts.out}${texts.err}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return {
    pid: child.pid ?? 0,
    news,
    output: () => texts.out + texts.err,
    told,
    signal: (name) => void child.kill(name),
    exited,
  };
}
