/** What a command is, and the strict reading of its arguments. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import type { Environment, Settings } from '../settings.ts';
import { readSettings } from '../settings.ts';
import { SettingsError, UsageError, type ExitCode } from './exit-codes.ts';
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

/** Arguments as read. */
export interface Arguments {
  readonly positionals: readonly string[];
  text(name: string): string | undefined;
  flag(name: string): boolean;
}

/** Reads arguments; throws a {@link UsageError} for anything that is not known. */
export function readArguments(
  args: readonly string[],
  options: NonNullable<ParseArgsConfig['options']>,
  positionals: { readonly least: number; readonly most: number } = { least: 0, most: 0 },
): Arguments {
  const parsed = parseStrictly(args, options);
  const count = parsed.positionals.length;
  if (count > positionals.most) throw new UsageError(`unexpected argument "${parsed.positionals[positionals.most]}"`);
  if (count < positionals.least) throw new UsageError('an argument is missing');
  const value = (name: string): unknown => (parsed.values as Record<string, unknown>)[name];
  return {
    positionals: parsed.positionals,
    text: (name) => {
      const text = value(name);
      return typeof text === 'string' ? text : undefined;
    },
    flag: (name) => value(name) === true,
  };
}

function parseStrictly(
  args: readonly string[],
  options: NonNullable<ParseArgsConfig['options']>,
): { values: object; positionals: string[] } {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? (error.message.split('. ', 1)[0] ?? '') : 'arguments cannot be read');
  }
}

/** The settings, or a {@link SettingsError}. Warnings go to `warn`. */
export function requireSettings(context: CommandContext, warn: (line: string) => void = () => undefined): Settings {
  const outcome = readSettings(context.env, context.cwd);
  if ('mistakes' in outcome) throw new SettingsError(outcome.mistakes);
  outcome.warnings.forEach(warn);
  return outcome.settings;
}
