/** A terminal for tests: scripted answers in, text out. */
import type { Terminal } from './terminal.ts';

/** A terminal that remembers what it was told. */
export interface ScriptedTerminal extends Terminal {
  stdout(): string;
  stderr(): string;
}

/** Builds it; `answers` are given to secrets asked for, `line` is its standard input. */
export function scriptedTerminal(
  options: { readable?: boolean; answers?: string[]; line?: string } = {},
): ScriptedTerminal {
  const texts = { out: '', err: '' };
  return {
    readable: options.readable ?? false,
    attached: options.readable ?? false,
    interactive: options.answers !== undefined,
    out: (text) => void (texts.out += text),
    err: (text) => void (texts.err += text),
    askSecret: () => Promise.resolve(options.answers?.shift() ?? ''),
    readLine: () => Promise.resolve(options.line ?? ''),
    stdout: () => texts.out,
    stderr: () => texts.err,
  };
}
