/** What a command is, and the settings that it runs with. */
import type { Environment, Settings } from '../settings.ts';
import { readSettings } from '../settings.ts';
import { SettingsError, type ExitCode } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';

/** Signals and uncaught errors, as `process` emits them. */
export interface ProcessEvents {
  on(event: string, listener: (...values: unknown[]) => void): unknown;
  off(event: string, listener: (...values: unknown[]) => void): unknown;
}

/** What a command runs in. */
export interface CommandContext {
  readonly env: Environment;
  readonly cwd: string;
  readonly terminal: Terminal;
  readonly events: ProcessEvents;
}

/** One command. */
export interface Command {
  /** Its words, for example `users create`. */
  readonly name: string;
  /** Its arguments, for the help. */
  readonly usage: string;
  readonly summary: string;
  run(args: readonly string[], context: CommandContext): Promise<ExitCode>;
}

/** The settings, or a {@link SettingsError}. Warnings go to `warn`. */
export function requireSettings(context: CommandContext, warn: (line: string) => void = () => undefined): Settings {
  const outcome = readSettings(context.env, context.cwd);
  if ('mistakes' in outcome) throw new SettingsError(outcome.mistakes);
  outcome.warnings.forEach(warn);
  return outcome.settings;
}
