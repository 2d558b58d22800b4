/**
 * Environment and `.env` to settings: the only reader of either.
 *
 * Guarantees: the environment wins over `.env`, an empty text is absent, every row of `SETTINGS` is checked whether used
 * or not, and all mistakes are told together, one readable line each that names the variable and what it may be. Values
 * of secrets are never repeated.
 * Failure: mistakes as a value; nothing is thrown.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DotenvContent, parseDotenv } from './dotenv.ts';
import { checkTogether, warningsOf } from './settings-checks.ts';
import type { Settings } from './settings-shape.ts';
import { SETTINGS, type SettingRow } from './settings-table.ts';

export type { Settings } from './settings-shape.ts';

/** Variables as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Settings with what should be said about them, or everything that is wrong. */
export type SettingsOutcome =
  | { readonly settings: Settings; readonly warnings: readonly string[] }
  | { readonly mistakes: readonly string[] };

/** Most of a wrong value that a mistake repeats, in characters. */
const SHOWN_CHARACTERS = 60;

/** Reads settings from `env` and from the file `.env` in `cwd`. */
export function readSettings(env: Environment, cwd: string): SettingsOutcome {
  const file = readDotenv(cwd);
  const mistakes = [...file.mistakes];
  const values: Partial<Record<keyof Settings, unknown>> = {};
  const bad = new Set<keyof Settings>();
  const given = new Set<keyof Settings>();
  for (const field of Object.keys(SETTINGS) as (keyof Settings)[]) {
    const row: SettingRow<unknown> = SETTINGS[field];
    const text = present(env[row.name]) ?? present(file.variables.get(row.name));
    const value = readRow(row, text, cwd);
    if (text !== undefined) given.add(field);
    if (value === undefined) {
      bad.add(field);
      mistakes.push(describe(row, text ?? ''));
    }
    values[field] = value ?? null;
  }
  // Every field of the table was set above, each by its own row's type.
  const settings = values as unknown as Settings;
  mistakes.push(...checkTogether(settings, bad));
  return mistakes.length > 0 ? { mistakes } : { settings, warnings: warningsOf(settings, given) };
}

function readRow(row: SettingRow<unknown>, text: string | undefined, cwd: string): unknown {
  const effective = text ?? row.fallback;
  return effective === null ? null : row.type.parse(effective, cwd);
}

function present(text: string | undefined): string | undefined {
  const trimmed = text?.trim();
  return trimmed === '' ? undefined : trimmed;
}

function readDotenv(cwd: string): DotenvContent {
  try {
    return parseDotenv(readFileSync(join(cwd, '.env'), 'utf8'));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const mistakes = code === 'ENOENT' ? [] : [`.env cannot be read (${code})`];
    return { variables: new Map(), mistakes };
  }
}

function describe(row: SettingRow<unknown>, text: string): string {
  const said = `${row.name} must be ${row.type.expects}`;
  if (row.type.hidden === true) return `${said} (its value is not shown)`;
  const visible = text.replaceAll(/\p{Cc}/gu, '?');
  return `${said}, not "${visible.length > SHOWN_CHARACTERS ? `${visible.slice(0, SHOWN_CHARACTERS)}…` : visible}"`;
}
