/** How the command ends: exit codes (after BSD sysexits) and the one line that an error becomes. */
import { RefusalError } from '@tocsin/protocol/refusal-error';
import { CodedError } from '../../lib/coded-error.ts';

/** Exit codes of `tocsin`. */
export const EXIT = { done: 0, failed: 1, usage: 64, unreachable: 69, settings: 78 } as const;
/** One of {@link EXIT}. */
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The arguments were wrong; `message` says how. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The settings were wrong; one line each. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
  readonly mistakes: readonly string[];

  constructor(mistakes: readonly string[]) {
    super(mistakes.join('\n'));
    this.mistakes = mistakes;
  }
}

/** What is expected to go wrong, by code. Everything else that is expected ends with 1. */
const BY_CODE: Readonly<Record<string, ExitCode>> = {
  'store-unavailable': EXIT.unreachable,
  'store-unsuitable': EXIT.settings,
  'data-dir-in-use': EXIT.settings,
  'cluster-secret-wrong': EXIT.settings,
  'cluster-secret-short': EXIT.settings,
  'cluster-secret-unreadable': EXIT.settings,
  'second-process': EXIT.settings,
  'other-bus': EXIT.settings,
  'log-redis-unsuitable': EXIT.settings,
  'log-backend': EXIT.settings,
  'bus-unavailable': EXIT.unreachable,
  'redis-place': EXIT.settings,
  'embedded-missing': EXIT.settings,
  'embedded-version': EXIT.settings,
  'schema-newer': EXIT.settings,
  'public-url-needed': EXIT.settings,
  'certificate-unusable': EXIT.settings,
  // Of the simulated fleet, about the server that it speaks to.
  'server-unreachable': EXIT.unreachable,
  'server-refused': EXIT.failed,
  // System errors of the listener and of DATA_DIR.
  EADDRINUSE: EXIT.settings,
  EADDRNOTAVAIL: EXIT.settings,
  EACCES: EXIT.settings,
  EPERM: EXIT.settings,
  EROFS: EXIT.settings,
  ENOTDIR: EXIT.settings,
  ENOTFOUND: EXIT.settings,
  ENOSPC: EXIT.failed,
  // PostgreSQL: no such database, role, or a wrong password.
  '3D000': EXIT.settings,
  '28000': EXIT.settings,
  '28P01': EXIT.settings,
};

/** How an error ends the command. `expected`: one line is enough, its stack says nothing more. */
export interface Ending {
  readonly code: ExitCode;
  readonly expected: boolean;
  readonly lines: readonly string[];
}

/** The ending of an error. Pure. */
export function endingOf(error: unknown): Ending {
  if (error instanceof SettingsError) return { code: EXIT.settings, expected: true, lines: error.mistakes };
  if (error instanceof UsageError) return { code: EXIT.usage, expected: true, lines: [`tocsin: ${error.message}`] };
  if (error instanceof RefusalError) {
    const code = error.refusal.code === 'schema' ? EXIT.usage : EXIT.failed;
    return { code, expected: true, lines: [`tocsin: ${error.refusal.detail}`] };
  }
  if (!(error instanceof Error)) return { code: EXIT.failed, expected: false, lines: [`tocsin: ${String(error)}`] };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const known = Object.hasOwn(BY_CODE, code) ? BY_CODE[code] : undefined;
  const expected = known !== undefined || error instanceof CodedError;
  return { code: known ?? EXIT.failed, expected, lines: [`tocsin: ${error.message.replaceAll('\n', ' ')}`] };
}
