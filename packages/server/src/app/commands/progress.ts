/**
 * How far long work is: a bar on a terminal, elsewhere a plain line now and then. On stderr, so that stdout is the answer.
 */
import type { Terminal } from './terminal.ts';

/** Shows how far one piece of work is. */
export interface Progress {
  /** `share` is 0 to 1; `note` says more, in a few words. */
  show(share: number, note?: string): void;
  /** Ends the work with a line that stays. */
  done(line: string): void;
}

const BAR_CHARACTERS = 30;
const PLAIN_EVERY_MS = 5000;
const ERASE = '\r\u001B[K';

/** Begins one piece of work. `now` is a clock that never goes back, ms. */
export function createProgress(
  terminal: Pick<Terminal, 'readable' | 'err'>,
  label: string,
  now: () => number = () => performance.now(),
): Progress {
  let plainAt = now() + PLAIN_EVERY_MS;
  return {
    show(share, note = '') {
      if (terminal.readable) {
        terminal.err(bar(label, share, note));
      } else if (now() >= plainAt) {
        plainAt = now() + PLAIN_EVERY_MS;
        terminal.err(`${label}: ${percent(share)}${note === '' ? '' : `, ${note}`}\n`);
      }
    },
    done: (line) => terminal.err(`${terminal.readable ? ERASE : ''}${line}\n`),
  };
}

function percent(share: number): string {
  return `${Math.round(within(share) * 100)} %`;
}

function within(share: number): number {
  return Math.min(1, Math.max(0, share));
}

function bar(label: string, share: number, note: string): string {
  const full = Math.round(within(share) * BAR_CHARACTERS);
  const drawn = `${'#'.repeat(full)}${'.'.repeat(BAR_CHARACTERS - full)}`;
  return `${ERASE}${label} [${drawn}] ${percent(share)}${note === '' ? '' : `  ${note}`}`;
}
