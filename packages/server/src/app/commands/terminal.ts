/** The terminal, or the pipes in its place: what commands write to and ask. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { UsageError } from './exit-codes.ts';

/** Where a command writes and asks. */
export interface Terminal {
  /** Standard output is a terminal: readable text in place of JSON lines. */
  readonly readable: boolean;
  /** Any of the three streams is a terminal: when it is closed, SIGHUP means just that. */
  readonly attached: boolean;
  /** A person can be asked. */
  readonly interactive: boolean;
  out(text: string): void;
  err(text: string): void;
  /** Asks for a secret without showing it. Only when `interactive`. */
  askSecret(question: string): Promise<string>;
  /** The first line of standard input. */
  readLine(): Promise<string>;
}

/** Longest line that is read. */
const MOST_CHARACTERS = 4096;

/** The terminal of this process. */
export function processTerminal(): Terminal {
  const { stdin, stdout, stderr } = process;
  // A reader that went away (`tocsin … | head`) is no failure.
  stdout.on('error', () => undefined);
  stderr.on('error', () => undefined);
  return {
    readable: stdout.isTTY === true,
    attached: stdin.isTTY === true || stdout.isTTY === true || stderr.isTTY === true,
    interactive: stdin.isTTY === true && stderr.isTTY === true,
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    askSecret,
    readLine: readFirstLine,
  };
}

function askSecret(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(question);
  // readline turns the terminal's own echo off; what it would show itself goes nowhere.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: nowhere, terminal: true });
  return new Promise((resolve, reject) => {
    lines.on('SIGINT', () => {
      lines.close();
      reject(new UsageError('interrupted'));
    });
    lines.on('line', (line) => {
      stderr.write('\n');
      resolve(line);
      lines.close();
    });
    lines.on('close', () => reject(new UsageError('nothing was entered')));
  });
}

async function readFirstLine(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += String(chunk);
    if (text.includes('\n') || text.length > MOST_CHARACTERS) break;
  }
  return text.split(/\r?\n/, 1)[0]?.slice(0, MOST_CHARACTERS) ?? '';
}
