/** The strict reading of a command's arguments. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { UsageError } from './exit-codes.ts';

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

/** The number that `--name` gives, plain and not negative, else `fallback`. Throws a {@link UsageError}. */
export function readNumber(read: Arguments, name: string, least: number, most: number, fallback: number): number {
  const given = read.text(name);
  if (given === undefined) return fallback;
  const value = /^\d{1,12}(\.\d{1,6})?$/.test(given) ? Number(given) : Number.NaN;
  if (Number.isNaN(value) || value < least || value > most)
    throw new UsageError(`--${name} must be a number from ${least} to ${most}`);
  return value;
}

/** As {@link readNumber}, whole. */
export function readWhole(read: Arguments, name: string, least: number, most: number, fallback: number): number {
  const value = readNumber(read, name, least, most, fallback);
  if (!Number.isInteger(value)) throw new UsageError(`--${name} must be a whole number`);
  return value;
}
