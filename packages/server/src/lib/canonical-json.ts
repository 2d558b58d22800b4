/**
 * The canonical form of JSON (RFC 8785, JCS): the text that signatures and hashes are made over. Pure.
 *
 * Guarantees: equal JSON values have equal text: members sorted by the UTF-16 code units of their names, numbers as
 * ECMAScript writes them, no white space. Refused instead of changed: NaN, infinities, lone surrogates, undefined
 * (also as a member or a hole), anything that is not plain JSON, and nesting deeper than {@link CANONICAL_DEPTH}
 * (so a cycle ends too).
 * Failure: throws a CodedError `not-canonical`; its text names the place, never the value.
 */
import { CodedError } from './coded-error.ts';

/** How deep objects and arrays may nest. */
export const CANONICAL_DEPTH = 64;

const LONE_SURROGATE = /\p{Surrogate}/u;

/** The canonical text of a JSON value. */
export function canonical(value: unknown): string {
  return write(value, '', 0);
}

function write(value: unknown, at: string, depth: number): string {
  switch (typeof value) {
    case 'string':
      return text(value, at);
    case 'number':
      if (!Number.isFinite(value)) throw fault('a number that is not finite', at);
      return JSON.stringify(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'object':
      if (value === null) return 'null';
      if (depth === CANONICAL_DEPTH) throw fault('nesting that is too deep', at.slice(0, 100));
      return Array.isArray(value) ? list(value, at, depth) : members(value, at, depth);
    default:
      throw fault(typeof value, at);
  }
}

function list(value: readonly unknown[], at: string, depth: number): string {
  // Array.from visits holes as undefined, which is refused.
  return `[${Array.from(value, (item, index) => write(item, `${at}/${index}`, depth + 1)).join(',')}]`;
}

function members(value: object, at: string, depth: number): string {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) throw fault('an object that is not plain', at);
  // The default order of sort() is that of UTF-16 code units (ECMA-262 section 23.1.3.30), as RFC 8785 section 3.2.3 asks.
  const names = Object.keys(value).sort();
  const parts = names.map((name) => {
    const inner = `${at}/${name}`;
    return `${text(name, inner)}:${write((value as Record<string, unknown>)[name], inner, depth + 1)}`;
  });
  return `{${parts.join(',')}}`;
}

function text(value: string, at: string): string {
  // JSON.stringify escapes exactly what RFC 8785 section 3.2.2.2 wants, but writes lone surrogates as escapes.
  if (LONE_SURROGATE.test(value)) throw fault('a lone surrogate', at);
  return JSON.stringify(value);
}

function fault(what: string, at: string): CodedError {
  return new CodedError('not-canonical', `no canonical form: ${what} at ${at === '' ? 'the top' : at}`);
}
