/**
 * Envelopes that the server will never take, kept for people: a line of JSON for each in `dead-letters.jsonl`, with the
 * server's reasons. Past its bound the file becomes `dead-letters.old.jsonl`, in place of the one before.
 * Failure: rejects with `disk-full` or `folder-unusable`; the envelope then has to stay queued.
 */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from './device-error.ts';
import type { Reason } from './verdict.ts';

/** One of them. */
export interface DeadLetter {
  readonly id: string;
  /** Unix ms, when it was given up. */
  readonly at: number;
  readonly reason: Reason | 'cannot-be-signed';
  readonly detail: string;
  readonly errors: readonly ErrorDetail[];
  readonly profile: string;
  /** The array of readings as JSON. */
  readonly readings: string;
}

/** The largest that a file grows to before the next begins, bytes. */
const DEAD_LETTERS_BYTES = 1_048_576;

/** Appends one; it is on the disk once this resolves. Calls must not overlap. */
export async function keepDeadLetter(
  folder: string,
  letter: DeadLetter,
  mostBytes: number = DEAD_LETTERS_BYTES,
): Promise<void> {
  const path = join(folder, 'dead-letters.jsonl');
  const { readings, ...head } = letter;
  const line = `${JSON.stringify(head).slice(0, -1)},"readings":${readings}}\n`;
  try {
    if ((await append(path, line)) > mostBytes) await rename(path, join(folder, 'dead-letters.old.jsonl'));
  } catch (error) {
    throw diskError(path, error);
  }
}

/** Answers how long the file is now. */
async function append(path: string, line: string): Promise<number> {
  const file = await open(path, 'a', 0o600);
  try {
    await file.writeFile(line);
    await file.datasync();
    return (await file.stat()).size;
  } finally {
    await file.close();
  }
}
