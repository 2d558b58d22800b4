/**
 * Compiled validators (TypeBox) for the routes' schemas. Nothing is coerced, nothing is dropped: what does not fit is
 * refused. Failures are collected only after the check has failed and never more than 20, whatever the body holds.
 * Parameters of a query are text and stay text; the routes parse them with the functions below.
 */
import { refuse } from '@tocsin/protocol/refusal-error';
import { MAX_ERROR_DETAILS } from '@tocsin/protocol/errors';
import type { FastifySchemaCompiler } from 'fastify';
import { Type, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Settings } from 'typebox/system';

/** Compiles a schema once, at the start. */
export const compileValidator: FastifySchemaCompiler<TSchema> = ({ schema }) => {
  Settings.Set({ maxErrors: MAX_ERROR_DETAILS });
  const validator = Compile(schema);
  return (value: unknown) =>
    validator.Check(value) ? { value } : { error: validator.Errors(value) as unknown as Error };
};

/** True when an object schema says what happens to keys that it does not name, as every schema of a request must. */
export function closesItsKeys(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return true;
  const { type, properties, additionalProperties } = schema as Record<string, unknown>;
  return type !== 'object' || properties === undefined || additionalProperties !== undefined;
}

// C0, DEL, C1, line and paragraph separators, the marks that turn the direction of text around, and halves of surrogate
// pairs (the pattern runs in Unicode mode, where whole pairs are one character).
const FORBIDDEN = '\\u0000-\\u001F\\u007F-\\u009F\\u2028\\u2029\\u202A-\\u202E\\u2066-\\u2069\\uD800-\\uDFFF';

/** Text for people on one line, 1 to `most` characters, not only white space, without control characters. */
export function plainText(most: number): TSchema {
  return Type.String({ minLength: 1, maxLength: most, pattern: `^(?=.*\\S)[^${FORBIDDEN}]*$` });
}

/** A finite number in decimal notation; refuses `malformed-parameter`. */
export function parseNumber(text: string, name: string): number {
  const value =
    /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?$/.test(text) && text.length <= 40 ? Number(text) : Number.NaN;
  if (!Number.isFinite(value)) throw refuse('malformed-parameter', `${name} must be a number`);
  return value;
}

/** A whole number within bounds; refuses `malformed-parameter`. */
export function parseInteger(text: string, name: string, least: number, most: number): number {
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw refuse('malformed-parameter', `${name} must be a whole number from ${least} to ${most}`);
  return value;
}

const ISO = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(Z|[+-]\d{2}:\d{2})?)?$/i;

/** A time in Unix milliseconds: written so, or as ISO 8601 (UTC where no zone is given); refuses `malformed-parameter`. */
export function parseTime(text: string, name: string): number {
  if (/^-?\d{1,15}$/.test(text)) return Number(text);
  // A "+" that nobody encoded arrives as a space.
  const [, day, clock = '00:00', zone = 'Z'] = ISO.exec(text.replace(/(T.*) (\d{2}:?\d{2})$/i, '$1+$2')) ?? [];
  const value = day === undefined ? Number.NaN : Date.parse(`${day}T${clock}${zone.toUpperCase()}`);
  // Date.parse takes the 30th of February for the 2nd of March.
  const real = day !== undefined && !Number.isNaN(value) && new Date(`${day}T00:00Z`).toISOString().startsWith(day);
  if (!real) throw refuse('malformed-parameter', `${name} must be Unix milliseconds or ISO 8601`);
  return value;
}
