/** What the private PostgreSQL says when something fails, as one clear error. */
import { CodedError } from '../lib/coded-error.ts';

/** Lines kept of what PostgreSQL wrote last. */
const TAIL_LINES = 40;
/** Longer lines are cut. */
const LINE_CHARACTERS = 500;

/** The last lines that a process wrote. */
export interface LogTail {
  add(line: string): void;
  lines(): readonly string[];
}

/** Makes an empty tail. */
export function createTail(): LogTail {
  const kept: string[] = [];
  return {
    add: (line) => {
      kept.push(line.slice(0, LINE_CHARACTERS));
      if (kept.length > TAIL_LINES) kept.shift();
    },
    lines: () => kept,
  };
}

/** A short write says it by a hint only. */
const FULL =
  /No space left on device|Disk quota exceeded|Check free disk space|wrote only \d+ of \d+ bytes|ENOSPC|EDQUOT/;

/**
 * The error of a failed step: CodedError `disk-full`, or `embedded-start-failed`, with the line that says why.
 * `cause` may be an error of the file system; a CodedError passes unchanged.
 */
export function embeddedFailure(step: string, lines: readonly string[], cause?: unknown): CodedError {
  if (cause instanceof CodedError) return cause;
  const reason = cause instanceof Error ? cause.message : '';
  const options = cause === undefined ? undefined : { cause };
  const full = [...lines, reason].find((line) => FULL.test(line));
  if (full !== undefined)
    return new CodedError('disk-full', `no space left for the private PostgreSQL: ${full}`, options);
  const telling = lines.filter((line) => /\b(FATAL|PANIC|ERROR|error):/i.test(line));
  const why = telling.at(-1) ?? (reason === '' ? lines.at(-1) : reason) ?? 'it said nothing';
  return new CodedError('embedded-start-failed', `${step}: ${why}`, options);
}
