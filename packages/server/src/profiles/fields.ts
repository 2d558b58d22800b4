/**
 * Rules for the members of a JSON object: which there are, which must be there, what each may be. Answers places and
 * rules, never the value itself.
 */
import type { ErrorDetail } from '@tocsin/protocol/errors';

/** A member's rule: null when `value` keeps it, else the rule in words. */
export interface Field {
  readonly required: boolean;
  readonly check: (value: unknown) => string | null;
}

/** The members that an object may have. */
export type Fields = Readonly<Record<string, Field>>;

/** A member that must be there. */
export function required(check: Field['check']): Field {
  return { required: true, check };
}

/** A member that may be absent. */
export function optional(check: Field['check']): Field {
  return { required: false, check };
}

/** A finite number from `least` to `most`. */
export function numberWithin(least: number, most: number): Field['check'] {
  const rule =
    least === -Infinity && most === Infinity
      ? 'must be a finite number'
      : `must be a finite number ${most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`}`;
  return (value) =>
    typeof value === 'number' && Number.isFinite(value) && value >= least && value <= most ? null : rule;
}

/** A number from `least` to `most`, or null. */
export function numberOrNull(least: number, most: number): Field['check'] {
  const check = numberWithin(least, most);
  return (value) => {
    if (value === null) return null;
    const broken = check(value);
    return broken === null ? null : `${broken} or null`;
  };
}

/** Unix milliseconds: a whole number. Whether it is too far from now is decided elsewhere. */
export function time(value: unknown): string | null {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? null : 'must be Unix milliseconds, a whole number';
}

/** True or false. */
export function boolean(value: unknown): string | null {
  return typeof value === 'boolean' ? null : 'must be true or false';
}

/** An array of `least` to `most` finite numbers. */
export function numbers(least: number, most: number): Field['check'] {
  const rule = least === most ? `must be ${most} finite numbers` : `must be ${least} to ${most} finite numbers`;
  return (value) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) return rule;
    return value.every((item) => typeof item === 'number' && Number.isFinite(item)) ? null : rule;
  };
}

/** True when `value` is an object that is neither an array nor null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A name as a JSON pointer's part (RFC 6901 section 3), cut when it is long. */
function part(name: string): string {
  return name.slice(0, 64).replaceAll('~', '~0').replaceAll('/', '~1');
}

/** Checks `value` against `fields`; adds what is wrong to `errors`; true when nothing is. */
export function checkObject(
  value: unknown,
  fields: Fields,
  pointer: string,
  errors: ErrorDetail[],
): value is Record<string, unknown> {
  if (!isObject(value)) {
    errors.push({ pointer, detail: 'must be an object' });
    return false;
  }
  const before = errors.length;
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(fields, name))
      errors.push({ pointer: `${pointer}/${part(name)}`, detail: 'is not a known key' });
  }
  for (const [name, field] of Object.entries(fields)) {
    if (!Object.hasOwn(value, name)) {
      if (field.required) errors.push({ pointer: `${pointer}/${name}`, detail: 'is missing' });
      continue;
    }
    const broken = field.check(value[name]);
    if (broken !== null) errors.push({ pointer: `${pointer}/${name}`, detail: broken });
  }
  return errors.length === before;
}
